"""Flickr30k Entities: ``Sentences/<id>.txt``, ``Annotations/<id>.xml`` and the pictures ``<id>.jpg``.

A sentence is ``[/EN#283585/people Two people] in a photo …``. It becomes the plain caption; ``facts`` holds, under
``captions_with_boxes``, the same sentence as ComVint serialises it (convert_flickr30k.py of its authors): each phrase
as ``phrase [x1, y1, x2, y2]``, the phrase alone where its entity has no box, the last box where it has several.
``objects`` holds every box once under the first phrase of its entity, with the entity's types as attributes (ours).
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.storage import join
from datagen.importers.importer import Tick
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Annotations, Picture, Rectangle, number, text
from datagen.importers.rejects import BadRow, CorpusReject
from datagen.importers.roots import Root, iter_files
from datagen.importers.row_lists import check_sample
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

ENTITY = re.compile(r"\[/EN#(?P<id>[^\s/\]]+)(?P<types>(?:/[^\s/\]]+)*)\s+(?P<phrase>[^\]]*)\]")
MAX_LINE = 10_000
MAX_FILE = 4 << 20
Boxes = dict[str, list[Rectangle]]


class Flickr30k:
    """See the module. A line of a work list is the id of one picture."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        if len(options.sources) != 1:
            raise UserError("give one folder: the one that holds Sentences and Annotations")
        folder = join(options.sources[0], "Sentences")
        found = [(join(folder, name), size) for name, size in iter_files(folder) if name.endswith(".txt")]
        if not found:
            raise UserError(
                f"{options.sources[0]}: no Sentences/*.txt. Give the folder of the Entities annotations."
            )
        return found

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = self.files(options)[: options.limit]
        names = [uri.rsplit("/", 1)[-1].removesuffix(".txt") for uri, _ in files]
        check_sample(options, [f"{name}.jpg" for name in names[:: max(1, len(names) // 100)]])
        for name in names:
            lists.add(json.dumps(name).encode())
        tick(len(names))
        return Context(shards=lists.close(), rows=len(names), images=len(names))

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        source, root = Root(options.sources[0]), Root(options.images or "")
        for name in work:
            where = f"Sentences/{name}.txt"
            try:
                sentences = _utf8(source.read(f"Sentences/{name}.txt", MAX_FILE), where)
                where = f"Annotations/{name}.xml"
                boxes, size = read_boxes(source.read(f"Annotations/{name}.xml", MAX_FILE))
                notes = read_annotations(sentences, boxes, size)
            except BadRow as error:
                yield CorpusReject(image_id=name, reason=error.reason, detail=str(error), where=where)
            else:
                read = partial(root.read, f"{name}.jpg")
                yield Picture(image_id=name, where=f"Sentences/{name}.txt", read=read, annotations=notes)

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        return iter(())


def read_annotations(sentences: str, boxes: Boxes, size: tuple[int, int] | None) -> Annotations:
    """What the sentences and boxes of one picture say.

    Raises:
        BadRow: a sentence holds an unfinished entity.
    """
    captions, serialised = [], []
    phrases: dict[str, tuple[str, tuple[str, ...]]] = {}
    for line in sentences.splitlines():
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise BadRow("malformed", f"a sentence of {len(line):,} characters")
        for entity in ENTITY.finditer(line):
            types = tuple(part for part in entity["types"].split("/") if part)
            phrases.setdefault(entity["id"], (entity["phrase"].strip(), types))
        captions.append(_tidy(ENTITY.sub(lambda entity: entity["phrase"], line)))
        serialised.append(_tidy(ENTITY.sub(lambda entity: _with_box(entity, boxes), line)))
        if "[/EN#" in captions[-1]:
            raise BadRow("malformed", f"an entity that is not closed: {captions[-1][:80]!r}")
    objects = tuple(
        (phrases[name][0], box, phrases[name][1])
        for name, found in boxes.items()
        if name in phrases
        for box in found
    )
    facts = {"captions_with_boxes": serialised}
    return Annotations(captions=tuple(captions), objects=objects, size=size, facts=facts)


def read_boxes(data: bytes) -> tuple[Boxes, tuple[int, int] | None]:
    """Boxes by entity, in the order of the file, and the (width, height) that it states.

    Raises:
        BadRow: not the XML of this data set. Document types are refused whole: an annotation needs none, and
            entities in them can be made to grow without bound.
    """
    if b"<!" in data and (b"<!DOCTYPE" in data or b"<!ENTITY" in data):
        raise BadRow("malformed", "a document type or entity in an annotation")
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadRow("malformed", f"not XML: {error}") from error
    boxes: Boxes = {}
    for item in tree.iter("object"):
        corners = item.find("bndbox")
        if corners is None:
            continue
        x1, y1, x2, y2 = (_pixel(corners.findtext(edge), edge) for edge in ("xmin", "ymin", "xmax", "ymax"))
        for name in item.findall("name"):
            boxes.setdefault((name.text or "").strip(), []).append((x1, y1, x2, y2))
    width, height = tree.findtext("size/width"), tree.findtext("size/height")
    size = (int(_pixel(width, "width")), int(_pixel(height, "height"))) if width and height else None
    return boxes, size


def _pixel(value: str | None, what: str) -> float:
    try:
        return number(float(value or ""), what)
    except ValueError as error:
        raise BadRow("malformed", f"{what} is {str(value)[:40]!r}, not a number") from error


def _with_box(entity: re.Match[str], boxes: Boxes) -> str:
    found = boxes.get(entity["id"])
    return f"{entity['phrase']} {[int(edge) for edge in found[-1]]}" if found else entity["phrase"]


def _tidy(sentence: str) -> str:
    return text(" ".join(sentence.split()), "a sentence")


def _utf8(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow("non_utf8", f"{where} is not UTF-8") from error


IMPORTER = Flickr30k()
