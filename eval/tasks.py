"""The task table: what is asked, how it is sampled, which rule scores it. Tasks are data.

A task draws its samples from an instruction data set: all rows of its kinds and formats whose first exchange
    has an image. "Lite" subsets take the rows with the smallest hash of their id, so a subset never depends
    on order, and a larger limit contains the smaller.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from datagen.records import Format, Record, Sampling
from eval.scorers import SCORERS, Scorer
from eval.scorers.choice import letter

References = Literal["answer", "captions"]
_WORDS = Sampling(max_tokens=24)
_LONG = Sampling(max_tokens=96)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One benchmark.

    Attributes:
        kinds, formats: the instruction rows it draws; an empty tuple means any.
        scorer: name of the rule in ``eval.scorers``.
        references: the row's own answer, or all captions of its image.
        prompt: what the model reads; ``{question}`` is the row's first user turn.
        sampling: greedy unless a protocol says otherwise.
        chance: the primary metric of an uninformed guesser, None where there is no such number.
    """

    name: str
    kinds: tuple[str, ...]
    scorer: str
    formats: tuple[Format, ...] = ()
    references: References = "answer"
    prompt: str = "{question}"
    sampling: Sampling = _WORDS
    chance: float | None = None
    title: str = ""

    @property
    def rule(self) -> Scorer:
        """The scorer."""
        return SCORERS[self.scorer]

    @property
    def version(self) -> str:
        """Rule version that is stored with every sample."""
        return self.rule.version

    def draws(self, kind: str, form: str, has_image: bool) -> bool:
        """Whether an instruction row belongs to this task."""
        fits = (not self.kinds or kind in self.kinds) and (not self.formats or form in self.formats)
        return fits and has_image


# The starter's families, each standing for a kind of public benchmark (title).
STARTER: tuple[Task, ...] = (
    Task(
        name="existence", kinds=("existence",), scorer="pope", chance=50.0, title="POPE-like: is there a …?"
    ),
    Task(name="count", kinds=("count",), scorer="exact", formats=("open",), title="VQA: how many …?"),
    Task(
        name="color",
        kinds=("color",),
        scorer="exact",
        formats=("open",),
        chance=12.5,
        title="VQA: what color …?",
    ),
    Task(
        name="shape",
        kinds=("shape",),
        scorer="exact",
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
        name="ocr", kinds=("ocr",), scorer="exact", formats=("open",), title="TextVQA-like: words on a sign"
    ),
    Task(name="chart", kinds=("chart",), scorer="exact", formats=("open",), title="ChartQA-like: bars"),
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

TASKS: dict[str, Task] = {task.name: task for task in STARTER}
SUITES: dict[str, tuple[str, ...]] = {"starter": tuple(t.name for t in STARTER)}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question to one model about one image; all that scoring needs travels with it."""

    id: str
    task: str
    image_id: str
    question: str
    golds: tuple[str, ...]
    options: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


def sample_of(task: Task, record: Record, *, captions: tuple[str, ...], objects: tuple[str, ...]) -> Sample:
    """The sample a task makes of a gold record and its image's annotations."""
    golds: tuple[str, ...] = (record.answer,)
    if record.format == "choice" and record.answer_index is not None:
        golds = (letter(record.answer_index),)
    if task.references == "captions" and captions:
        golds = captions
    return Sample(
        id=f"{task.name}:{record.id}",
        task=task.name,
        image_id=record.image_ids[0],
        question=task.prompt.format(question=record.question),
        golds=golds,
        options=record.options,
        objects=objects,
    )


def lite_order(record_id: str) -> str:
    """Sort key of the seeded subset rule."""
    return hashlib.sha256(f"lite-1:{record_id}".encode()).hexdigest()
