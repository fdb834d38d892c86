"""Compare runs: values with their errors, paired differences, relative improvement by category.

Everything is in the units that papers print (percent, CIDEr times 100) and ready for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from eval.improvement import (
    OVERALL,
    REFCOCO,
    TABLE_METRIC,
    Average,
    Change,
    averages,
    category_of,
    mean,
    relative,
)
from eval.recipes import over_recipes
from eval.results import TaskScores
from eval.scorers.base import Array, Metric, Ratio
from eval.statistics import Difference, Estimate, estimate, holm, is_mean, paired, two_sided_p
from eval.tasks import TASKS

# The two sets of tasks that means are taken over, and what is left out of each.
VIEWS: Mapping[str, tuple[str, ...]] = {"all": (), "without_refcoco": REFCOCO}


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A number of a task without its samples, in printed units; ``se`` as reported, NaN where it was not.

    ``metrics`` are further ones by our names (MME's perception).
    """

    value: float
    se: float = math.nan
    n: int = 0
    rule: str = "reported"
    metrics: Mapping[str, float] = field(default_factory=dict)

    def get(self, key: str) -> float:
        """A metric; the number itself where it is not named apart."""
        return self.metrics.get(key, self.value)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model's scored tasks; ``info`` is what a reader wants to know of the run (uri, tokens …).

    ``reported`` are numbers of tasks whose samples are not there (of a paper, of another tool).
    """

    name: str
    revision: str
    tasks: Mapping[str, TaskScores]
    info: Mapping[str, Any]
    reported: Mapping[str, Reported] = field(default_factory=dict)

    def has(self, task: str) -> bool:
        """Whether there is any number of this task."""
        return task in self.tasks or task in self.reported


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
    changes = {r.name: _changes(r, base, shared if r in whole else []) for r in runs}
    views = {
        view: {r.name: averages(changes[r.name], without) for r in runs} for view, without in VIEWS.items()
    }
    return {
        "baseline": base.name,
        "models": [{"name": r.name, "revision": r.revision, **r.info} for r in runs],
        "tasks": tasks,
        "mean": {r.name: _mean(r, shared if r in whole else [], views["all"][r.name]) for r in runs},
        "averages": {view: _averages(found, base.name) for view, found in views.items()},
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
        numbers = {k: _number(v) for k, v in known.items()}
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
    return {"value": _number(value), **dict.fromkeys(("se", "se_independent", "low", "high"))}


def _resampled(task: str, key: str) -> bool:
    """CIDEr, whose idf is that of the whole task."""
    rule = TASKS[task].rule
    return rule.corpus and key == rule.primary


def _method(task: str, metric: Metric, *stats: Array) -> str:
    closed = is_mean(metric, *stats) and not _resampled(task, TASKS[task].rule.primary)
    return "clustered" if closed else "bootstrap"


def _scaled(value: Estimate | Difference, metric: Metric) -> dict[str, Any]:
    scaled = {"value", "se", "se_independent", "low", "high"}
    return {k: _number(v * metric.scale if k in scaled else v) for k, v in asdict(value).items()}


def _number(value: float) -> float | int | None:
    # JSON has no NaN, and a page must not print one.
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class _Pair:
    """The samples that two runs of a task share: row i of both is the same one."""

    mine: Array
    theirs: Array
    clusters: list[str]


def _pair(a: TaskScores, b: TaskScores) -> _Pair:
    at = {sample: i for i, sample in enumerate(b.ids)}
    both = [(i, at[sample]) for i, sample in enumerate(a.ids) if sample in at]
    left, right = [i for i, _ in both], [j for _, j in both]
    return _Pair(a.stats[left], b.stats[right], [a.clusters[i] for i in left])


def _difference(run: Run, base: Run, name: str, *, draws: int, seed: int) -> dict[str, Any]:
    """Paired on the samples that both have; ``n`` says how many these are. Of reported numbers the value alone."""
    rule = TASKS[name].rule
    metric = rule.metrics[rule.primary]
    change = _number(_change(run, base, name).value)
    if name not in run.tasks or name not in base.tasks:
        value = _value(run, name, rule.primary) - _value(base, name, rule.primary)
        nothing = dict.fromkeys(("se", "low", "high", "p"))
        empty = {"n": 0, "clusters": 0, "method": "reported", "relative": change}
        return {"value": _number(value), **nothing, **empty}
    pair = _pair(run.tasks[name], base.tasks[name])
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
            cell["p_holm"] = _number(p)


def _value(run: Run, name: str, key: str) -> float:
    """A metric of a run in printed units."""
    if name not in run.tasks:
        return run.reported[name].get(key)
    metric = TASKS[name].rule.metrics[key]
    stats = run.tasks[name].stats
    return float(metric.value(stats.sum(axis=0))) * metric.scale if len(stats) else math.nan


def _changes(run: Run, base: Run, tasks: Sequence[str]) -> dict[str, Change]:
    return {name: _change(run, base, name) for name in tasks}


def _change(run: Run, base: Run, name: str) -> Change:
    """Relative improvement of a task by the metric that Table 1 takes, on the samples that both have."""
    rule = TASKS[name].rule
    key = TABLE_METRIC.get(name, rule.primary)
    metric = rule.metrics[key]
    known = name in run.tasks and name in base.tasks
    if not known or not isinstance(metric.value, Ratio):
        mine, theirs = _value(run, name, key), _value(base, name, key)
        return Change(value=relative(mine, theirs, higher=metric.higher))
    pair = _pair(run.tasks[name], base.tasks[name])
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


def _averages(found: Mapping[str, Mapping[str, Average]], base: str) -> dict[str, Any]:
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
    p = None if se is None else _number(two_sided_p(change.value, se))
    return {"value": _number(change.value), "se": se, "p": p}


def _mean(run: Run, tasks: Sequence[str], improved: Mapping[str, Average]) -> dict[str, Any]:
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
        return Change(value=_value(run, name, rule.primary) * 100 / metric.scale)
    scores = run.tasks[name]
    value, parts = metric.value.residuals(scores.stats)
    return Change(value=100 * value, residual=_by_image(name, scores.clusters, 100 * parts))
