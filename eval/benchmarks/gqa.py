"""GQA: Parquet of instructions beside Parquet of pictures (id, image), or the official JSON by question id with
images/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from eval.benchmarks import cells
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.cells import Draft
from eval.benchmarks.sources import Row, Sources, all_rows


def _joined(sources: Sources) -> Iterator[Row]:
    """Questions with the picture of their imageId; those of the balanced test-dev split, 398 in number, fit memory."""
    held = {
        cells.key(row.values.get("id")): row.values.get("image")
        for row in all_rows(sources)
        if "question" not in row.values and row.values.get("image") is not None
    }
    for row in all_rows(sources):
        if "question" in row.values or row.bad is not None:
            image = held.get(cells.key(row.values.get("imageId")))
            yield row if image is None else replace(row, values={**row.values, "image": image})


def _read(row: Row) -> list[Draft]:
    values = row.values
    name = cells.text(values, "imageId")
    return [
        Draft(
            id=cells.text(values, "id", "key"),
            question=cells.text(values, "question"),
            images=cells.pictures(values.get("image"), f"{name}.jpg", f"images/{name}.jpg"),
            golds=cells.answers(values, "answer"),
            meta=cells.kept(values, "fullAnswer"),
        )
    ]


GQA = Benchmark(name="gqa", read=_read, rows=_joined, split="testdev")
