"""Does a claim of a paper show at this scale? The interval over training seeds decides, and may decide nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from cluster.config import Config
from cluster.errors import UserError
from eval.improvement import relative
from eval.seeds import LEAST, between_recipes
from eval.study.config import Claim, Study

Verdict = Literal["shows", "does not show", "the opposite shows", "cannot be judged"]


class Judged(Config):
    """A claim with the difference that was measured: mean over seeds and its 95 % interval (None: too few seeds)."""

    claim: Claim
    verdict: Verdict
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    unit: str


def judge(study: Study, summary: Mapping[str, Any]) -> list[Judged]:
    """All claims of a study."""
    return [_judged(claim, study, summary) for claim in study.claims]


def _judged(claim: Claim, study: Study, summary: Mapping[str, Any]) -> Judged:
    mine, theirs = (values(summary, study, arm, claim.metric) for arm in (claim.arm, claim.against))
    found = between_recipes(mine, theirs)
    bounds = (found.low, found.high) if found.n >= LEAST else (None, None)
    return Judged(
        claim=claim,
        verdict=verdict(claim.direction, *bounds),
        mean=found.mean if found.n else None,
        low=bounds[0],
        high=bounds[1],
        seeds=found.n,
        unit="% over the baseline" if claim.metric == "overall" else "",
    )


def verdict(direction: str, low: float | None, high: float | None) -> Verdict:
    """By where the interval lies; "same" can only be refuted, never shown, by an interval around zero."""
    if low is None or high is None:
        return "cannot be judged"
    if direction == "not_down":
        return "shows" if low >= 0 else "does not show" if high < 0 else "cannot be judged"
    if direction == "same":
        return "does not show" if low > 0 or high < 0 else "cannot be judged"
    if direction == "down":
        low, high = -high, -low
    if low > 0:
        return "shows"
    return "the opposite shows" if high < 0 else "cannot be judged"


def values(summary: Mapping[str, Any], study: Study, arm: str, metric: str) -> list[float]:
    """One number a seed; none of seeds that led to no model, or of which no task can be compared.

    Raises:
        UserError: the study measured nothing of this name.
    """
    runs = summary["seeds"]["recipes"].get(arm, ())  # none led to a model
    if metric == "overall":
        return [change for run in runs if (change := _overall(summary, study, run)) is not None]
    known = _measured(summary)
    if metric not in known:
        raise UserError(f"a claim is about {metric!r}, which was not measured; there are {', '.join(known)}")
    return [float(known[metric][run]["value"]) for run in runs]


def _measured(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Entries of all runs by task and by ``<set>.<measure>``."""
    tasks = {task["task"]: task["models"] for task in summary["tasks"]}
    forced = {
        f"{name}.{measure}": found["models"]
        for name, measures in summary["diagnostics"].items()
        for measure, found in measures.items()
    }
    return tasks | forced


def _overall(summary: Mapping[str, Any], study: Study, run: str) -> float | None:
    """Mean relative improvement of one run over the mean of the baseline's seeds, in percent, over all tasks whose
    baseline is not 0."""
    base = summary["seeds"]["recipes"][study.base]
    changes = []
    for task in summary["tasks"]:
        theirs = [task["models"][b]["value"] for b in base]
        change = relative(task["models"][run]["value"], sum(theirs) / len(theirs), higher=task["higher"])
        if math.isfinite(change):
            changes.append(change)
    return sum(changes) / len(changes) if changes else None
