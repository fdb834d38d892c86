"""Captions: COCO 2017, COCO and Flickr30k after Karpathy's split, NoCaps, TextCaps, and CHAIR's pictures.

A picture's captions are the references of its one row. Layouts: Parquet with a list of captions; COCO's
captions_*.json (images and annotations); dataset_coco.json and dataset_flickr30k.json (sentences, split test);
TextCaps_*.json (one row a caption). CHAIR needs instances_val2014.json beside captions_val2014.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from datagen.importers.rejects import BadRow
from eval.benchmarks import cells
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.cells import Draft
from eval.benchmarks.sources import Row, Sources, all_rows, split_name
from eval.benchmarks.vqa import coco_names

CAPTIONS = (
    "answer",
    "caption",
    "captions",
    "annotations_captions",
    "reference_strs",
    "caption_str",
    "sentences",
)


def _by_image(sources: Sources) -> Iterator[Row]:
    """COCO's tables with the captions and object names of each picture put into its row; other rows as they are."""
    captions: dict[object, list[str]] = {}
    objects: dict[object, list[object]] = {}
    names: dict[object, object] = {}
    for row in all_rows(sources):
        image = cells.key(row.values.get("image_id"))
        if row.table == "annotations" and isinstance(row.values.get("caption"), str):
            captions.setdefault(image, []).append(row.values["caption"])
        elif row.table == "annotations" and "category_id" in row.values:
            objects.setdefault(image, []).append(cells.key(row.values["category_id"]))
        elif row.table == "categories":
            names[cells.key(row.values.get("id"))] = row.values.get("name")
    listed: set[object] = set()
    for row in all_rows(sources):
        if row.table in ("annotations", "categories", "licenses", "info"):
            continue
        if row.table == "images" and "sentences" not in row.values:
            image = cells.key(row.values.get("id"))
            if image in listed:
                continue  # the same picture, in the file of the objects
            listed.add(image)
            seen = sorted({str(names[c]) for c in objects.get(image, ()) if names.get(c) is not None})
            row = replace(row, values={**row.values, "captions": captions.get(image, []), "objects": seen})
        yield row


def _karpathy(sources: Sources) -> Iterator[Row]:
    """Karpathy's file holds all splits; only the wanted one is looked at."""
    for row in _by_image(sources):
        named = row.values.get("split")
        if "sentences" in row.values and isinstance(named, str) and split_name(named) != sources.split:
            continue
        yield row


def _pictures(row: Row) -> tuple[cells.ImageRef, ...]:
    values = row.values
    file = cells.optional(values, "file_name", "filename", "image_file_name")
    folder = cells.optional(values, "filepath")
    if not values.get("image") and not file:
        raise BadRow("no_image", "the row names no picture")
    names = (file, f"{folder}/{file}" if folder else file, f"{row.file.split}2017/{file}", f"images/{file}")
    coco = values.get("id") if row.table == "images" else None
    extra = coco_names(coco, row.file.split or "val") if isinstance(coco, int) else ()
    image = values.get("image")
    return cells.pictures(image if isinstance(image, dict | bytes | list) else None, *names, *extra)


def _caption(row: Row) -> list[Draft]:
    values = row.values
    return [
        Draft(
            id=cells.text(values, "image_id", "img_id", "cocoid", "question_id", "id", "imgid", "filename"),
            question="",
            images=_pictures(row),
            golds=cells.answers(values, *CAPTIONS),
            category=cells.optional(values, "image_domain", "domain"),
            objects=cells.texts(values.get("objects"), "objects") if row.table == "images" else (),
        )
    ]


def _textcaps_rows(sources: Sources) -> Iterator[Row]:
    """The official file has a row for each caption, all of them with all references: the first stands for all."""
    seen: set[object] = set()
    for row in all_rows(sources):
        image = cells.key(row.values.get("image_id")) if row.table == "data" else None
        if image is not None and image in seen:
            continue
        seen.add(image)
        yield row


def _textcaps(row: Row) -> list[Draft]:
    values = row.values
    name = cells.text(values, "image_id")
    names = tuple(f"{folder}{name}.jpg" for folder in ("", "train_images/", "test_images/"))
    return [
        Draft(
            id=name,
            question="",
            images=cells.pictures(values.get("image"), *names),
            golds=cells.answers(values, "reference_strs", "caption_str"),
        )
    ]


def _chair(row: Row) -> list[Draft]:
    drafts = _caption(row)
    if not drafts[0].objects:
        raise BadRow(
            "no_answer", "no objects of this picture: instances_val2014.json is missing, or lists none for it"
        )
    return drafts


COCO2017 = Benchmark(name="coco2017", read=_caption, rows=_by_image, split="val")
COCO_KARPATHY = Benchmark(name="coco_karpathy", read=_caption, rows=_karpathy, split="test")
FLICKR30K = Benchmark(name="flickr30k", read=_caption, rows=_karpathy, split="test")
NOCAPS = Benchmark(name="nocaps", read=_caption, rows=_by_image, split="val")
TEXTCAPS = Benchmark(name="textcaps", read=_textcaps, rows=_textcaps_rows, split="val")
CHAIR = Benchmark(name="chair", read=_chair, rows=_by_image, split="val")
