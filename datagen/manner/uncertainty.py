"""Errors of means over answers that are not independent: several belong to one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def clustered_mean(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float | None]:
    """Mean and its standard error with answers of a cluster taken as dependent (Liang-Zeger, with the factor
    G / (G - 1)); with one answer per cluster it is the usual standard error.

    Args:
        values: [n] float. clusters: [n] int, as `numbered` gives them.

    Returns:
        The error is None for fewer than two clusters.
    """
    mean = float(values.mean())
    sums = np.bincount(clusters, weights=values - mean)
    groups = len(np.unique(clusters))
    if groups < 2:
        return mean, None
    return mean, math.sqrt(groups / (groups - 1) * float(np.sum(sums**2))) / len(values)


def numbered(names: Sequence[str]) -> np.ndarray:
    """Clusters by number, int64 [n], from their names."""
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def resampled(
    statistic: Callable[[np.ndarray], Sequence[float]], clusters: np.ndarray, *, replicates: int, seed: int
) -> np.ndarray:
    """Bootstrap over clusters: ``statistic`` of how often each answer is drawn (float64 [n]), once per replicate.

    Every statistic sees the same draws for the same seed, so that differences are paired.

    Returns:
        float64 [replicates, len(statistic)].
    """
    rng = np.random.default_rng(seed)
    groups = int(clusters.max()) + 1
    draws = (
        np.bincount(rng.integers(groups, size=groups), minlength=groups)[clusters] for _ in range(replicates)
    )
    return np.array([statistic(drawn.astype(np.float64)) for drawn in draws])


def interval(replicates: np.ndarray) -> tuple[float, float] | None:
    """The middle 95 % of the replicates of one statistic; None where it was not defined in too many of them."""
    known = replicates[np.isfinite(replicates)]
    if len(known) < 0.9 * len(replicates):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)
