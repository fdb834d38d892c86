"""Our results in lmms-eval's layout, for tools that read its logs.

``<folder>/<model>/<date>_results.json`` and one ``<date>_samples_<task>.jsonl`` a task. Tasks and metrics have
lmms-eval's names where it has them (`eval.interop.lmms_tasks`), ours elsewhere; values are in its units. A document's
number is its place among the task's samples in the order of their ids; ``doc`` holds our own id of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.datasets import iter_tables, read_manifest
from cluster.errors import UserError
from eval.answers import unjudged
from eval.interop.lmms_tasks import BY_OURS
from eval.results import RESULT_SCHEMA, TaskScores, score_rows
from eval.scorers.base import Scored
from eval.statistics import estimate
from eval.tasks import TASKS, Task

_UNSAFE = re.compile(r"[^\w.+-]+")


def export_run(uri: str, folder: str, *, date: datetime | None = None, draws: int = 2000) -> list[Path]:
    """Write a run's files below ``folder``; their paths, the results file first.

    Args:
        date: in the names of the files; now by default.
        draws: of the bootstrap, for standard errors of what is no mean.

    Raises:
        UserError: ``uri`` holds no answers.
    """
    manifest = read_manifest(uri)
    if manifest.kind != "eval" or manifest.config.get("what") != "answers":
        raise UserError(f"{uri} holds no answers of an evaluation; give what `l2t eval run` printed")
    name, revision = next(iter(manifest.models.items()))
    rows = [row for table in iter_tables(uri, schema=RESULT_SCHEMA) for row in table.to_pylist()]
    by_id = {str(row["sample_id"]): row for row in rows}
    scored = score_rows(rows)
    for task in unjudged(list(scored), ""):
        del scored[task]  # its answers say nothing without their judge's verdicts
    stamp = (date or datetime.now(UTC)).strftime("%Y%m%d_%H%M%S")
    place = Path(folder) / _UNSAFE.sub("__", name)
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"{stamp}_results.json"]
    hashes = {}
    for task, scores in scored.items():
        lines = [_line(k, by_id[s], scores) for k, s in enumerate(scores.ids)]
        files.append(place / f"{stamp}_samples_{_name(task)}.jsonl")
        with files[-1].open("w", encoding="utf-8") as out:
            # ASCII alone: readers that split at U+2028 would cut an answer in two.
            out.writelines(json.dumps(line) + "\n" for line in lines)
        hashes[_name(task)] = _sha("".join(f"sample_{k}{line['doc_hash']}" for k, line in enumerate(lines)))
    results = _results(scored, draws) | {
        "config": {"model": "l2t", "model_args": f"model={name},revision={revision}", "source": uri},
        "git_hash": manifest.code_version,
        "date": stamp,
        "task_hashes": hashes,
        "model_source": "l2t",
        "model_name": name,
        "model_name_sanitized": place.name,
        "system_instruction": None,
    }
    files[0].write_text(json.dumps(results, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return files


def _name(task: str) -> str:
    return BY_OURS[task].name if task in BY_OURS else task


def _unit(task: str) -> float:
    """From our printed unit to lmms-eval's."""
    return 1 / BY_OURS[task].scale if task in BY_OURS else 0.01


def _line(number: int, row: Mapping[str, Any], scores: TaskScores) -> dict[str, Any]:
    task = scores.task
    golds = list(row["golds"] or ())
    doc = {
        "id": str(row["sample_id"]).removeprefix(f"{task.name}:"),
        "image_id": row["image_id"],
        "question": row["prompt"],
        "golds": golds,
        "options": list(row["options"] or ()),
        "category": row["category"] or "",
    }
    said = str(row["prediction"] or "")
    counts = {"input_tokens": row["tokens_prompt"], "output_tokens": row["tokens_completion"]}
    line = {
        "doc_id": number,
        "doc": doc,
        "target": str(golds[0] if len(golds) == 1 else golds),
        "input": row["prompt"],
        "resps": [[said]],
        "filtered_resps": [said.strip()],
        "token_counts": [counts],
        "doc_hash": _sha(json.dumps(doc, sort_keys=True)),
    }
    value = _own(scores, number)
    return line if math.isnan(value) else {**line, _metric(task): value}


def _own(scores: TaskScores, at: int) -> float:
    """The sample's own number; NaN where the rule needs the whole task."""
    rule = scores.task.rule
    if rule.corpus:
        return math.nan
    return float(rule.sample_scores(Scored([], scores.stats[at : at + 1]))[0])


def _metric(task: Task) -> str:
    return BY_OURS[task.name].metric if task.name in BY_OURS else task.rule.primary


def _results(scored: Mapping[str, TaskScores], draws: int) -> dict[str, Any]:
    """The tables that lmms-eval's results file has, by its task names."""
    names = {task: _name(task) for task in scored}
    return {
        "results": {names[task]: _numbers(scores, draws) for task, scores in scored.items()},
        "group_subtasks": {name: [] for name in names.values()},
        "configs": {
            names[task]: {"task": names[task], "metadata": {"rule": TASKS[task].version, "l2t_task": task}}
            for task in scored
        },
        "versions": {names[task]: TASKS[task].version for task in scored},
        "n-shot": {name: 0 for name in names.values()},
        "higher_is_better": {
            names[task]: {_metric(s.task): s.task.rule.metrics[s.task.rule.primary].higher}
            for task, s in scored.items()
        },
        "n-samples": {
            names[task]: {"original": len(scores.ids), "effective": len(scores.ids)}
            for task, scores in scored.items()
        },
    }


def _numbers(scores: TaskScores, draws: int) -> dict[str, Any]:
    """``metric,none`` and ``metric_stderr,none``; the error is ours, clustered by image."""
    task = scores.task
    rule, theirs = task.rule, BY_OURS.get(task.name)
    keys = {rule.primary: _metric(task)} if theirs is None or not theirs.parts else dict(theirs.parts)
    numbers: dict[str, Any] = {"alias": _name(task.name)}
    for ours, key in keys.items():
        metric = rule.metrics[ours]
        found = estimate(metric, scores.stats, scores.clusters, draws=draws)
        for label, value in ((key, found.value), (f"{key}_stderr", found.se)):
            scaled = value * metric.scale * _unit(task.name)
            numbers[f"{label},none"] = scaled if math.isfinite(scaled) else "N/A"
    return numbers


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
