"""MME: yes or no in the first four characters, and a score per sub-task that is summed.

A sub-task's score is 100 · acc + 100 · acc+, acc+ being the share of images whose questions are all right.
Perception sums ten sub-tasks (2000 at most), cognition four (800); ``score`` sums all that are there, so for
data of one part it is that part's. Rule: the lower-cased answer's first four characters, yes looked for first
("know" and "Not sure" are a no). The lmms variant differs where it hurts: periods and surrounding space go,
and a lone y or n counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from eval.scorers.base import Answer, Array, Scored, Scorer, all_right, fits, own_groups, ratio, shares

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
_PARTS = {"perception": frozenset(PERCEPTION), "cognition": frozenset(COGNITION)}
_COLUMNS = (
    "correct", "all_correct", "images", "score", "score_weight", "perception", "perception_weight",
    "cognition", "cognition_weight", "unparsed", "n",
)  # fmt: skip


def read_mme(text: str) -> str:
    """``yes``, ``no`` or ``other`` by the official rule."""
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def read_lmms(text: str) -> str:
    """``yes``, ``no`` or ``other`` as lmms-eval reads it."""
    text = text.lower().strip().replace(".", "")
    return {"y": "yes", "n": "no"}.get(text) or read_mme(text)


def _score(read: Callable[[str], str], answers: Sequence[Answer]) -> Scored:
    parsed = [read(a.prediction) for a in answers]
    right = [said != "other" and said == read_mme(a.gold) for a, said in zip(answers, parsed, strict=True)]
    images = own_groups(answers, lambda a: a.category)
    share, both = shares(images), all_right(images, right)
    tasks = [a.category for a in answers]
    question_weight = shares(tasks)
    in_task = Counter[str]()
    for task, part in zip(tasks, share, strict=True):
        in_task[task] += part
    image_weight = share / np.array([in_task[task] for task in tasks])
    points = np.asarray(right, dtype=np.float64) * question_weight + both * image_weight
    columns: dict[str, Sequence[float] | Array] = {
        "correct": np.asarray(right, dtype=np.float64),
        "all_correct": both * share,
        "images": share,
        "unparsed": [float(said == "other") for said in parsed],
        "n": np.ones(len(answers)),
    }
    for part, names in {"score": frozenset(tasks), **_PARTS}.items():
        inside = np.array([task in names for task in tasks])
        number = len(names & set(tasks))
        columns[part] = np.where(inside, points, 0.0)
        # The weights sum to 1, so the ratio below is the sum over sub-tasks and stays one on a subset.
        columns[f"{part}_weight"] = np.where(inside, question_weight / max(number, 1), 0.0)
    return Scored(parsed, fits(columns, _COLUMNS))


def _make(name: str, version: str, read: Callable[[str], str]) -> Scorer:
    metrics = {
        part: ratio(_COLUMNS, part, f"{part}_weight", share=False)
        for part in ("score", "perception", "cognition")
    }
    return Scorer(
        name=name,
        version=version,
        columns=_COLUMNS,
        score=lambda answers: _score(read, answers),
        metrics={
            **metrics,
            "accuracy": ratio(_COLUMNS, "correct", "n"),
            "accuracy_plus": ratio(_COLUMNS, "all_correct", "images"),
            "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
        },
        primary="score",
        each="accuracy",
    )


MME = _make("mme", "mme-official-1", read_mme)
MME_LMMS = _make("mme_lmms", "mme-lmms-1", read_lmms)
