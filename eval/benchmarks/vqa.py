"""Questions with ten annotators' answers: VQAv2, TextVQA, VizWiz.

* VQAv2: Parquet (question_id, image_id, question, answers, image), or the official pair of questions and annotations
  JSON with the pictures of COCO.
* TextVQA: Parquet, or TextVQA_*.json with train_images/.
* VizWiz: Parquet, or val.json with the pictures beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eval.benchmarks import cells
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.cells import Draft
from eval.benchmarks.sources import Row, Sources, all_rows


def coco_names(image_id: int, split: str) -> tuple[str, ...]:
    """Where COCO keeps a picture, by the folder a user may have given as root."""
    old, new = f"COCO_{split}2014_{image_id:012d}.jpg", f"{image_id:012d}.jpg"
    return old, f"{split}2014/{old}", f"{split}2014/{split}2014/{old}", new, f"{split}2017/{new}"


def _joined(sources: Sources) -> Iterator[Row]:
    """Questions with the annotations of the same question_id, whichever file comes first."""
    marks = {
        cells.key(row.values.get("question_id")): row.values
        for file in sources.files
        if file.name.lower().endswith(".json")
        for row in all_rows(replace(sources, files=(file,)))
        if row.table == "annotations"
    }
    for row in all_rows(sources):
        if row.table != "annotations":
            known = marks.get(cells.key(row.values.get("question_id")), {})
            yield replace(row, values={**known, **row.values})


def _vqav2(row: Row) -> list[Draft]:
    values = row.values
    image = values.get("image_id")
    names = coco_names(image, row.file.split or "val") if isinstance(image, int) else ()
    return [
        Draft(
            id=cells.text(values, "question_id"),
            question=cells.text(values, "question"),
            images=cells.pictures(values.get("image"), *names),
            golds=cells.answers(values, "answers"),
            category=cells.optional(values, "answer_type"),
            meta=cells.kept(values, "question_type"),
        )
    ]


def _textvqa(row: Row) -> list[Draft]:
    values = row.values
    image = cells.optional(values, "image_id")
    names = tuple(f"{folder}{image}.jpg" for folder in ("", "train_images/", "test_images/")) if image else ()
    return [
        Draft(
            id=cells.text(values, "question_id"),
            question=cells.text(values, "question"),
            images=cells.pictures(values.get("image"), *names),
            golds=cells.answers(values, "answers"),
        )
    ]


def _vizwiz(row: Row) -> list[Draft]:
    values = row.values
    image = values.get("image")
    names = (f"val/{image}", f"test/{image}") if isinstance(image, str) else ()
    return [
        Draft(
            id=cells.optional(values, "question_id") or cells.text(values, "image"),
            question=cells.text(values, "question"),
            images=cells.pictures(image, *names),
            golds=cells.answers(values, "answers"),
            category=cells.optional(values, "category", "answer_type"),
        )
    ]


VQAV2 = Benchmark(name="vqav2", read=_vqav2, rows=_joined, split="val")
TEXTVQA = Benchmark(name="textvqa", read=_textvqa, split="val")
VIZWIZ = Benchmark(name="vizwiz", read=_vizwiz, split="val")
