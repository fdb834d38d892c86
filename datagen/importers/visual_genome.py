"""Visual Genome: ``region_descriptions.json``, ``objects.json``, ``relationships.json``, ``attributes.json`` and
``image_data.json`` (any of them; the first two matter most) in one folder.

Pictures are named by their id and looked for as ``<id>.jpg``, ``VG_100K/<id>.jpg`` and ``VG_100K_2/<id>.jpg`` under the
root; the addresses in ``image_data.json`` are not used. ``facts`` holds the COCO id where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from datagen.importers.grouping import Buckets, digest
from datagen.importers.importer import Tick
from datagen.importers.json_stream import Element, iter_rows, read_chunks
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Annotations, Picture, Rectangle, number, sized_box, text, texts
from datagen.importers.rejects import BadRow, CorpusReject, printable
from datagen.importers.roots import Root, source_files
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

# File name without .json, and the key of its list.
TABLES = {
    "image_data": "",
    "region_descriptions": "regions",
    "objects": "objects",
    "attributes": "attributes",
    "relationships": "relationships",
}
PLACES = ("{}.jpg", "VG_100K/{}.jpg", "VG_100K_2/{}.jpg")


class VisualGenome:
    """See the module. Items of a work list: ``[table, row, picture id, value]``."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        found = [file for source in options.sources for file in source_files(source, (".json",))]
        known = [(uri, size) for uri, size in found if _table(uri) in TABLES]
        if not {_table(uri) for uri, _ in known} & {"region_descriptions", "objects"}:
            raise UserError(
                f"{', '.join(options.sources)}: neither region_descriptions.json nor objects.json. "
                "Give the folder of the unpacked annotations."
            )
        return known

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = [uri for uri, _ in self.files(options)]
        buckets = Buckets(folder / "elements")
        sample: dict[int, str] = {}
        for uri in files:
            for element in iter_rows(read_chunks(uri), uri):
                key, item = _item(_table(uri), element)
                buckets.add(key, json.dumps(item).encode())
                if item[0] != "bad":
                    sample.setdefault(key[0], item[2])
                if buckets.items % 1000 == 0:
                    tick(1000)
        _check_root(options, list(sample.values()))
        groups = 0
        for _, items in buckets.groups():
            if options.limit is not None and groups >= options.limit:
                break
            lists.add(b"[%b]" % b",".join(items))
            groups += 1
        listed = "image_data" in {_table(uri) for uri in files}
        extra = {"listed": listed}
        return Context(shards=lists.close(), rows=buckets.items, images=groups, extra=extra)

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        root = Root(options.images or "")
        for group in work:
            yield from _group(root, group, context.extra["listed"])

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        return iter(())


def _table(uri: str) -> str:
    return uri.rsplit("/", 1)[-1].removesuffix(".json")


def _item(table: str, element: Element) -> tuple[bytes, list[Any]]:
    value = element.value
    if element.reason or not isinstance(value, dict):
        reason, detail = element.reason or "malformed", element.detail or "a row is an object"
        return digest(f"bad {table} {element.number}"), [
            "bad",
            element.number,
            table,
            reason,
            printable(detail),
        ]
    name = value.get("image_id", value.get("id"))
    if isinstance(name, bool) or not isinstance(name, int) or name < 0:
        detail = printable(f"the id of the picture is {name!r}")
        return digest(f"bad {table} {element.number}"), ["bad", element.number, table, "malformed", detail]
    kept = {key: value.get(key) for key in ("width", "height", "coco_id")} if table == "image_data" else None
    return digest(str(name)), [table, element.number, str(name), kept or value.get(TABLES[table])]


def _group(root: Root, group: list[list[Any]], listed: bool) -> Iterator[Picture | CorpusReject]:
    """All that the files say about one picture."""
    tables: dict[str, list[Any]] = {}
    for item in group:
        table, row = item[:2]
        if table == "bad":
            where = f"{item[2]}.json row {row}"
            yield CorpusReject(image_id="", reason=item[3], detail=item[4], where=where)
        elif table in tables:
            where = f"{table}.json row {row}"
            yield CorpusReject(image_id=item[2], reason="duplicate_id", detail="listed before", where=where)
        else:
            tables[table] = item
    if not tables:
        return
    table, row, image_id = next(iter(tables.values()))[:3]
    where = f"{table}.json row {row}"
    try:
        if listed and "image_data" not in tables:
            raise BadRow("no_image", "annotations of a picture that image_data.json does not list")
        notes = read_annotations({name: item[3] for name, item in tables.items()})
    except BadRow as error:
        yield CorpusReject(image_id=image_id, reason=error.reason, detail=str(error), where=where)
    else:
        yield Picture(image_id=image_id, where=where, read=partial(_read, root, image_id), annotations=notes)


def read_annotations(tables: Mapping[str, Any]) -> Annotations:
    """What the tables say about one picture; relations whose ends are no listed objects are left out.

    Raises:
        BadRow: a table has another form.
    """
    data = tables.get("image_data") or {}
    adjectives: dict[Any, tuple[str, ...]] = {}
    for item in _rows(tables, "attributes"):
        adjectives[_id(item)] = texts(item.get("attributes"), "an attribute")
    objects: list[tuple[str, Rectangle, tuple[str, ...]]] = []
    places: dict[Any, int] = {}
    for item in _rows(tables, "objects"):
        names = texts(item.get("names", item.get("name")), "the name of an object")
        if not names:
            continue
        places[_id(item)] = len(objects)
        attributes = adjectives.get(_id(item), ()) or texts(item.get("attributes"), "an attribute")
        objects.append((names[0], _box(item, "w", "h"), attributes))
    regions = tuple(
        (text(item.get("phrase"), "the phrase of a region"), _box(item, "width", "height"))
        for item in _rows(tables, "region_descriptions")
    )
    relations = []
    for item in _rows(tables, "relationships"):
        ends = [places.get(_id(item.get(end))) for end in ("subject", "object")]
        if ends[0] is not None and ends[1] is not None:
            relations.append((ends[0], text(item.get("predicate"), "a predicate").lower(), ends[1]))
    size = None
    if data.get("width") and data.get("height"):
        size = (int(number(data["width"], "the width")), int(number(data["height"], "the height")))
    facts = {"coco_id": data["coco_id"]} if isinstance(data.get("coco_id"), int) else {}
    return Annotations(
        objects=tuple(objects), regions=regions, relations=tuple(relations), size=size, facts=facts
    )


def _rows(tables: Mapping[str, Any], table: str) -> list[Mapping[str, Any]]:
    value = tables.get(table) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRow("malformed", f"{table}.json: {TABLES[table]!r} is not a list of objects")
    return value


def _id(item: object) -> str:
    """An object's id as text, whatever a damaged file put there."""
    return str(item.get("object_id")) if isinstance(item, dict) else ""


def _box(item: Mapping[str, Any], width: str, height: str) -> Rectangle:
    return sized_box([item.get(key) for key in ("x", "y", width, height)], "a box")


def _read(root: Root, image_id: str) -> bytes:
    """The picture from the first of the places where it may be."""
    for place in PLACES:
        try:
            return root.read(place.format(image_id))
        except BadRow as error:
            if error.reason != "missing_file":
                raise
    raise BadRow("missing_file", f"{image_id}.jpg is not under {root.uri}, nor in its VG_100K or VG_100K_2")


def _check_root(options: ImportOptions, names: list[str]) -> None:
    """Raises UserError where none of the sampled pictures is there."""
    if options.images is None:
        raise UserError("give the folder of the pictures (VG_100K and VG_100K_2): --images ROOT")
    root = Root(options.images)
    if names and not any(root.exists(place.format(name)) for name in names for place in PLACES):
        raise UserError(
            f"none of {len(names)} pictures looked for is under {options.images} (such as VG_100K/{names[0]}.jpg). "
            "--images is the folder that holds VG_100K and VG_100K_2."
        )


IMPORTER = VisualGenome()
