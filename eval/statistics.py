"""Error bars: standard errors clustered by image, paired differences, cluster bootstrap, Holm, Wilson.

Miller 2024 (arXiv 2411.00640): questions about one image are not independent, so squared errors are summed
per cluster; two models answer the same questions, so their difference is judged per question. A plain mean
has this error in closed form; what is no mean over samples (F1, CHAIR, MME's sum, CIDEr with the idf of the
whole task, BLEU) gets the paired cluster bootstrap. A "cluster" is an image.
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


def is_mean(metric: Metric, *stats: Array) -> bool:
    """Whether the metric is a plain mean over these samples: the lower sum of its ratio weighs all the same."""
    if not isinstance(metric.value, Ratio):
        return False
    below = [part @ metric.value.bottom for part in stats]
    return all(len(part) == 0 or (part[0] > 0 and bool(np.all(part == part[0]))) for part in below)


def estimate(
    metric: Metric,
    stats: Array,
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
    resample: bool = False,
) -> Estimate:
    """Any metric of (n, columns) statistics: closed form for means, cluster bootstrap otherwise.

    Args:
        resample: bootstrap a mean as well (CIDEr: scores of captions have a long tail).
    """
    if is_mean(metric, stats) and not resample:
        assert isinstance(metric.value, Ratio)
        found = ratio_estimate(metric.value, stats, clusters)
        return _bounded(found) if metric.share else found
    code, k = codes(clusters)
    value = float(metric.value(stats.sum(axis=0))) if len(stats) else math.nan
    if math.isnan(value):
        return _nothing(len(stats), k)
    drawn = _finite(bootstrap(metric.value, _sum_by(stats, code, k), draws=draws, seed=seed))
    alone = _finite(bootstrap(metric.value, stats, draws=min(draws, 1000), seed=seed))
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (math.nan, math.nan)
    found = Estimate(
        value=value,
        se=_deviation(drawn),
        se_independent=_deviation(alone),
        low=float(low),
        high=float(high),
        n=len(stats),
        clusters=k,
    )
    return _bounded(found) if metric.share else found


def _finite(drawn: Array) -> Array:
    """Draws that have a value: a resample may hold nothing to divide by."""
    return drawn[np.isfinite(drawn)]


def _deviation(drawn: Array) -> float:
    return float(drawn.std(ddof=1)) if len(drawn) > 1 else math.nan


def _bounded(found: Estimate) -> Estimate:
    """Keep a share's interval in [0, 1]. Where every answer is right (or wrong) the error is not 0 but
    unseen: then Wilson's interval over clusters says what could be."""
    if found.se == 0 and found.value in (0.0, 1.0):
        _, low, high = wilson(round(found.value * found.clusters), found.clusters)
        return replace(found, low=low, high=high)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def bootstrap(value: Callable[[Array], Array], sums: Array, *, draws: int, seed: int) -> Array:
    """``value`` of resampled rows of ``sums`` (clusters, columns): shape (draws,).

    A draw is a weight per cluster, so all draws are one matrix product; chunks bound the memory.
    """
    rng = np.random.default_rng(seed)
    k = len(sums)
    step = max(1, _CHUNK // (8 * k))
    parts = []
    for start in range(0, draws, step):
        m = min(step, draws - start)
        # Counting k picks is a fifth of the time that multinomial weights take.
        picks = rng.integers(0, k, size=(m, k)) + np.arange(m)[:, None] * k
        weights = np.bincount(picks.ravel(), minlength=m * k).reshape(m, k).astype(np.float64)
        parts.append(value(weights @ sums))
    return np.concatenate(parts)


def paired(
    metric: Metric,
    a: Array,
    b: Array,
    clusters: Sequence[str],
    *,
    draws: int = 10_000,
    seed: int = 0,
    resample: bool = False,
) -> Difference:
    """``metric(a) - metric(b)``: row i of both is the same sample; every resample draws the same images
    for both.
    """
    if a.shape != b.shape or len(a) != len(clusters):
        raise ValueError(f"paired statistics differ in shape: {a.shape}, {b.shape}, {len(clusters)} clusters")
    if is_mean(metric, a, b) and not resample:
        assert isinstance(metric.value, Ratio)
        return paired_ratio(metric.value, a, b, clusters)
    code, k = codes(clusters)
    if k == 0:
        return paired_ratio(_MEAN, np.zeros((0, 2)), np.zeros((0, 2)), clusters)
    width = a.shape[1]

    def difference(both: Array) -> Array:
        return np.asarray(metric.value(both[..., :width]) - metric.value(both[..., width:]))

    both = np.concatenate([a, b], axis=1)
    value = float(difference(both.sum(axis=0)))
    drawn = bootstrap(difference, _sum_by(both, code, k), draws=draws, seed=seed)
    drawn = _finite(drawn)
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (math.nan, math.nan)
    # Twice the smaller tail, counting the observed data set as one draw, so that p is never 0.
    tail = min((1 + (drawn <= 0).sum()), (1 + (drawn >= 0).sum())) / (len(drawn) + 1)
    return Difference(
        value=value,
        se=_deviation(drawn),
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
    # Where every image says the same there is no spread to judge by: then as a sign test.
    p = two_sided_p(value, se) if se > 0 or value == 0 else min(1.0, 2.0 * 0.5**k)
    return Difference(value=value, se=se, low=low, high=high, p=p, n=len(a), clusters=k)


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
