"""The task table: what is asked, how it is sampled, which rule scores it.

A task draws its samples from an instruction set (the starter's families: all rows of its kinds and formats about one
image) or from an imported benchmark (`eval.benchmarks`). "Lite" subsets take the rows with the smallest hash of their
id, so a subset never depends on order, and a larger limit contains the smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datagen.records import Record, Sampling
from eval.benchmarks.gold import GoldRow
from eval.benchmarks.subset import lite_order
from eval.benchmarks.table import PUBLIC
from eval.benchmarks.table import SUITES as PUBLIC_SUITES
from eval.benchmarks.task import Task
from eval.scorers.choice import letter

__all__ = ["STARTER", "SUITES", "TASKS", "Sample", "Task", "gold_row", "lite_order", "sample_of"]

_LONG = Sampling(max_tokens=96)

# The starter's families, each standing for a kind of public benchmark (title).
STARTER: tuple[Task, ...] = (
    Task(
        name="existence", kinds=("existence",), scorer="pope", chance=50.0, title="POPE-like: is there a …?"
    ),
    Task(name="count", kinds=("count",), scorer="stated", formats=("open",), title="VQA: how many …?"),
    Task(
        name="color",
        kinds=("color",),
        scorer="stated",
        formats=("open",),
        chance=12.5,
        title="VQA: what color …?",
    ),
    Task(
        name="shape",
        kinds=("shape",),
        scorer="stated",
        formats=("open",),
        chance=20.0,
        title="VQA: what shape …?",
    ),
    Task(name="relation", kinds=("relation",), scorer="pope", chance=50.0, title="VSR-like: is A left of B?"),
    Task(
        name="statement",
        kinds=("color", "shape", "count", "ocr", "chart"),
        scorer="pope",
        formats=("bool",),
        chance=50.0,
        title="Yes/no on colors, shapes, counts, words, bars",
    ),
    Task(
        name="ocr", kinds=("ocr",), scorer="stated", formats=("open",), title="TextVQA-like: words on a sign"
    ),
    Task(name="chart", kinds=("chart",), scorer="stated", formats=("open",), title="ChartQA-like: bars"),
    Task(
        name="choice",
        kinds=(),
        scorer="choice",
        formats=("choice",),
        chance=25.0,
        title="Multiple choice, 4 options",
    ),
    Task(name="grounding", kinds=("grounding",), scorer="grounding", title="RefCOCO-like: box of …"),
    Task(name="region", kinds=("region",), scorer="captions", title="RefCOCO-like: caption of a box"),
    Task(
        name="caption",
        kinds=("caption",),
        scorer="captions",
        references="captions",
        sampling=_LONG,
        title="COCO-like captions",
    ),
    Task(
        name="hallucination",
        kinds=("detail",),
        scorer="chair_starter",
        sampling=_LONG,
        title="CHAIR on detailed descriptions",
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (*STARTER, *PUBLIC)}
SUITES: dict[str, tuple[str, ...]] = {"starter": tuple(t.name for t in STARTER), **PUBLIC_SUITES}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question to one model about any number of images; all that scoring needs travels with it.

    ``box`` (x1, y1, x2, y2 in pixels) is drawn into the picture. ``group`` is "" where nothing is judged together.
    """

    id: str
    task: str
    image_ids: tuple[str, ...]
    question: str
    golds: tuple[str, ...]
    options: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    category: str = ""
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    box: tuple[float, ...] | None = None

    @property
    def image_id(self) -> str:
        """What samples cluster by: the (first) image; without one the group, or the sample alone."""
        return self.image_ids[0] if self.image_ids else self.group or self.id


def sample_of(task: Task, row: GoldRow, size: tuple[int, int] | None = None) -> Sample:
    """The sample that a task makes of a gold row; ``size`` is (width, height) of its picture in pixels."""
    box = row.meta.get("box")
    golds = row.golds
    if task.references == "box" and box and size:
        golds = (_shares(box, size),)
    return Sample(
        id=f"{task.name}:{row.id}",
        task=task.name,
        image_ids=row.image_ids,
        question=task.ask_about(row),
        golds=golds,
        options=row.options,
        objects=row.objects,
        category=row.category,
        group=row.group,
        meta=row.meta,
        box=tuple(box) if task.boxed and box else None,
    )


def _shares(box: tuple[float, ...], size: tuple[int, int]) -> str:
    """A box in pixels as shares of the picture's sides, as the models of the papers write it."""
    return str([round(min(1.0, max(0.0, edge / side)), 4) for edge, side in zip(box, size * 2, strict=True)])


def gold_row(task: Task, record: Record, *, captions: tuple[str, ...], objects: tuple[str, ...]) -> GoldRow:
    """A row of an instruction set, and what its image's annotations say, as a gold row."""
    golds: tuple[str, ...] = (record.answer,)
    if record.format == "choice" and record.answer_index is not None:
        golds = (letter(record.answer_index),)
    if task.references == "captions" and captions:
        golds = captions
    return GoldRow(
        id=record.id,
        question=record.question,
        image_ids=record.image_ids,
        golds=golds,
        options=record.options,
        answer_index=record.answer_index,
        objects=objects,
    )
