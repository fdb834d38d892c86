"""Training seeds: the same recipe trained several times, as an interval of its own.

The error over questions says how the number would move with other questions; the one over seeds how it would
move with another run of the training. They answer different questions and are never pooled. Student's t, since
seeds are few; with fewer than three there is no interval, only the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEAST = 3
# Student's t at 97.5 % for 1..30 degrees of freedom: SciPy would be a dependency for one line.
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Mean over ``n`` training seeds with its 95 % interval; NaN bounds where there are too few."""

    mean: float
    low: float
    high: float
    sd: float
    n: int


def over_seeds(values: Sequence[float]) -> Seeds:
    """One number of every seed."""
    n = len(values)
    mean = sum(values) / n if n else math.nan
    sd = math.sqrt(_variance(values)) if n > 1 else math.nan
    half = t975(n - 1) * sd / math.sqrt(n) if n >= LEAST else math.nan
    return Seeds(mean=mean, low=mean - half, high=mean + half, sd=sd, n=n)


def between_recipes(mine: Sequence[float], theirs: Sequence[float]) -> Seeds:
    """Difference of two recipes' means over their own seeds (Welch); ``n`` is the smaller number of seeds.

    Degrees of freedom are rounded down, so the interval errs on the wide side.
    """
    a, b = over_seeds(mine), over_seeds(theirs)
    n, mean = min(a.n, b.n), a.mean - b.mean
    if n < LEAST:
        return Seeds(mean=mean, low=math.nan, high=math.nan, sd=math.nan, n=n)
    one, other = _variance(mine) / a.n, _variance(theirs) / b.n
    se = math.sqrt(one + other)
    if se == 0:
        return Seeds(mean=mean, low=mean, high=mean, sd=0.0, n=n)
    part = one / (one + other)
    freedom = 1 / (part**2 / (a.n - 1) + (1 - part) ** 2 / (b.n - 1))
    half = t975(math.floor(freedom + 1e-9)) * se
    return Seeds(mean=mean, low=mean - half, high=mean + half, sd=se, n=n)


def t975(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    if freedom < 1:
        return math.nan
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    # Its expansion for many degrees of freedom; four digits right from here on.
    z = NormalDist().inv_cdf(0.975)
    z2 = z * z
    return z * (1 + (z2 + 1) / (4 * freedom) + (5 * z2 * z2 + 16 * z2 + 3) / (96 * freedom**2))


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - 1)
