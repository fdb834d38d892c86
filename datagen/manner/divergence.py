"""How far two distributions of words are from each other."""

from __future__ import annotations

import numpy as np


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence of two histograms over the same support, in bits: 0 equal, 1 nothing in common.

    Args:
        p, q: counts or any non-negative weights, [size]; they need not add up to 1.

    Raises:
        ValueError: a histogram is empty, so it is no distribution.
    """
    if not (p.sum() > 0 and q.sum() > 0):
        raise ValueError("the divergence from an empty histogram is not defined")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    # Rounding may leave the sum a hair outside of its bounds.
    return float(np.clip((_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2, 0.0, 1.0))


def _relative_entropy(p: np.ndarray, m: np.ndarray) -> float:
    there = p > 0
    return float(np.sum(p[there] * np.log2(p[there] / m[there])))


def log_odds(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """z-scores of the log odds of each word in p against q, with the counts of both together as an informative
    Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin' Words"): large where p uses a word more than q, and
    small for rare words, whatever their ratio. [size] float64; 0 where a word occurs in neither.
    """
    prior = p + q
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = [
            np.log(n + prior) - np.log(n.sum() + prior.sum() - n - prior)
            for n in (np.asarray(p, float), np.asarray(q, float))
        ]
        z = (odds[0] - odds[1]) / np.sqrt(1 / (p + prior) + 1 / (q + prior))
    return np.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0)
