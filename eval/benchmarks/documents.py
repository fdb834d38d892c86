"""Charts, documents and text in pictures: ChartQA, DocVQA, OCRBench.

* ChartQA: Parquet (type, question, answer, image), or test_human.json and test_augmented.json with png/.
* DocVQA: Parquet (questionId, question, answers, image), or val_v1.0.json with documents/.
* OCRBench: Parquet (dataset, question_type, question, answer, image), or OCRBench.json with OCRBench_Images/.
"""

from __future__ import annotations

from eval.benchmarks import cells
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.cells import Draft
from eval.benchmarks.sources import Row


def _chartqa(row: Row) -> list[Draft]:
    values = row.values
    kind = cells.optional(values, "type") or row.file.stem
    named = cells.optional(values, "imgname")
    names = (named, f"png/{named}", f"test/png/{named}") if named else ()
    return [
        Draft(
            id=f"{row.file.stem}:{row.number}",
            question=cells.text(values, "question", "query"),
            images=cells.pictures(values.get("image"), *names),
            golds=cells.answers(values, "answer", "label"),
            category="augmented" if "augmented" in kind else "human",
        )
    ]


def _docvqa(row: Row) -> list[Draft]:
    values = row.values
    image = values.get("image")
    names = (image.rsplit("/", 1)[-1],) if isinstance(image, str) else ()
    kinds = cells.texts(values.get("question_types"), "question_types")
    return [
        Draft(
            id=cells.text(values, "questionId"),
            question=cells.text(values, "question"),
            images=cells.pictures(image, *names),
            golds=cells.answers(values, "answers"),
            category=kinds[0] if kinds else "",
            meta={"question_types": list(kinds)},
        )
    ]


def _ocrbench(row: Row) -> list[Draft]:
    values = row.values
    path = cells.optional(values, "image_path")
    names = (path, f"OCRBench_Images/{path}") if path else ()
    return [
        Draft(
            id=cells.optional(values, "id") or f"{row.file.stem}:{row.number}",
            question=cells.text(values, "question"),
            images=cells.pictures(values.get("image"), *names),
            golds=cells.answers(values, "answer", "answers"),
            category=cells.text(values, "question_type", "type"),
            meta={"dataset": cells.optional(values, "dataset", "dataset_name")},
        )
    ]


CHARTQA = Benchmark(name="chartqa", read=_chartqa, split="test")
DOCVQA = Benchmark(name="docvqa", read=_docvqa, split="val")
OCRBENCH = Benchmark(name="ocrbench", read=_ocrbench, split="test")
