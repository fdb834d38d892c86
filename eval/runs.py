"""What is compared: runs with scored samples, and numbers that were only reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eval.results import TaskScores
from eval.scorers.base import Array
from eval.tasks import TASKS


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


@dataclass(frozen=True)
class Pair:
    """The samples that two runs of a task share: row i of both is the same one."""

    mine: Array
    theirs: Array
    clusters: list[str]


def pair_of(a: TaskScores, b: TaskScores) -> Pair:
    """By the ids of samples."""
    at = {sample: i for i, sample in enumerate(b.ids)}
    both = [(i, at[sample]) for i, sample in enumerate(a.ids) if sample in at]
    left, right = [i for i, _ in both], [j for _, j in both]
    return Pair(a.stats[left], b.stats[right], [a.clusters[i] for i in left])


def value_of(run: Run, name: str, key: str) -> float:
    """A metric of a run in printed units."""
    if name not in run.tasks:
        return run.reported[name].get(key)
    metric = TASKS[name].rule.metrics[key]
    stats = run.tasks[name].stats
    return float(metric.value(stats.sum(axis=0))) * metric.scale if len(stats) else math.nan
