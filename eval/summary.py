"""Compare runs: values with their errors, paired differences, relative improvement by category.

Everything is in the units that papers print (percent, CIDEr times 100) and ready for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eval.changes import averages_json, change_of, changes_of, mean_json, number
from eval.improvement import REFCOCO, TABLE_METRIC, averages, category_of
from eval.recipes import over_recipes
from eval.runs import Run, pair_of, value_of
from eval.scorers.base import Array, Metric
from eval.statistics import Difference, Estimate, estimate, holm, is_mean, paired
from eval.tasks import TASKS

# The two sets of tasks that means are taken over, and what is left out of each.
VIEWS: Mapping[str, tuple[str, ...]] = {"all": (), "without_refcoco": REFCOCO}


def compare(
    runs: Sequence[Run],
    baseline: str | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
    recipes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The comparison as JSON-ready data.

    Args:
        baseline: run that differences and relative means refer to; the first run by default.
        draws, seed: of the bootstrap.
        recipes: runs that are training seeds of one recipe, by its name.
    """
    if not runs:
        raise ValueError("nothing to compare")
    base = next((r for r in runs if r.name == baseline), runs[0])
    names = [t for t in TASKS if any(r.has(t) for r in runs)]
    tasks = [_task(name, runs, base, draws=draws, seed=seed) for name in names]
    _adjust(tasks)
    # A run of reported numbers may have few tasks; it must not take the others' means away.
    measured = [r for r in runs if r.tasks] or list(runs)
    shared = [n for n in names if base.has(n) and all(r.has(n) for r in measured)]
    whole = [r for r in runs if all(r.has(n) for n in shared)]
    changes = {r.name: changes_of(r, base, shared if r in whole else []) for r in runs}
    views = {
        view: {r.name: averages(changes[r.name], without) for r in runs} for view, without in VIEWS.items()
    }
    return {
        "baseline": base.name,
        "models": [{"name": r.name, "revision": r.revision, **r.info} for r in runs],
        "tasks": tasks,
        "mean": {r.name: mean_json(r, shared if r in whole else [], views["all"][r.name]) for r in runs},
        "averages": {view: averages_json(found, base.name) for view, found in views.items()},
        "seeds": over_recipes(tasks, recipes or {}, base.name),
    }


def _task(name: str, runs: Sequence[Run], base: Run, *, draws: int, seed: int) -> dict[str, Any]:
    task = TASKS[name]
    metric = task.rule.metrics[task.rule.primary]
    models = {r.name: _entry(r, name, draws=draws, seed=seed) for r in runs if r.has(name)}
    differences = {
        r.name: _difference(r, base, name, draws=draws, seed=seed)
        for r in runs
        if r is not base and r.has(name) and base.has(name)
    }
    return {
        "task": name,
        "title": task.title,
        "category": category_of(name),
        "rule": task.version,
        "metric": task.rule.primary,
        "higher": metric.higher,
        "share": metric.share,
        "scale": metric.scale,
        "chance": task.chance,
        "n": max(m["n"] for m in models.values()),
        "images": max(m["clusters"] for m in models.values()),
        "models": models,
        "differences": differences,
    }


def _entry(run: Run, name: str, *, draws: int, seed: int) -> dict[str, Any]:
    rule = TASKS[name].rule
    if name not in run.tasks:
        said = run.reported[name]
        low, high = said.value - 1.96 * said.se, said.value + 1.96 * said.se
        known = {"value": said.value, "se": said.se, "se_independent": said.se, "low": low, "high": high}
        numbers = {k: number(v) for k, v in known.items()}
        others = {TABLE_METRIC.get(name, rule.primary), *said.metrics} - {rule.primary}
        metrics = {rule.primary: numbers, **{k: {**numbers, **_alone(said.get(k))} for k in sorted(others)}}
        extra = {"method": said.rule, "metrics": metrics, "truncated": 0, "failed": 0}
        return {**numbers, "n": said.n, "clusters": said.n, **extra}
    scores = run.tasks[name]
    metrics = {}
    for key, metric in rule.metrics.items():
        # Side metrics (BLEU, F1) get fewer draws: their error is read to two digits at most.
        enough = draws if key == rule.primary else max(200, draws // 10)
        found = estimate(
            metric, scores.stats, scores.clusters, draws=enough, seed=seed, resample=_resampled(name, key)
        )
        metrics[key] = _scaled(found, metric)
    return {
        **metrics[rule.primary],
        "method": _method(name, rule.metrics[rule.primary], scores.stats),
        "metrics": metrics,
        "truncated": scores.truncated,
        "failed": scores.failed,
    }


def _alone(value: float) -> dict[str, Any]:
    return {"value": number(value), **dict.fromkeys(("se", "se_independent", "low", "high"))}


def _resampled(task: str, key: str) -> bool:
    """CIDEr, whose idf is that of the whole task."""
    rule = TASKS[task].rule
    return rule.corpus and key == rule.primary


def _method(task: str, metric: Metric, *stats: Array) -> str:
    closed = is_mean(metric, *stats) and not _resampled(task, TASKS[task].rule.primary)
    return "clustered" if closed else "bootstrap"


def _scaled(value: Estimate | Difference, metric: Metric) -> dict[str, Any]:
    scaled = {"value", "se", "se_independent", "low", "high"}
    return {k: number(v * metric.scale if k in scaled else v) for k, v in asdict(value).items()}


def _difference(run: Run, base: Run, name: str, *, draws: int, seed: int) -> dict[str, Any]:
    """Paired on the samples that both have; ``n`` says how many these are. Of reported numbers the value alone."""
    rule = TASKS[name].rule
    metric = rule.metrics[rule.primary]
    change = number(change_of(run, base, name).value)
    if name not in run.tasks or name not in base.tasks:
        value = value_of(run, name, rule.primary) - value_of(base, name, rule.primary)
        nothing = dict.fromkeys(("se", "low", "high", "p"))
        empty = {"n": 0, "clusters": 0, "method": "reported", "relative": change}
        return {"value": number(value), **nothing, **empty}
    pair = pair_of(run.tasks[name], base.tasks[name])
    found = paired(
        metric, pair.mine, pair.theirs, pair.clusters,
        draws=draws, seed=seed, resample=_resampled(name, rule.primary),
    )  # fmt: skip
    method = _method(name, metric, pair.mine, pair.theirs)
    return {**_scaled(found, metric), "method": method, "relative": change}


def _adjust(tasks: list[dict[str, Any]]) -> None:
    """Holm over tasks, for each model apart."""
    for model in dict.fromkeys(m for t in tasks for m in t["differences"]):
        cells = [t["differences"][model] for t in tasks if model in t["differences"]]
        adjusted = holm([math.nan if c["p"] is None else c["p"] for c in cells])
        for cell, p in zip(cells, adjusted, strict=True):
            cell["p_holm"] = number(p)
