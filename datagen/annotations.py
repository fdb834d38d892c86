"""Annotations as text for strong models, in ComVint's serialisation: phrases with boxes, one line per
region.
"""

from __future__ import annotations

from collections.abc import Mapping

from datagen.corpus import CorpusRow


def serialise(row: CorpusRow) -> str:
    """Captions, objects as ``name [x1, y1, x2, y2]``, regions as ``caption X: … Y: … Width: … Height: …``
    (the released Visual Genome form), relations and printed words (ours; ComVint leaves OCR out). Pixels.
    """
    lines: list[str] = []
    if row.captions:
        lines += ["Captions:", *row.captions]
    if row.objects:
        lines += ["Objects:", *(f"{' '.join((*o.attributes, o.name))} {list(o.box)}" for o in row.objects)]
    if row.regions:
        lines.append("Regions:")
        for region in row.regions:
            x1, y1, x2, y2 = region.box
            lines.append(f"{region.phrase} X: {x1} Y: {y1} Width: {x2 - x1} Height: {y2 - y1}")
    if row.relations:
        lines.append("Relations:")
        for relation in row.relations:
            names = [
                row.objects[i].name if i < len(row.objects) else "?"
                for i in (relation.subject, relation.object)
            ]
            lines.append(f"{names[0]} {relation.predicate} {names[1]}")
    if row.ocr:
        lines += ["Printed words:", ", ".join(row.ocr)]
    return "\n".join(lines)


def holds(needs: str, row: CorpusRow) -> bool:
    """Whether the annotations carry what a kind of question needs (see `datagen.prompts.Kind.needs`).

    ``captions:N``: N characters of captions together (ComVint keeps Flickr30k images from about 700).
    ``objects:N``: at least one object or region and at most N objects (ComVint removes images with more than about 7).

    Raises:
        ValueError: an unknown need.
    """
    what, _, value = needs.partition(":")
    names = {o.name for o in row.objects}
    match what:
        case "":
            return True
        case "ocr":
            return bool(row.ocr)
        case "object":
            return value in names
        case "no-object":
            return value not in names
        case "captions":
            return sum(map(len, row.captions)) >= int(value or 1)
        case "objects":
            return bool(row.objects or row.regions) and len(row.objects) <= int(value or 1_000_000)
    raise ValueError(f"unknown need {needs!r} of a kind")


def rarest(row: CorpusRow, frequencies: Mapping[str, int]) -> str:
    """The topic entity of an image: the object whose name stands in the fewest images of the corpus, so the one of
    highest inverse document frequency (ComVint, section 3); the first in the alphabet of several, "" of none.
    """
    names = {o.name for o in row.objects}
    return min(names, key=lambda name: (frequencies.get(name, 0), name), default="")
