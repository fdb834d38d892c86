"""COCO: instances and captions JSON (``images``, ``annotations``, ``categories``), any number of files together.

Pictures are named by their COCO id. Boxes come from ``bbox`` (x, y, width, height); segmentations are left out; crowd
annotations carry the attribute ``crowd``. ``facts`` holds the file name.
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
from datagen.importers.json_stream import Element, iter_tables, read_chunks
from datagen.importers.llava import short_names
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Annotations, Picture, Rectangle, number, sized_box, text
from datagen.importers.rejects import BadRow, CorpusReject, printable
from datagen.importers.roots import Root, clean_name, source_files
from datagen.importers.row_lists import check_sample
from datagen.importers.work import Context, WorkLists
from datagen.records import Record


class Coco:
    """See the module. Items of a work list: ``[what, file, element number, …]`` of one picture."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        return [found for source in options.sources for found in source_files(source, (".json",))]

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = [uri for uri, _ in self.files(options)]
        buckets = Buckets(folder / "elements")
        categories: list[dict[str, str]] = [{} for _ in files]
        sample: dict[int, str] = {}
        images = 0
        for file, uri in enumerate(files):
            for element in iter_tables(read_chunks(uri), uri):
                if element.key == "categories":
                    categories[file].update(_category(element))
                elif element.key in ("images", "annotations"):
                    key, item = _item(file, element)
                    buckets.add(key, json.dumps(item).encode())
                    if item[0] == "image":
                        images += 1
                        sample.setdefault(key[0], item[3])
                    if buckets.items % 1000 == 0:
                        tick(1000)
        if not images:
            raise UserError(f"{', '.join(files)}: no images. COCO files have an array under 'images'.")
        check_sample(options, [name for name in sample.values() if isinstance(name, str)])
        groups = 0
        for _, items in buckets.groups():
            if options.limit is not None and groups >= options.limit:
                break
            lists.add(b"[%b]" % b",".join(items))
            groups += 1
        extra = {"files": short_names(files), "categories": categories}
        return Context(shards=lists.close(), rows=buckets.items, images=groups, extra=extra)

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        root = Root(options.images or "")
        for group in work:
            yield from _group(root, context, group)

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        return iter(())


def _category(element: Element) -> dict[str, str]:
    value = element.value
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return {}
    return {str(value.get("id")): printable(value["name"])}


def _item(file: int, element: Element) -> tuple[bytes, list[Any]]:
    """The digest of the picture that an element is about, and what is kept of it."""
    value = element.value
    if element.reason or not isinstance(value, dict):
        return _bad(file, element, element.reason or "malformed", element.detail or "not an object")
    name = value.get("id" if element.key == "images" else "image_id")
    if isinstance(name, bool) or not isinstance(name, int | str) or name == "":
        return _bad(file, element, "malformed", f"the id of the picture is {name!r}")
    key = digest(str(name))
    if element.key == "images":
        size = [value.get("width"), value.get("height")]
        return key, ["image", file, element.number, value.get("file_name"), size, printable(str(name))]
    if "caption" in value:
        return key, ["caption", file, element.number, value["caption"], printable(str(name))]
    box = [value.get("category_id"), value.get("bbox"), bool(value.get("iscrowd"))]
    return key, ["object", file, element.number, box, printable(str(name))]


def _bad(file: int, element: Element, reason: str, detail: str) -> tuple[bytes, list[Any]]:
    item = ["bad", file, element.number, reason, f"{element.key}: {printable(detail)}"]
    return digest(f"bad {file} {element.key} {element.number}"), item


def _group(root: Root, context: Context, group: list[list[Any]]) -> Iterator[Picture | CorpusReject]:
    """All that the files say about one picture."""
    files = context.extra["files"]
    entries: dict[int, list[Any]] = {}
    captions: list[str] = []
    objects: list[tuple[str, Rectangle, tuple[str, ...]]] = []
    spoken: list[Any] | None = None
    for item in group:
        what, file, element = item[:3]
        where = f"{files[file]} {'image' if what == 'image' else 'annotation'} {element}"
        try:
            if what == "bad":
                raise BadRow(item[3], item[4])
            if what == "image":
                if file in entries:
                    raise BadRow("duplicate_id", f"picture {item[5]} is listed twice in this file")
                entries[file] = item
                continue
            spoken = item
            if what == "caption":
                captions.append(text(item[3], "a caption"))
            else:
                objects.append(_object(item[3], context.extra["categories"][file]))
        except BadRow as error:
            name = "" if what == "bad" else item[-1]
            yield CorpusReject(image_id=name, reason=error.reason, detail=str(error), where=where)
    if entries:
        yield _picture(
            root, next(iter(entries.values())), files, tuple(filter(None, captions)), tuple(objects)
        )
    elif spoken is not None:
        where = f"{files[spoken[1]]} annotation {spoken[2]}"
        detail = f"{len(captions) + len(objects)} annotations of a picture that is not listed"
        yield CorpusReject(image_id=spoken[-1], reason="no_image", detail=detail, where=where)


def _picture(
    root: Root,
    entry: list[Any],
    files: list[str],
    captions: tuple[str, ...],
    objects: tuple[tuple[str, Rectangle, tuple[str, ...]], ...],
) -> Picture | CorpusReject:
    _, file, element, file_name, size, image_id = entry
    where = f"{files[file]} image {element}"
    try:
        path = clean_name(file_name)
        stated = (
            (int(number(size[0], "the width")), int(number(size[1], "the height"))) if all(size) else None
        )
    except BadRow as error:
        return CorpusReject(image_id=image_id, reason=error.reason, detail=str(error), where=where)
    notes = Annotations(captions=captions, objects=objects, size=stated, facts={"file_name": path})
    return Picture(image_id=image_id, where=where, read=partial(root.read, path), annotations=notes)


def _object(item: list[Any], categories: Mapping[str, str]) -> tuple[str, Rectangle, tuple[str, ...]]:
    category, box, crowd = item
    if str(category) not in categories:
        raise BadRow("malformed", f"category {category!r} is not in the file's list")
    if not isinstance(box, list):
        raise BadRow("malformed", "neither a caption nor a bbox")
    return categories[str(category)], sized_box(box, "the bbox"), ("crowd",) if crowd else ()


IMPORTER = Coco()
