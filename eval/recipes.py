"""Training seeds in a comparison: runs of one recipe as one line, with an interval over its seeds.

Beside the error over questions, never mixed with it; see `eval.seeds`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.errors import UserError, did_you_mean
from eval.improvement import REFCOCO, TABLE_METRIC, Change, averages, relative
from eval.seeds import LEAST, Seeds, between_recipes, over_seeds


def from_texts(texts: Sequence[str]) -> dict[str, list[str]]:
    """Recipes as a command line gives them: ``name=run,run,run``. Raises UserError."""
    recipes: dict[str, list[str]] = {}
    for text in texts:
        name, equals, runs = text.partition("=")
        seeds = [run.strip() for run in runs.split(",") if run.strip()]
        if not (name and equals and seeds):
            raise UserError(f"--seeds {text}: write RECIPE=RUN,RUN,RUN with the names of compared models")
        if name in recipes:
            raise UserError(f"--seeds {text}: recipe {name!r} is given twice")
        recipes[name] = seeds
    return recipes


def check(recipes: Mapping[str, Sequence[str]], runs: Sequence[str]) -> None:
    """Every seed is a run, and of one recipe only. Raises UserError."""
    taken: dict[str, str] = {}
    for recipe, seeds in recipes.items():
        for run in seeds:
            if run not in runs:
                raise UserError(f"recipe {recipe}: there is no run {run!r}{did_you_mean(run, runs)}")
            if run in taken:
                raise UserError(f"run {run!r} is named twice, in recipes {taken[run]} and {recipe}")
            taken[run] = recipe


def over_recipes(
    tasks: Sequence[Mapping[str, Any]], recipes: Mapping[str, Sequence[str]], baseline: str
) -> dict[str, Any] | None:
    """JSON-ready means over seeds by task, differences to the baseline's recipe, and improvement by category.

    Args:
        tasks: of a comparison, with every run's value.
        recipes: runs by recipe; the first recipe is the base where none holds the baseline.
    """
    if not recipes:
        return None
    base = next((r for r, runs in recipes.items() if baseline in runs), next(iter(recipes)))
    first = {task["task"]: str(task["metric"]) for task in tasks}
    shown = _complete(tasks, recipes, first)
    complete = _complete(tasks, recipes, {**first, **TABLE_METRIC})
    higher = {task["task"]: bool(task["higher"]) for task in tasks}
    return {
        "base": base,
        "recipes": {recipe: list(runs) for recipe, runs in recipes.items()},
        "tasks": {task: _task(found, base) for task, found in shown.items()},
        "averages": {
            view: {r: _averages(complete, higher, r, base, without) for r in recipes if r != base}
            for view, without in (("all", ()), ("without_refcoco", REFCOCO))
        },
    }


def _complete(
    tasks: Sequence[Mapping[str, Any]], recipes: Mapping[str, Sequence[str]], metrics: Mapping[str, str]
) -> dict[str, dict[str, list[float]]]:
    """Values by task, recipe and seed; tasks that a run has no value of are left out."""
    found = {
        task["task"]: {
            recipe: [_value(task, run, metrics[task["task"]]) for run in runs]
            for recipe, runs in recipes.items()
        }
        for task in tasks
    }
    return {
        task: each
        for task, each in found.items()
        if all(math.isfinite(value) for values in each.values() for value in values)
    }


def _value(task: Mapping[str, Any], run: str, metric: str) -> float:
    entry = task["models"].get(run, {}).get("metrics", {}).get(metric, {})
    return math.nan if entry.get("value") is None else float(entry["value"])


def _task(found: Mapping[str, Sequence[float]], base: str) -> dict[str, Any]:
    return {
        "recipes": {r: {**_json(over_seeds(v)), "values": list(v)} for r, v in found.items()},
        "differences": {r: _json(between_recipes(v, found[base])) for r, v in found.items() if r != base},
    }


def _averages(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    higher: Mapping[str, bool],
    recipe: str,
    base: str,
    without: Sequence[str],
) -> dict[str, Any]:
    """Improvement by category of the recipe's mean over the base's mean, with its interval over seeds."""
    means = {t: (_mean(v[recipe]), _mean(v[base])) for t, v in values.items()}
    changes = {t: Change(value=relative(*means[t], higher=higher[t])) for t in values}
    blocks = averages(changes, without)
    return {
        name: _interval(
            block.change.value, *_seed_parts(values, means, higher, recipe, base, block.tasks)
        )
        for name, block in blocks.items()
    }  # fmt: skip


def _seed_parts(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    means: Mapping[str, tuple[float, float]],
    higher: Mapping[str, bool],
    recipe: str,
    base: str,
    tasks: Sequence[str],
) -> tuple[list[float], list[float]]:
    """What each seed of the recipe, and each of the base, moves the mean improvement by (linearised)."""

    def moved(which: str, slope: Mapping[str, float]) -> list[float]:
        count = len(values[tasks[0]][which])
        return [sum(slope[t] * values[t][which][i] for t in tasks) / len(tasks) for i in range(count)]

    sign = {t: 100.0 if higher[t] else -100.0 for t in tasks}
    mine = {t: sign[t] / abs(means[t][1]) for t in tasks}
    theirs = {t: sign[t] * means[t][0] / (means[t][1] * abs(means[t][1])) for t in tasks}
    return moved(recipe, mine), moved(base, theirs)


def _interval(value: float, mine: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Both recipes' seeds where both have enough; else the recipe's own, and ``base_seeds`` says so."""
    found = between_recipes(mine, theirs) if len(theirs) >= LEAST else over_seeds(mine)
    half = found.high - found.mean
    return {
        **_json(Seeds(mean=value, low=value - half, high=value + half, sd=found.sd, n=len(mine))),
        "base_seeds": len(theirs),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _json(seeds: Seeds) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(seeds).items()}
