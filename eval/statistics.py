"""Error bars: standard errors clustered by image, paired differences, cluster bootstrap, Holm, Wilson, seeds.

Miller 2024 (arXiv 2411.00640): questions about one image are not independent, so squared errors are summed
per cluster; two models answer the same questions, so their difference is judged per question. Ratios of sums
(F1, CHAIR) get the same treatment after linearisation; anything else the paired cluster bootstrap. A
"cluster" is an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from eval.scorers.base import Array, Metric, Ratio

Z95 = NormalDist().inv_cdf(0.975)
# Student's t at 97.5 % for 1..30 degrees of freedom: seeds are few, and SciPy would be a dependency for one
# line.
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
_CHUNK = 64_000_000  # bytes of bootstrap weights held at once


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its error: ``se`` is clustered, ``se_independent`` ignores clusters; ``low``/``high``
    bound 95 %.
    """

    value: float
    se: float
    se_independent: float
    low: float
    high: float
    n: int
    clusters: int


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``a - b`` on the same samples with its clustered error and two-sided p of no difference."""

    value: float
    se: float
    low: float
    high: float
    p: float
    n: int
    clusters: int


def codes(clusters: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Cluster ids as 0..k-1 and k."""
    names, inverse = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return inverse.astype(np.int64), len(names)


def _sum_by(values: Array, code: NDArray[np.int64], k: int) -> Array:
    out = np.zeros((k, *values.shape[1:]))
    np.add.at(out, code, values)
    return out


_MEAN = Ratio(np.array([1.0, 0.0]), np.array([0.0, 1.0]))


def mean_estimate(values: Array, clusters: Sequence[str]) -> Estimate:
    """Mean of per-sample scores, shape (n,)."""
    return ratio_estimate(_MEAN, np.stack([values, np.ones_like(values)], axis=1), clusters)


def ratio_estimate(of: Ratio, stats: Array, clusters: Sequence[str]) -> Estimate:
    """A ratio of sums over (n, columns) statistics; SE² = sum over clusters of (sum of residuals)².

    Where the lower sum counts samples this is Miller's clustered standard error of the mean.
    """
    code, k = codes(clusters)
    value, residual = of.residuals(stats)
    if math.isnan(value):
        return _nothing(len(stats), k)
    se = math.sqrt(float((_sum_by(residual, code, k) ** 2).sum()))
    return Estimate(
        value=value,
        se=se,
        se_independent=math.sqrt(float((residual**2).sum())),
        low=value - Z95 * se,
        high=value + Z95 * se,
        n=len(stats),
        clusters=k,
    )


def _nothing(n: int, k: int) -> Estimate:
    nan = math.nan
    return Estimate(value=nan, se=nan, se_independent=nan, low=nan, high=nan, n=n, clusters=k)


def estimate(
    metric: Metric, stats: Array, clusters: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> Estimate:
    """Any metric of (n, columns) statistics: closed form for ratios, cluster bootstrap otherwise."""
    if isinstance(metric.value, Ratio):
        found = ratio_estimate(metric.value, stats, clusters)
        return _bounded(found) if metric.share else found
    if len(stats) == 0:
        return _nothing(0, 0)
    code, k = codes(clusters)
    drawn = bootstrap(metric.value, _sum_by(stats, code, k), draws=draws, seed=seed)
    alone = bootstrap(metric.value, stats, draws=min(draws, 1000), seed=seed)
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Estimate(
        value=float(metric.value(stats.sum(axis=0))),
        se=float(np.nanstd(drawn, ddof=1)),
        se_independent=float(np.nanstd(alone, ddof=1)),
        low=float(low),
        high=float(high),
        n=len(stats),
        clusters=k,
    )


def _bounded(found: Estimate) -> Estimate:
    """Keep a share's interval in [0, 1]. Where every answer is right (or wrong) the error is not 0 but
    unseen: then Wilson's interval over clusters says what could be."""
    if found.se == 0 and found.value in (0.0, 1.0):
        _, low, high = wilson(round(found.value * found.clusters), found.clusters)
        return replace(found, low=low, high=high)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def bootstrap(value: Callable[[Array], Array], sums: Array, *, draws: int, seed: int) -> Array:
    """``value`` of resampled rows of ``sums`` (clusters, columns): shape (draws,).

    A draw is a multinomial weight per cluster, so all draws are one matrix product; chunks bound the memory.
    """
    rng = np.random.default_rng(seed)
    k = len(sums)
    step = max(1, _CHUNK // (8 * k))
    parts = []
    for start in range(0, draws, step):
        weights = rng.multinomial(k, np.full(k, 1.0 / k), size=min(step, draws - start)).astype(np.float64)
        parts.append(value(weights @ sums))
    return np.concatenate(parts)


def paired(
    metric: Metric, a: Array, b: Array, clusters: Sequence[str], *, draws: int = 10_000, seed: int = 0
) -> Difference:
    """``metric(a) - metric(b)``: row i of both is the same sample; every resample draws the same images
    for both.
    """
    if a.shape != b.shape or len(a) != len(clusters):
        raise ValueError(f"paired statistics differ in shape: {a.shape}, {b.shape}, {len(clusters)} clusters")
    if isinstance(metric.value, Ratio):
        return paired_ratio(metric.value, a, b, clusters)
    code, k = codes(clusters)
    width = a.shape[1]

    def difference(both: Array) -> Array:
        return np.asarray(metric.value(both[..., :width]) - metric.value(both[..., width:]))

    both = np.concatenate([a, b], axis=1)
    value = float(difference(both.sum(axis=0)))
    drawn = bootstrap(difference, _sum_by(both, code, k), draws=draws, seed=seed)
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (math.nan, math.nan)
    # Twice the smaller tail, counting the observed data set as one draw, so that p is never 0.
    tail = min((1 + (drawn <= 0).sum()), (1 + (drawn >= 0).sum())) / (len(drawn) + 1)
    return Difference(
        value=value,
        se=float(drawn.std(ddof=1)) if len(drawn) > 1 else math.nan,
        low=float(low),
        high=float(high),
        p=float(min(1.0, 2 * tail)),
        n=len(a),
        clusters=k,
    )


def paired_ratio(of: Ratio, a: Array, b: Array, clusters: Sequence[str]) -> Difference:
    """Difference of a ratio between two models; the residuals of a sample are subtracted before clusters."""
    code, k = codes(clusters)
    (mine, residual_a), (theirs, residual_b) = of.residuals(a), of.residuals(b)
    value = mine - theirs
    if math.isnan(value):
        return Difference(value=value, se=value, low=value, high=value, p=value, n=len(a), clusters=k)
    se = math.sqrt(float((_sum_by(residual_a - residual_b, code, k) ** 2).sum()))
    low, high = value - Z95 * se, value + Z95 * se
    return Difference(value=value, se=se, low=low, high=high, p=two_sided_p(value, se), n=len(a), clusters=k)


def paired_mean(a: Array, b: Array, clusters: Sequence[str]) -> Difference:
    """Mean of ``a - b``, per-sample values of shape (n,)."""
    ones = np.ones_like(a)
    return paired_ratio(_MEAN, np.stack([a, ones], axis=1), np.stack([b, ones], axis=1), clusters)


def two_sided_p(value: float, se: float) -> float:
    """Normal two-sided p; 1 where the value is 0, 0 where it is not and the error is."""
    if se == 0:
        return 1.0 if value == 0 else 0.0
    return math.erfc(abs(value) / se / math.sqrt(2))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p, in the order given; NaN stays NaN and does not count as a test."""
    tested = sorted((v, i) for i, v in enumerate(p) if not math.isnan(v))
    out = [math.nan] * len(p)
    floor = 0.0
    for rank, (value, index) in enumerate(tested):
        floor = max(floor, min(1.0, value * (len(tested) - rank)))
        out[index] = floor
    return out


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """(share, low, high): Wilson's 95 % interval of a proportion; NaN for n = 0."""
    if n == 0:
        return math.nan, math.nan, math.nan
    share, z2 = hits / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return share, max(0.0, centre - half), min(1.0, centre + half)


def seeds_estimate(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) over training seeds by Student's t; never pooled with the error over questions."""
    n = len(values)
    mean = sum(values) / n if n else math.nan
    if n < 2:
        return mean, math.nan, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = (_T975[n - 2] if n - 1 <= len(_T975) else Z95) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half
