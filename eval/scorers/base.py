"""What a scorer is: per-sample statistics whose sums give every metric.

Accuracy, F1, CHAIR, CIDEr with its fixed idf and even corpus BLEU are functions of sums over samples. So a
scorer returns one row of statistics per sample, and one machinery (``eval.statistics``) turns rows into
values, standard errors clustered by image, and paired comparisons. This split is *ours*; the rules of each
scorer are in its file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One prediction and what is true. ``golds`` are references or annotators' answers; ``options`` the
    choices in order; ``objects`` the canonical names of what is in the image (CHAIR); ``group`` ties samples
    judged together."""

    prediction: str
    golds: tuple[str, ...]
    options: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Scored:
    """``parsed`` is what the rule read from each prediction ('' where it read nothing); ``stats`` is (n,
    columns).
    """

    parsed: list[str]
    stats: Array


@dataclass(frozen=True)
class Ratio:
    """A metric that is one weighted sum of columns over another; both are weights of shape (columns,)."""

    top: Array
    bottom: Array

    def __call__(self, stats: Array) -> Array:
        """Value of statistics of shape (..., columns); NaN where the lower sum is 0."""
        below = stats @ self.bottom
        return np.divide(stats @ self.top, below, out=np.full(np.shape(below), np.nan), where=below != 0)

    def residuals(self, stats: Array) -> tuple[float, Array]:
        """The value, and each sample's share in its error: (top - value · bottom) / sum of bottom, (n,).

        The ratio linearised; where ``bottom`` counts samples it is the deviation from the mean over n.
        """
        top, bottom = stats @ self.top, stats @ self.bottom
        below = float(bottom.sum())
        if below == 0:
            return np.nan, np.full(len(stats), np.nan)
        value = float(top.sum()) / below
        return value, (top - value * bottom) / below


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of a task as a function of summed statistics.

    Attributes:
        value: maps statistics of shape (..., columns) to (...); a ``Ratio`` has an error in closed form.
        higher: whether more is better.
        scale: what a reader multiplies by.
        share: whether it lies in [0, 1]; others (CIDEr) stay out of means over tasks.
    """

    value: Callable[[Array], Array] | Ratio
    higher: bool = True
    scale: float = 100.0
    share: bool = True


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A rule with its version; ``corpus`` marks rules that need a whole task at once (CIDEr's idf)."""

    name: str
    version: str
    columns: tuple[str, ...]
    score: Callable[[Sequence[Answer]], Scored]
    metrics: Mapping[str, Metric]
    primary: str
    corpus: bool = False

    def sample_scores(self, scored: Scored) -> Array:
        """The primary metric of each sample alone, NaN where it says nothing; shape (n,)."""
        return self.metrics[self.primary].value(scored.stats)


def ratio(
    columns: tuple[str, ...],
    numerator: Mapping[str, float] | str,
    denominator: Mapping[str, float] | str,
    *,
    higher: bool = True,
    scale: float = 100.0,
    share: bool = True,
) -> Metric:
    """A metric that is one weighted sum of columns over another; NaN where the lower one is 0."""
    weights = Ratio(_weights(columns, numerator), _weights(columns, denominator))
    return Metric(value=weights, higher=higher, scale=scale, share=share)


def _weights(columns: tuple[str, ...], of: Mapping[str, float] | str) -> Array:
    chosen = {of: 1.0} if isinstance(of, str) else of
    unknown = set(chosen) - set(columns)
    if unknown:
        raise ValueError(f"no column {sorted(unknown)} in {columns}")
    return np.array([chosen.get(c, 0.0) for c in columns])


def table(rows: Sequence[tuple[float, ...]], columns: tuple[str, ...]) -> Array:
    """Rows as an array of shape (n, columns), also for n = 0."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))
