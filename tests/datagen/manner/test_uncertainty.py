"""Errors clustered by image: against the usual standard error, scipy's bootstrap, and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datagen.manner.uncertainty import clustered_mean, interval, numbered, resampled


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_one_answer_per_image_is_the_usual_error(values: list[float]) -> None:
    array = np.array(values)
    mean, se = clustered_mean(array, np.arange(len(values)))
    assert mean == pytest.approx(array.mean(), abs=1e-9)
    assert se == pytest.approx(float(stats.sem(array)), abs=1e-9)


def test_repeated_answers_say_nothing_new() -> None:
    values, few = np.array([1.0, 2.0, 4.0]), np.arange(3)
    _, se = clustered_mean(values, few)
    _, same = clustered_mean(np.repeat(values, 5), np.repeat(few, 5))
    assert same == pytest.approx(se), "five copies per image leave the error as it is"
    assert clustered_mean(values, np.zeros(3, dtype=np.int64))[1] is None


def test_the_error_is_that_of_simulated_images() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), 4)

    def sample() -> np.ndarray:
        return rng.normal(size=60)[clusters] + 0.3 * rng.normal(size=240)

    means = [sample().mean() for _ in range(2000)]
    claimed = [clustered_mean(sample(), clusters)[1] for _ in range(200)]
    assert np.mean([c for c in claimed if c]) == pytest.approx(np.std(means), rel=0.08)


def test_bootstrap_against_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=200)
    draws = resampled(
        lambda drawn: [float(drawn @ values / drawn.sum())], np.arange(200), replicates=2000, seed=3
    )
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=4)
    found = interval(draws[:, 0])
    assert found is not None
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found[0] == pytest.approx(theirs.confidence_interval.low, abs=0.08 * width)
    assert found[1] == pytest.approx(theirs.confidence_interval.high, abs=0.08 * width)


def test_draws_take_whole_images_and_repeat() -> None:
    clusters = numbered(["b", "a", "b", "c"])
    assert clusters.tolist() == [1, 0, 1, 2]
    draws = resampled(lambda drawn: drawn.tolist(), clusters, replicates=50, seed=5)
    assert (draws[:, 0] == draws[:, 2]).all(), "answers of an image come and go together"
    assert (draws == resampled(lambda drawn: drawn.tolist(), clusters, replicates=50, seed=5)).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_an_interval_of_what_is_mostly_undefined() -> None:
    assert interval(np.array([np.nan] * 20 + [1.0] * 80)) is None
    assert interval(np.array([np.nan] + [1.0] * 99)) == (1.0, 1.0)
