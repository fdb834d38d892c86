"""Relative changes of runs with their errors, and means over tasks of them and of plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.improvement import OVERALL, TABLE_METRIC, Average, Change, mean, relative
from eval.runs import Run, pair_of, value_of
from eval.scorers.base import Array, Ratio
from eval.statistics import two_sided_p
from eval.tasks import TASKS


def number(value: float) -> float | int | None:
    """The value, None where it is not finite."""
    # JSON has no NaN, and a page must not print one.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def changes_of(run: Run, base: Run, tasks: Sequence[str]) -> dict[str, Change]:
    """By task."""
    return {name: change_of(run, base, name) for name in tasks}


def change_of(run: Run, base: Run, name: str) -> Change:
    """Relative improvement of a task by the metric that Table 1 takes, on the samples that both have."""
    rule = TASKS[name].rule
    key = TABLE_METRIC.get(name, rule.primary)
    metric = rule.metrics[key]
    known = name in run.tasks and name in base.tasks
    if not known or not isinstance(metric.value, Ratio):
        mine, theirs = value_of(run, name, key), value_of(base, name, key)
        return Change(value=relative(mine, theirs, higher=metric.higher))
    pair = pair_of(run.tasks[name], base.tasks[name])
    mine, my_part = metric.value.residuals(pair.mine)
    theirs, their_part = metric.value.residuals(pair.theirs)
    value = relative(mine, theirs, higher=metric.higher)
    if math.isnan(value):
        return Change(value=value)
    sign = 100.0 if metric.higher else -100.0
    parts = sign * (my_part / abs(theirs) - their_part * mine / (theirs * abs(theirs)))
    return Change(value=value, residual=_by_image(name, pair.clusters, parts))


def _by_image(task: str, clusters: Sequence[str], parts: Array) -> dict[str, float]:
    """Sums of parts by image; "1.jpg" of one benchmark is not that of another."""
    place, found = TASKS[task].benchmark, dict[str, float]()
    for image, part in zip(clusters, parts, strict=True):
        key = f"{place}|{image}"
        found[key] = found.get(key, 0.0) + float(part)
    return found


def averages_json(found: Mapping[str, Mapping[str, Average]], base: str) -> dict[str, Any]:
    """By category: the tasks, and each model's mean improvement over the base."""
    blocks = dict.fromkeys(name for each in found.values() for name in each)
    order = [*(b for b in blocks if b != OVERALL), *(b for b in blocks if b == OVERALL)]
    return {
        block: {
            "tasks": list(next(each[block].tasks for each in found.values() if block in each)),
            "models": {
                model: _with_error(each[block].change)
                for model, each in found.items()
                if block in each and model != base
            },
        }
        for block in order
    }


def _with_error(change: Change) -> dict[str, Any]:
    se = change.se
    p = None if se is None else number(two_sided_p(change.value, se))
    return {"value": number(change.value), "se": se, "p": p}


def mean_json(run: Run, tasks: Sequence[str], improved: Mapping[str, Average]) -> dict[str, Any]:
    """Unweighted means over tasks that all measured runs have: of values that are shares, and of the improvement."""
    values = [_share(run, name) for name in tasks if _is_share(name)]
    known = [v for v in values if math.isfinite(v.value)]
    overall = improved.get(OVERALL)
    nothing = {"value": None, "se": None, "p": None}
    return {
        "value": _with_error(mean(known)) if known else nothing,
        "relative": _with_error(overall.change) if overall else nothing,
        "tasks": len(known),
        "relative_tasks": len(overall.tasks) if overall else 0,
    }


def _is_share(name: str) -> bool:
    metric = TASKS[name].rule.metrics[TASKS[name].rule.primary]
    return metric.share and metric.higher


def _share(run: Run, name: str) -> Change:
    """The first metric in percent, whatever scale it is printed on (OCRBench: of 1000)."""
    rule = TASKS[name].rule
    metric = rule.metrics[rule.primary]
    if name not in run.tasks or not isinstance(metric.value, Ratio):
        return Change(value=value_of(run, name, rule.primary) * 100 / metric.scale)
    scores = run.tasks[name]
    value, parts = metric.value.residuals(scores.stats)
    return Change(value=100 * value, residual=_by_image(name, scores.clusters, 100 * parts))
