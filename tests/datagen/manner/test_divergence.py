"""Divergence and keyness against scipy, by hand, and their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from datagen.manner.divergence import jensen_shannon, keyness

COUNTS = st.integers(1, 30).flatmap(
    lambda size: st.tuples(
        *[st.lists(st.integers(0, 10_000), min_size=size, max_size=size).filter(any) for _ in range(2)]
    )
)


def arrays(pair: tuple[list[int], list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(pair[0], dtype=np.float64), np.array(pair[1], dtype=np.float64)


def test_by_hand() -> None:
    half, one, other = np.array([1.0, 1.0]), np.array([5.0, 0.0]), np.array([0.0, 2.0])
    assert jensen_shannon(one, other) == 1.0, "nothing in common is one bit"
    assert jensen_shannon(half, 3 * half) == 0.0, "counts need not have the same sum"
    # Middle of (1, 0) and (1/2, 1/2) is (3/4, 1/4): 1/2 log2(4/3) + 1/2 (1/2 log2(2/3) + 1/2 log2 2).
    by_hand = 0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25
    assert jensen_shannon(one, half) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="empty"):
        jensen_shannon(one, np.zeros(2))


@settings(deadline=None)
@given(COUNTS)
def test_against_scipy(pair: tuple[list[int], list[int]]) -> None:
    p, q = arrays(pair)
    # scipy gives the root, and loses the last digits of tiny divergences.
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(COUNTS)
def test_properties(pair: tuple[list[int], list[int]]) -> None:
    p, q = arrays(pair)
    assert 0.0 <= jensen_shannon(p, q) <= 1.0
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-12)
    assert jensen_shannon(p, p) == pytest.approx(0.0, abs=1e-12)
    assert jensen_shannon(7 * p, q) == pytest.approx(jensen_shannon(p, q), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(COUNTS)
def test_keyness_against_scipy(pair: tuple[list[int], list[int]]) -> None:
    p, q = arrays(pair)
    found = keyness(p, q)
    assert np.allclose(found, -keyness(q, p), atol=1e-6)
    for i, (a, b) in enumerate(zip(p, q, strict=True)):
        table = np.array([[a, b], [p.sum() - a, q.sum() - b]])
        if (table.sum(axis=1) == 0).any():
            assert found[i] == pytest.approx(0.0, abs=1e-6)
            continue
        expected = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        assert found[i] ** 2 == pytest.approx(expected, rel=1e-6, abs=1e-6)
        if expected > 1e-6:
            assert (found[i] > 0) == (a / p.sum() > b / q.sum())


def test_keyness_of_nothing() -> None:
    assert keyness(np.zeros(3), np.array([1.0, 2.0, 0.0])).tolist() == [0.0, 0.0, 0.0]
