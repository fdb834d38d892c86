"""A picture as its source describes it, checked and turned into a corpus row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from datagen.corpus import BadImage, Box, CorpusRow, ImageFacts, Region, Relation, inspect_image, sha256
from datagen.importers.rejects import BadRow

Rectangle = tuple[float, float, float, float]
MAX_TEXT = 100_000
# Facts beyond this many characters of JSON are not carried along with every picture.
MAX_FACTS = 200_000


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What a source says about a picture; boxes are (x1, y1, x2, y2) in pixels, not yet rounded or clipped.

    ``size`` is the (width, height) that the boxes refer to, where the source states it. ``objects`` are (name, box,
    attributes), ``regions`` (phrase, box), ``relations`` (subject, predicate, object) by index into ``objects``.
    """

    captions: tuple[str, ...] = ()
    objects: tuple[tuple[str, Rectangle, tuple[str, ...]], ...] = ()
    regions: tuple[tuple[str, Rectangle], ...] = ()
    relations: tuple[tuple[int, str, int], ...] = ()
    ocr: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a source: its id, where it is spoken of, how to get its bytes, what is said about it."""

    image_id: str
    where: str
    read: Callable[[], bytes]
    annotations: Annotations = Annotations()


def corpus_row(picture: Picture, data: bytes, source: str, max_pixels: int) -> CorpusRow:
    """The corpus row of a picture; its bytes are kept as they are.

    Boxes are clipped to the picture; those with no area left are dropped and counted in ``facts``.

    Raises:
        BadRow: the bytes are no picture, or a text cannot be stored.
    """
    try:
        seen = inspect_image(data, max_pixels=max_pixels)
    except BadImage as error:
        raise BadRow(error.reason, str(error)) from error
    notes = picture.annotations
    objects: list[Box] = []
    places: dict[int, int] = {}
    for number, (name, box, attributes) in enumerate(notes.objects):
        if fitted := fit_box(box, seen, notes.size):
            places[number] = len(objects)
            objects.append(Box(name=name, box=fitted, attributes=attributes))
    regions = [
        Region(phrase=phrase, box=fitted)
        for phrase, box in notes.regions
        if (fitted := fit_box(box, seen, notes.size))
    ]
    relations = [
        Relation(subject=places[subject], predicate=predicate, object=places[other])
        for subject, predicate, other in notes.relations
        if subject in places and other in places
    ]
    dropped = len(notes.objects) - len(objects) + len(notes.regions) - len(regions)
    return CorpusRow(
        image_id=picture.image_id,
        image=data,
        width=seen.width,
        height=seen.height,
        sha256=sha256(data),
        captions=notes.captions,
        objects=tuple(objects),
        regions=tuple(regions),
        relations=tuple(relations),
        ocr=notes.ocr,
        source=source,
        facts=_facts({**notes.facts, **({"boxes_dropped": dropped} if dropped else {})}),
    )


def fit_box(
    box: Rectangle, seen: ImageFacts, size: tuple[int, int] | None
) -> tuple[int, int, int, int] | None:
    """A box in whole pixels of the upright picture, None where nothing of it lies inside.

    Boxes refer to the picture as a person sees it, except where the source states a size that is that of the stored
    file and not of the upright one: then they are turned with it (ours; EXIF leaves square pictures open).
    """
    x1, y1, x2, y2 = box
    stored = (seen.stored_width, seen.stored_height)
    if size == stored and size != (seen.width, seen.height):
        x1, y1, x2, y2 = _turn(box, seen)
    left, top = max(0, round(x1)), max(0, round(y1))
    right, bottom = min(seen.width, round(x2)), min(seen.height, round(y2))
    return (left, top, right, bottom) if left < right and top < bottom else None


def _turn(box: Rectangle, seen: ImageFacts) -> Rectangle:
    """A box of the stored file in the upright picture, for the orientations that swap the sides."""
    x1, y1, x2, y2 = box
    width, height = seen.stored_width, seen.stored_height
    match seen.orientation:
        case 5:  # mirrored at the main diagonal
            return y1, x1, y2, x2
        case 6:  # a quarter turn clockwise
            return height - y2, x1, height - y1, x2
        case 7:  # mirrored at the other diagonal
            return height - y2, width - x2, height - y1, width - x1
        case 8:  # a quarter turn counterclockwise
            return y1, width - x2, y2, width - x1
    return box


def text(value: object, what: str) -> str:
    """A text of a row, spaces at its ends taken off.

    Raises:
        BadRow: no text, not storable as UTF-8, or longer than MAX_TEXT.
    """
    if not isinstance(value, str):
        raise BadRow("malformed", f"{what} is {type(value).__name__}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadRow("non_utf8", f"{what} is not UTF-8") from error
    if len(value) > MAX_TEXT:
        raise BadRow("malformed", f"{what} has {len(value):,} characters, the limit is {MAX_TEXT:,}")
    return value.strip()


def texts(value: object, what: str) -> tuple[str, ...]:
    """One text or a list of them; empty ones are left out. Raises BadRow as `text` does."""
    if value is None:
        return ()
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(found for item in items if (found := text(item, what)))


def numbers(value: object, count: int, what: str) -> tuple[float, ...]:
    """``count`` finite numbers.

    Raises:
        BadRow: anything else.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != count:
        raise BadRow("malformed", f"{what} is not {count} numbers")
    found = [number(item, what) for item in value]
    return tuple(found)


def number(value: object, what: str) -> float:
    """A finite number of a size that pixels have.

    Raises:
        BadRow: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow("malformed", f"{what} is {type(value).__name__}, not a number")
    if abs(value) > 1e9 or not math.isfinite(value):
        raise BadRow("malformed", f"{what} is out of range")
    return float(value)


def corner_box(value: object, what: str) -> Rectangle:
    """[x1, y1, x2, y2]. Raises BadRow."""
    x1, y1, x2, y2 = numbers(value, 4, what)
    return x1, y1, x2, y2


def sized_box(values: Iterable[object], what: str) -> Rectangle:
    """x, y, width, height as corners. Raises BadRow."""
    x, y, width, height = numbers(list(values), 4, what)
    return x, y, x + width, y + height


def _facts(facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    written = json.dumps(facts, ensure_ascii=True, sort_keys=True, default=str)
    return written if len(written) <= MAX_FACTS else json.dumps({"facts_dropped": len(written)})
