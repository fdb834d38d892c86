"""The per-sample result row (dataset kind ``eval``) and the way from rows to scored tasks.

A row keeps prediction, golds and everything the rule needs, so a run can be scored again under another rule
without asking the model again. ``score`` is the primary metric of the sample alone; null where the rule needs
the whole task.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from datagen.records import Sampling
from eval.scorers import Answer
from eval.scorers.base import Array
from eval.tasks import TASKS, Task

RESULT_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("key", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("task", pa.string()),
        ("image_id", pa.string()),
        ("prompt", pa.string()),
        ("prompt_sha", pa.string()),
        ("rule_version", pa.string()),
        ("prediction", pa.string()),
        ("parsed", pa.string()),
        ("golds", pa.list_(pa.string())),
        ("options", pa.list_(pa.string())),
        ("objects", pa.list_(pa.string())),
        ("category", pa.string()),
        ("group", pa.string()),
        ("meta", pa.string()),  # JSON
        ("score", pa.float64()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("finish_reason", pa.string()),
        ("tokens_prompt", pa.int32()),
        ("tokens_cached", pa.int32()),
        ("tokens_completion", pa.int32()),
    ],
    metadata={"l2t.schema": "eval_result", "l2t.schema_version": "2"},
)


def sample_key(revision: str, prompt: str, image_sha: str, sampling: Sampling) -> str:
    """Names one generation for ever: weights, text, image content and sampling; 20 hex digits."""
    parts = [revision, prompt, image_sha, repr(sampling)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """One task of one run: row i of ``stats`` is sample ``ids[i]`` about image ``clusters[i]``.

    A rule whose groups span images names larger clusters (`Scorer.cluster`).
    """

    task: Task
    ids: list[str]
    clusters: list[str]
    stats: Array
    truncated: int
    failed: int


def answer_of(row: dict[str, object]) -> Answer:
    """A stored row as what the scorers take."""
    return Answer(
        # As every harness does before scoring: many models begin an answer with a space.
        prediction=str(row["prediction"] or "").strip(),
        golds=tuple(row["golds"] or ()),  # type: ignore[arg-type]
        options=tuple(row["options"] or ()),  # type: ignore[arg-type]
        objects=tuple(row["objects"] or ()),  # type: ignore[arg-type]
        # Most tasks judge the questions of an image together; others name their groups.
        group=str(row.get("group") or row["image_id"]),
        category=str(row.get("category") or ""),
        meta=meta_of(row),
    )


def meta_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a rule needs besides, as it is stored in a row."""
    return dict(json.loads(row.get("meta") or "{}"))


def score_tasks(tables: Iterable[pa.Table]) -> dict[str, TaskScores]:
    """All tasks of a run, scored from its rows in the order of sample ids (so runs line up)."""
    return score_rows([row for table in tables for row in table.to_pylist()])


def score_rows(rows: Sequence[dict[str, object]]) -> dict[str, TaskScores]:
    """The same, of rows that are read already."""
    groups: dict[str, list[dict[str, object]]] = {}
    for row in sorted(rows, key=lambda r: str(r["sample_id"])):
        groups.setdefault(str(row["task"]), []).append(row)
    return {name: _score(TASKS[name], group) for name, group in groups.items() if name in TASKS}


def _score(task: Task, rows: list[dict[str, object]]) -> TaskScores:
    answers = [answer_of(r) for r in rows]
    cluster = task.rule.cluster or (lambda _: "")
    return TaskScores(
        task=task,
        ids=[str(r["sample_id"]) for r in rows],
        clusters=[cluster(a) or str(r["image_id"]) for a, r in zip(answers, rows, strict=True)],
        stats=task.rule.score(answers).stats,
        truncated=sum(r["finish_reason"] == "length" for r in rows),
        failed=sum(r["state"] == "failed" for r in rows),
    )


def shard_scores(task: Task, answers: list[Answer]) -> tuple[list[str], list[float | None]]:
    """(parsed, score) of some answers of a task; scores are None where the rule says nothing of one sample."""
    scored = task.rule.score(answers)
    if task.rule.corpus and task.rule.each is None:
        return scored.parsed, [None] * len(answers)
    return scored.parsed, [None if math.isnan(v) else float(v) for v in task.rule.sample_scores(scored)]
