"""Errors against closed forms and simulation: what an interval promises is counted."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scorers.base import Metric, ratio
from eval.statistics import (
    bootstrap,
    estimate,
    holm,
    is_mean,
    mean_estimate,
    paired,
    paired_mean,
    ratio_estimate,
    wilson,
)

MEAN = ratio(("value", "n"), "value", "n")


def with_n(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones_like(values)], axis=1)


def test_singleton_clusters_give_the_textbook_error() -> None:
    values = np.random.default_rng(0).normal(size=200)
    found = mean_estimate(values, [str(i) for i in range(200)])
    assert found.value == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.std(ddof=0) / math.sqrt(200))
    assert found.se == found.se_independent and found.clusters == 200


def test_clustered_error_is_millers_formula() -> None:
    values, clusters = np.array([1.0, 0.0, 1.0, 1.0, 0.0]), ["a", "a", "b", "b", "c"]
    d = values - values.mean()
    expected = math.sqrt((d[0] + d[1]) ** 2 + (d[2] + d[3]) ** 2 + d[4] ** 2) / 5
    assert mean_estimate(values, clusters).se == pytest.approx(expected)


def test_repeating_every_sample_changes_the_naive_error_only() -> None:
    values = np.random.default_rng(1).normal(size=100)
    names = [str(i) for i in range(100)]
    once, four = mean_estimate(values, names), mean_estimate(np.repeat(values, 4), list(np.repeat(names, 4)))
    assert four.se == pytest.approx(once.se) and four.se_independent == pytest.approx(once.se / 2)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits, runs = np.random.default_rng(2), 0, 600
    clusters = [str(c) for c in np.repeat(np.arange(60), 3)]
    for _ in range(runs):
        shared = rng.normal(size=60)
        values = 0.3 + np.repeat(shared, 3) + rng.normal(size=180)
        found = mean_estimate(values, clusters)
        hits += found.low <= 0.3 <= found.high
    assert 0.91 <= hits / runs <= 0.98


def test_ratio_error_agrees_with_the_cluster_bootstrap() -> None:
    rng = np.random.default_rng(3)
    stats = np.stack([rng.poisson(2, 400), 2 + rng.poisson(3, 400)], axis=1).astype(float)
    clusters = [str(i // 4) for i in range(400)]
    metric = ratio(("top", "bottom"), "top", "bottom")
    closed = estimate(metric, stats, clusters)
    drawn = estimate(Metric(value=metric.value.__call__), stats, clusters, draws=4000)
    assert closed.value == pytest.approx(drawn.value)
    assert drawn.se == pytest.approx(closed.se, rel=0.06)
    assert drawn.low == pytest.approx(closed.low, abs=0.01) and drawn.high == pytest.approx(
        closed.high, abs=0.01
    )


def test_paired_difference_is_the_mean_of_differences() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=90), rng.normal(size=90)
    clusters = [str(i // 3) for i in range(90)]
    found, direct = paired(MEAN, with_n(a), with_n(b), clusters), mean_estimate(a - b, clusters)
    assert found.value == pytest.approx(direct.value) and found.se == pytest.approx(direct.se)
    assert paired_mean(a, b, clusters) == found
    assert found.p == pytest.approx(math.erfc(abs(found.value) / found.se / math.sqrt(2)))


def test_paired_bootstrap_is_tight_for_models_that_agree() -> None:
    rng = np.random.default_rng(5)
    a = with_n((rng.random(300) < 0.5).astype(float))
    b = a.copy()
    b[:5, 0] = 1 - b[:5, 0]
    clusters = [str(i) for i in range(300)]
    free = Metric(value=lambda s: s[..., 0] / s[..., 1])
    found = paired(free, a, b, clusters, draws=2000, seed=1)
    assert found.se == pytest.approx(paired(MEAN, a, b, clusters).se, rel=0.1)
    assert found == paired(free, a, b, clusters, draws=2000, seed=1)  # the seed decides
    same = paired(free, a, a, clusters, draws=200)
    assert same.value == 0 and same.p == 1


def test_bootstrap_p_is_uniform_enough_under_no_difference() -> None:
    rng, small = np.random.default_rng(6), 0
    free = Metric(value=lambda s: s[..., 0] / s[..., 1])
    clusters = [str(i) for i in range(80)]
    for i in range(200):
        a, b = with_n(rng.normal(size=80)), with_n(rng.normal(size=80))
        small += paired(free, a, b, clusters, draws=400, seed=i).p < 0.05
    assert small / 200 < 0.11


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = with_n(np.arange(50.0))
    whole = bootstrap(MEAN.value, sums, draws=100, seed=0)
    monkeypatch.setattr("eval.statistics._CHUNK", 8 * 50 * 7)
    assert np.array_equal(whole, bootstrap(MEAN.value, sums, draws=100, seed=0))


def test_all_right_is_not_certain() -> None:
    found = estimate(MEAN, with_n(np.ones(20)), [str(i) for i in range(20)])
    assert (found.value, found.high) == (1.0, pytest.approx(1.0)) and found.low == pytest.approx(
        wilson(20, 20)[1]
    )


def test_a_few_samples_that_all_say_the_same_prove_little() -> None:
    for n, p in ((3, 0.25), (20, 2 * 0.5**20)):
        found = paired(MEAN, with_n(np.ones(n)), with_n(np.zeros(n)), [str(i) for i in range(n)])
        assert found.value == 1 and found.p == pytest.approx(p)


def test_nothing_gives_nan_not_a_crash() -> None:
    assert math.isnan(mean_estimate(np.array([]), []).value)
    assert math.isnan(ratio_estimate(MEAN.value, np.zeros((3, 2)), ["a", "b", "c"]).value)  # type: ignore[arg-type]
    assert math.isnan(paired(MEAN, np.zeros((2, 2)), np.ones((2, 2)), ["a", "b"]).value)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.04, math.nan, 0.01])
    assert (
        adjusted[0] == pytest.approx(0.04) and math.isnan(adjusted[1]) and adjusted[2] == pytest.approx(0.02)
    )


def test_wilson_by_hand() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    assert wilson(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert math.isnan(wilson(0, 0)[0])


F1 = ratio(("tp", "fp", "fn"), {"tp": 2}, {"tp": 2, "fp": 1, "fn": 1})


def yes_no(rng: np.random.Generator, images: int, skill: float) -> tuple[np.ndarray, list[str]]:
    """(tp, fp, fn) of three questions an image; answers about one image are right or wrong together."""
    easy = np.repeat(rng.random(images), 3)
    truth, right = rng.random(3 * images) < 0.5, rng.random(3 * images) < (skill + easy) / 2
    said = np.where(right, truth, ~truth)
    stats = np.stack([said & truth, said & ~truth, ~said & truth], axis=1).astype(float)
    return stats, [str(i // 3) for i in range(3 * images)]


def test_what_is_a_mean() -> None:
    stats, _ = yes_no(np.random.default_rng(0), 20, 0.6)
    assert not is_mean(F1, stats) and is_mean(MEAN, with_n(np.arange(4.0)))
    assert not is_mean(Metric(value=lambda s: s[..., 0]), stats)
    assert is_mean(MEAN, np.zeros((0, 2))) and not is_mean(MEAN, np.zeros((2, 2)))


def test_bootstrap_interval_of_f1_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits, runs = np.random.default_rng(7), 0, 400
    truth = float(F1.value(yes_no(rng, 200_000, 0.7)[0].sum(axis=0)))
    for i in range(runs):
        stats, clusters = yes_no(rng, 60, 0.7)
        found = estimate(F1, stats, clusters, draws=400, seed=i)
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / runs <= 0.98


def test_paired_bootstrap_interval_covers_the_difference() -> None:
    rng, hits, runs = np.random.default_rng(8), 0, 400
    truth = float(
        F1.value(yes_no(rng, 200_000, 0.8)[0].sum(0)) - F1.value(yes_no(rng, 200_000, 0.5)[0].sum(0))
    )
    for i in range(runs):
        (a, clusters), (b, _) = yes_no(rng, 60, 0.8), yes_no(rng, 60, 0.5)
        found = paired(F1, a, b, clusters, draws=400, seed=i)
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / runs <= 0.98


def test_a_resample_without_anything_to_divide_by_is_left_out() -> None:
    stats = np.zeros((6, 3))
    stats[0, 0] = 1
    found = estimate(F1, stats, [str(i) for i in range(6)], draws=300)
    assert found.value == 1 and found.high == 1 and 0 < found.low < 1
    assert math.isnan(estimate(F1, np.zeros((3, 3)), ["a", "b", "c"]).value)
    assert math.isnan(paired(F1, np.zeros((0, 3)), np.zeros((0, 3)), []).value)


answers = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=2, max_size=30)


@settings(max_examples=50, deadline=None)
@given(answers, st.randoms(use_true_random=False))
def test_order_and_names_of_images_do_not_matter(samples: list[tuple[int, bool, bool]], rng: object) -> None:
    order = list(range(len(samples)))
    rng.shuffle(order)  # type: ignore[attr-defined]

    def of(places: list[int], prefix: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        mine, theirs = (with_n(np.array([float(samples[i][k]) for i in places])) for k in (1, 2))
        return mine, theirs, [f"{prefix}{samples[i][0]}" for i in places]

    (a, b, images), (c, d, others) = of([*range(len(samples))], "image"), of(order, "x")
    for resample in (False, True):
        one = estimate(MEAN, a, images, draws=50, resample=resample)
        two = estimate(MEAN, c, others, draws=50, resample=resample)
        assert (one.value, one.se, one.low, one.high) == pytest.approx((two.value, two.se, two.low, two.high))
        assert 0 <= one.low <= one.value + 1e-12 and one.value <= one.high + 1e-12 <= 1 + 1e-11
        there, back = (paired(MEAN, x, y, images, draws=50, resample=resample) for x, y in ((a, b), (b, a)))
        again = paired(MEAN, c, d, others, draws=50, resample=resample)
        assert (there.value, there.se, there.p) == pytest.approx((again.value, again.se, again.p))
        assert (back.value, back.se, back.p) == pytest.approx((-there.value, there.se, there.p))


@given(st.lists(st.floats(0, 1), max_size=12), st.randoms(use_true_random=False))
def test_holm_never_lowers_keeps_order_and_ignores_that_of_tasks(p: list[float], rng: object) -> None:
    adjusted = dict(enumerate(holm(p)))
    assert all(value <= adjusted[i] <= 1 for i, value in enumerate(p))
    ranked = sorted(range(len(p)), key=p.__getitem__)
    assert all(adjusted[i] <= adjusted[j] for i, j in pairwise(ranked))
    # Bonferroni is never smaller, and equal for the smallest.
    assert all(adjusted[i] <= min(1.0, len(p) * value) + 1e-12 for i, value in enumerate(p))
    order = [*range(len(p))]
    rng.shuffle(order)  # type: ignore[attr-defined]
    assert holm([p[i] for i in order]) == [adjusted[i] for i in order]


def test_holm_keeps_the_family_wise_error() -> None:
    rng = np.random.default_rng(9)
    wrong = sum(min(holm(list(rng.random(16)))) < 0.05 for _ in range(10_000))
    assert wrong / 10_000 == pytest.approx(1 - (1 - 0.05 / 16) ** 16, abs=0.007)


def test_holm_agrees_with_statsmodels() -> None:
    tests = pytest.importorskip("statsmodels.stats.multitest")
    p = list(np.random.default_rng(10).random(16) ** 3)
    assert holm(p) == pytest.approx(list(tests.multipletests(p, method="holm")[1]))
