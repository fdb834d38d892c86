"""Intervals over training seeds: Student's t against SciPy, coverage counted; never mixed with the question error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from eval.recipes import check, over_recipes
from eval.seeds import between_recipes, over_seeds, t975

numbers = st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=8)


def test_by_hand() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.mean, found.sd, found.n) == (2, 1, 3)
    assert found.high - 2 == pytest.approx(4.3027 / math.sqrt(3)) and 2 - found.low == pytest.approx(
        found.high - 2
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_seeds_have_no_interval(n: int) -> None:
    found = over_seeds([1.0] * n)
    assert math.isnan(found.low) and math.isnan(found.high) and found.n == n
    assert math.isnan(between_recipes([1.0, 2.0, 3.0], [1.0] * n).low)


def test_t_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (*range(1, 31), 31, 50, 200, 5000):
        assert t975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-4)
    assert math.isnan(t975(0))


def test_coverage_of_both_intervals() -> None:
    rng, one, two, runs = np.random.default_rng(0), 0, 0, 2000
    for _ in range(runs):
        a, b = rng.normal(5, 1, 3), rng.normal(2, 3, 4)
        own, both = over_seeds(list(a)), between_recipes(list(a), list(b))
        one += own.low <= 5 <= own.high
        two += both.low <= 3 <= both.high
    assert one / runs == pytest.approx(0.95, abs=0.02)
    assert 0.94 <= two / runs <= 0.99  # degrees of freedom are rounded down


@given(numbers, numbers)
def test_order_does_not_matter_and_differences_turn_round(a: list[float], b: list[float]) -> None:
    whole, again = over_seeds(a), over_seeds(a[::-1])
    assert again.mean == pytest.approx(whole.mean) and again.low == pytest.approx(whole.low)
    there, back = between_recipes(a, b), between_recipes(b, a)
    assert there.mean == pytest.approx(-back.mean) and there.low == pytest.approx(-back.high, abs=1e-6)
    assert there.low <= there.mean <= there.high


def tasks(values: dict[str, dict[str, float]]) -> list[dict[str, object]]:
    return [
        {"task": task, "metric": "accuracy", "higher": True,
         "models": {run: {"value": v, "metrics": {"accuracy": {"value": v}}} for run, v in runs.items()}}
        for task, runs in values.items()
    ]  # fmt: skip


RUNS = {"vit": ["v0", "v1", "v2"], "l2t": ["l0", "l1", "l2"]}
VALUES = {
    "gqa": {"v0": 60.0, "v1": 61.0, "v2": 62.0, "l0": 63.0, "l1": 64.0, "l2": 65.0},
    "refcoco": {"v0": 29.0, "v1": 30.0, "v2": 31.0, "l0": 41.0, "l1": 42.0, "l2": 43.0},
    "pope_random": {"v0": 80.0, "l0": 81.0},
}


def test_recipes_in_a_comparison() -> None:
    found = over_recipes(tasks(VALUES), RUNS, "v1")
    assert found is not None and found["base"] == "vit"
    assert list(found["tasks"]) == ["gqa", "refcoco"]  # POPE is not there for all seeds
    gqa = found["tasks"]["gqa"]
    assert gqa["recipes"]["l2t"]["mean"] == 64 and gqa["recipes"]["l2t"]["values"] == [63, 64, 65]
    # Two recipes of three seeds with equal variance: four degrees of freedom.
    half = 2.7764 * math.sqrt(2 / 3)
    assert gqa["differences"]["l2t"]["low"] == pytest.approx(3 - half)
    overall = found["averages"]["all"]["l2t"]["overall"]
    assert overall["mean"] == pytest.approx((100 * 3 / 61 + 100 * 12 / 30) / 2)
    assert overall["low"] < overall["mean"] < overall["high"] and overall["base_seeds"] == 3
    alone = found["averages"]["without_refcoco"]["l2t"]["overall"]
    assert alone["mean"] == pytest.approx(100 * 3 / 61)
    # Linearised: seeds of both move the ratio.
    expected = between_recipes(
        [100 * v / 61 for v in (63, 64, 65)], [100 * 64 / 61**2 * v for v in (60, 61, 62)]
    )
    assert alone["high"] - alone["mean"] == pytest.approx(expected.high - expected.mean)


def test_one_seed_of_the_base_leaves_the_other_s_interval() -> None:
    found = over_recipes(tasks(VALUES), {"vit": ["v0"], "l2t": ["l0", "l1", "l2"]}, "v0")
    assert found is not None
    overall = found["averages"]["all"]["l2t"]["overall"]
    assert overall["base_seeds"] == 1 and overall["low"] is not None
    assert found["tasks"]["gqa"]["differences"]["l2t"]["low"] is None
    assert over_recipes(tasks(VALUES), {}, "v0") is None


def test_wrong_recipes_are_named() -> None:
    with pytest.raises(UserError, match="no run 'v9'"):
        check({"vit": ["v9"]}, ["v0", "v1"])
    with pytest.raises(UserError, match="named twice, in recipes a and b"):
        check({"a": ["v0"], "b": ["v0"]}, ["v0"])
