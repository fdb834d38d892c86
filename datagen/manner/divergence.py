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
    # What only one of them holds counts with its whole share, so logarithms are taken of what both hold: of word
    # triples that is little, and a bootstrap takes thousands of divergences.
    both = np.flatnonzero((p > 0) & (q > 0))
    r, s = p[both] / p.sum(), q[both] / q.sum()
    shared = float(np.sum(r * np.log2(2 * r / (r + s)) + s * np.log2(2 * s / (r + s))))
    alone = (1.0 - float(r.sum())) + (1.0 - float(s.sum()))
    # Rounding may leave the sum a hair outside of its bounds.
    return float(np.clip((alone + shared) / 2, 0.0, 1.0))


def keyness(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """How strikingly each word is used more in p than in q: the root of Dunning's log-likelihood ratio G2 (1993) of
    word against all other words, negative where p uses it less. About a z-score; 3 is one in 370 by chance.

    Args:
        p, q: counts, float64 [size].

    Returns:
        float64 [size]; 0 for words in neither, and throughout where a set is empty.
    """
    table = np.stack([[p, q], [p.sum() - p, q.sum() - q]])  # [word or not, set, size]
    totals = table.sum(axis=0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = table.sum(axis=1, keepdims=True) * totals / totals.sum(axis=1, keepdims=True)
        terms = np.where(table > 0, table * np.log(table / expected), 0.0)
        sign = np.sign(table[0, 0] - expected[0, 0])
    # Rounding may leave equal shares a hair below 0.
    return np.nan_to_num(sign * np.sqrt(np.maximum(0.0, 2 * terms.sum(axis=(0, 1)))))
