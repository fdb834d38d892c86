"""Compare runs: values with clustered errors, paired differences, and means over tasks.

The mean relative improvement is the paper's Table 1 average (per task, unweighted). Its error here follows
the delta method over images that all tasks share, which is *ours*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eval.results import TaskScores
from eval.scorers.base import Metric, Ratio
from eval.statistics import Difference, Estimate, estimate, holm, paired, two_sided_p
from eval.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model's scored tasks; ``info`` is what a reader wants to know of the run (uri, tokens …)."""

    name: str
    revision: str
    tasks: Mapping[str, TaskScores]
    info: Mapping[str, Any]


def compare(
    runs: Sequence[Run], baseline: str | None = None, *, draws: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """The comparison as JSON-ready data; all values in the units that papers print (percent, CIDEr times
    100).

    Args:
        baseline: run that differences and relative means refer to; the first run by default.
    """
    if not runs:
        raise ValueError("nothing to compare")
    base = next((r for r in runs if r.name == baseline), runs[0])
    names = [t for t in TASKS if any(t in r.tasks for r in runs)]
    tasks = [_task(name, runs, base, draws=draws, seed=seed) for name in names]
    _adjust(tasks)
    shared = [n for n in names if all(n in r.tasks for r in runs)]
    return {
        "baseline": base.name,
        "models": [{"name": r.name, "revision": r.revision, **r.info} for r in runs],
        "tasks": tasks,
        "mean": {r.name: _mean(r, base, shared) for r in runs},
    }


def _task(name: str, runs: Sequence[Run], base: Run, *, draws: int, seed: int) -> dict[str, Any]:
    have = [r for r in runs if name in r.tasks]
    task = have[0].tasks[name].task
    metric = task.rule.metrics[task.rule.primary]
    models: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for run in have:
        scores = run.tasks[name]
        metrics = {
            # Bootstrapped side metrics (BLEU) get fewer draws: their error is read to two digits at most.
            key: _scaled(
                estimate(m, scores.stats, scores.clusters, draws=max(200, draws // 10), seed=seed), m
            )
            if m is not metric
            else _scaled(estimate(m, scores.stats, scores.clusters, draws=draws, seed=seed), m)
            for key, m in task.rule.metrics.items()
        }
        models[run.name] = {
            **metrics[task.rule.primary],
            "metrics": metrics,
            "truncated": scores.truncated,
            "failed": scores.failed,
        }
        if run is not base and name in base.tasks:
            differences[run.name] = _difference(scores, base.tasks[name], metric, draws=draws, seed=seed)
    return {
        "task": name,
        "title": task.title,
        "rule": task.version,
        "metric": task.rule.primary,
        "higher": metric.higher,
        "share": metric.share,
        "chance": task.chance,
        "n": max(m["n"] for m in models.values()),
        "images": max(m["clusters"] for m in models.values()),
        "models": models,
        "differences": differences,
    }


def _scaled(value: Estimate | Difference, metric: Metric) -> dict[str, Any]:
    scaled = {"value", "se", "se_independent", "low", "high"}
    return {k: _number(v * metric.scale if k in scaled else v) for k, v in asdict(value).items()}


def _number(value: float) -> float | int | None:
    # JSON has no NaN, and a page must not print one.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _difference(a: TaskScores, b: TaskScores, metric: Metric, *, draws: int, seed: int) -> dict[str, Any]:
    """Paired on the samples that both have; ``n`` says how many these are."""
    at = {sample: i for i, sample in enumerate(b.ids)}
    both = [(i, at[sample]) for i, sample in enumerate(a.ids) if sample in at]
    left, right = [i for i, _ in both], [j for _, j in both]
    clusters = [a.clusters[i] for i in left]
    return _scaled(paired(metric, a.stats[left], b.stats[right], clusters, draws=draws, seed=seed), metric)


def _adjust(tasks: list[dict[str, Any]]) -> None:
    """Holm over tasks, for each model apart."""
    for model in dict.fromkeys(m for t in tasks for m in t["differences"]):
        cells = [t["differences"][model] for t in tasks if model in t["differences"]]
        adjusted = holm([math.nan if c["p"] is None else c["p"] for c in cells])
        for cell, p in zip(cells, adjusted, strict=True):
            cell["p_holm"] = _number(p)


def _mean(run: Run, base: Run, tasks: Sequence[str]) -> dict[str, Any]:
    """Unweighted means over tasks: of the values, and of the improvement relative to the base (both in
    percent).
    """
    values, relative, counted = [], [], 0
    value_residual: dict[str, float] = {}
    relative_residual: dict[str, float] = {}
    for name in tasks:
        metric = run.tasks[name].task.rule.metrics[run.tasks[name].task.rule.primary]
        if not isinstance(metric.value, Ratio):
            continue
        mine, mine_residual = _residuals(run.tasks[name], metric.value)
        theirs, their_residual = _residuals(base.tasks[name], metric.value)
        if math.isnan(mine) or math.isnan(theirs):
            continue
        sign = 1.0 if metric.higher else -1.0
        if metric.higher and metric.share:
            values.append(mine * metric.scale)
            _add(value_residual, mine_residual, metric.scale)
        if theirs != 0:
            counted += 1
            relative.append(sign * 100 * (mine / theirs - 1))
            _add(relative_residual, mine_residual, sign * 100 / theirs)
            _add(relative_residual, their_residual, -sign * 100 * mine / theirs**2)
    mean = _mean_of(values, value_residual)
    change = _mean_of(relative, relative_residual)
    if run is base:
        change["p"] = None
    return {"value": mean, "relative": change, "tasks": len(values), "relative_tasks": counted}


def _mean_of(values: list[float], residual: Mapping[str, float]) -> dict[str, Any]:
    if not values:
        return {"value": None, "se": None, "p": None}
    mean = sum(values) / len(values)
    se = math.sqrt(sum(r * r for r in residual.values())) / len(values)
    return {"value": mean, "se": se, "p": two_sided_p(mean, se)}


def _residuals(scores: TaskScores, of: Ratio) -> tuple[float, dict[str, float]]:
    """The value and each image's share in its error."""
    value, residual = of.residuals(scores.stats)
    by_image: dict[str, float] = {}
    for image, share in zip(scores.clusters, residual, strict=True):
        by_image[image] = by_image.get(image, 0.0) + float(share)
    return value, by_image


def _add(into: dict[str, float], residual: Mapping[str, float], factor: float) -> None:
    for image, value in residual.items():
        into[image] = into.get(image, 0.0) + factor * value


def show(summary: Mapping[str, Any]) -> str:
    """The comparison as a terminal table: value ± clustered SE, ``*`` where Holm-adjusted p < 0.05 against
    the base.
    """
    names = [m["name"] for m in summary["models"]]
    header = ["task", "metric", "n", *names]
    body = []
    for task in summary["tasks"]:
        arrow = "" if task["higher"] else " ↓"
        cells = [_cell(task, name) for name in names]
        body.append([task["task"], task["metric"] + arrow, str(task["n"]), *cells])
    mean, relative = [], []
    for name in names:
        entry = summary["mean"][name]
        mean.append(_plus_minus(entry["value"]))
        relative.append(
            "baseline" if name == summary["baseline"] else _plus_minus(entry["relative"], sign=True) + " %"
        )
    foot = [["mean of shares", "", "", *mean], ["mean relative", f"vs {summary['baseline']}", "", *relative]]
    widths = [max(len(row[i]) for row in [header, *body, *foot]) for i in range(len(header))]
    rule = "  ".join("-" * w for w in widths)

    def line(row: list[str]) -> str:
        return "  ".join(
            c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )

    parts = [line(header), rule, *map(line, body), rule, *map(line, foot)]
    note = "value ± standard error clustered by image; * differs from the base, Holm-adjusted p < 0.05"
    return "\n".join([*(p.rstrip() for p in parts), note])


def _cell(task: Mapping[str, Any], name: str) -> str:
    if name not in task["models"]:
        return "-"
    p = task["differences"].get(name, {}).get("p_holm")
    star = "*" if p is not None and p < 0.05 else " "
    return _plus_minus(task["models"][name]) + star


def _plus_minus(entry: Mapping[str, Any], *, sign: bool = False) -> str:
    if entry["value"] is None:
        return "-"
    value = f"{entry['value']:+.1f}" if sign else f"{entry['value']:.1f}"
    return f"{value} ± {entry['se']:.1f}" if entry["se"] is not None else value
