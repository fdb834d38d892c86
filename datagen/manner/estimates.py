"""Before, after, and their difference, each with its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.manner.result import Change, Estimate
from datagen.manner.uncertainty import clustered_mean, interval, numbered, resampled

Sides = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """Draws of clusters of answers; equal for every statistic, so that differences are paired."""

    clusters: np.ndarray
    replicates: int
    seed: int

    def estimate(self, statistic: Callable[[np.ndarray], Sequence[float]]) -> list[Estimate]:
        """Each number of a statistic of the draws (float64 [n], ones for the sample itself) with its interval."""
        values = statistic(np.ones(len(self.clusters)))
        draws = resampled(statistic, self.clusters, replicates=self.replicates, seed=self.seed)
        return [
            with_interval(value, draws[:, i] if self._several else None) for i, value in enumerate(values)
        ]

    @property
    def _several(self) -> bool:
        """With a single cluster every draw is the sample, and its interval would be a lie."""
        return bool(self.clusters.max() > 0)

    def among(self, chosen: np.ndarray) -> Bootstrap:
        """The same over some of the answers ([n] bool)."""
        clusters = numbered([str(c) for c in self.clusters[chosen]])
        return Bootstrap(clusters=clusters, replicates=self.replicates, seed=self.seed)


def with_interval(value: float, draws: np.ndarray | None, se: float | None = None) -> Estimate:
    """An estimate from its replicates."""
    bounds = None if draws is None else interval(draws)
    return Estimate(value=float(value), se=se, low=bounds and bounds[0], high=bounds and bounds[1])


def mean_change(
    values: Sides, usable: np.ndarray, draws: Bootstrap, only: np.ndarray | None = None
) -> Change:
    """Means over answers of ``before``, ``after`` and ``own``.

    Args:
        values: each [n] float; ``own`` counts only where usable.
        only: [n] bool, the answers to take; all by default.
    """
    if only is not None:
        values = {side: array[only] for side, array in values.items()}
        usable, draws = usable[only], draws.among(only)
    return Change(
        before=_mean(values["before"], draws),
        after=_mean(values["after"], draws),
        difference=_mean(values["after"] - values["before"], draws),
        own=_mean(values["own"][usable], draws.among(usable)) if usable.any() else None,
    )


def _mean(values: np.ndarray, draws: Bootstrap) -> Estimate:
    value, se = clustered_mean(values, draws.clusters)
    bounds = draws.estimate(lambda drawn: [float(drawn @ values / drawn.sum())])[0]
    return Estimate(value=value, se=se, low=bounds.low, high=bounds.high)


def ratio_change(above: Sides, below: Sides, usable: np.ndarray, draws: Bootstrap) -> tuple[Change, Change]:
    """Sum over sum (nats over tokens), and its exponential (perplexity)."""

    def rates(drawn: np.ndarray) -> list[float]:
        before, after = (
            float(drawn @ above[side]) / float(drawn @ below[side]) for side in ("before", "after")
        )
        logs = [before, after, after - before]
        return [*logs, np.exp(before), np.exp(after), np.exp(after) - np.exp(before)]

    def own_rate(drawn: np.ndarray) -> list[float]:
        rate = float(drawn @ above["own"][usable]) / float(drawn @ below["own"][usable])
        return [rate, float(np.exp(rate))]

    found = draws.estimate(rates)
    own = draws.among(usable).estimate(own_rate) if usable.any() else [None, None]
    return (
        Change(before=found[0], after=found[1], difference=found[2], own=own[0]),
        Change(before=found[3], after=found[4], difference=found[5], own=own[1]),
    )
