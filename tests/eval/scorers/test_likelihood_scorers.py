"""Scorers by likelihood, ROUGE-L of free answers, ratings of judges, VSR's area under the curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scorers import SCORERS, Answer
from eval.scorers.judged import read_mmhal, read_mmhal_clean, read_mt_bench, read_mt_bench_clean
from eval.scorers.likelihoods import loglikelihoods, true_options
from eval.scorers.rouge import rouge_lsum
from eval.scorers.truthfulqa import mass_on_true
from eval.scorers.vsr import influence, read_truth


def value(scorer: str, metric: str, *answers: Answer) -> float:
    rule = SCORERS[scorer]
    return float(rule.metrics[metric].value(rule.score(list(answers)).stats.sum(axis=0)))


def likely(values: Any, *golds: str, **rest: Any) -> Answer:
    meta = {"loglikelihoods": values, **rest.pop("meta", {})}
    return Answer(prediction="", golds=golds, meta=meta, **rest)


def test_mmlu_and_its_subjects() -> None:
    four = ("w", "x", "y", "z")
    answers = [
        likely([-3, -1, -2, -4], "B", options=four, category="law"),
        likely([-3, -1, -2, -4], "B", options=four, category="law"),
        likely([-1, -1, -2, -4], "B", options=four, category="law"),  # of equal ones the first
        likely([-3, -1, -2, -4], "A", options=four, category="art"),
    ]
    assert value("mmlu", "accuracy", *answers) == 0.5
    assert value("mmlu", "average", *answers) == pytest.approx((2 / 3 + 0) / 2)


def test_agieval_divides_by_characters_and_takes_any_true_option() -> None:
    options = ("no", "a long option here")
    answer = likely([-4.0, -9.0], "B", options=options)
    assert value("agieval", "accuracy", answer) == 0
    assert value("agieval", "accuracy_norm", answer) == 1
    assert value("agieval", "accuracy", likely([-9.0, -1.0, -2.0], "A", "B")) == 1


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        [1.0],
        [math.nan, -1.0],
        [-math.inf, -math.inf],
        ["-1", "-2"],
        "ab",
        [math.inf, -1.0],
        {"a": 1},
    ],
)
def test_options_without_likelihoods_are_counted_not_guessed(found: Any) -> None:
    answer = likely(found, "A", options=("x", "y"))
    for scorer in ("mmlu", "agieval", "ethics", "truthfulqa_mc"):
        rule = SCORERS[scorer]
        assert value(scorer, "unparsed", answer) == 1 and value(scorer, rule.primary, answer) == 0


def test_true_options_by_label_text_or_letter() -> None:
    assert true_options(likely([], meta={"labels": [0, 1, 1]})) == {1, 2}
    assert true_options(likely([], "yes", options=("no", "yes"))) == {1}
    assert true_options(likely([], "C", "A")) == {0, 2}
    assert true_options(likely([], "nothing like it", options=("no", "yes"))) == set()
    read = loglikelihoods(likely(np.array([-1.0, -2.0])))
    assert read is not None and read.tolist() == [-1, -2]


def test_truthfulqa_where_the_reference_divides_zero_by_zero() -> None:
    far = likely([-1000.0, -1001.0, -1000.0], meta={"labels": [1, 0, 0]})
    assert value("truthfulqa_mc1", "mc1", far) == 1
    assert value("truthfulqa_mc", "mc2", far) == pytest.approx(1 / (2 + math.exp(-1)))
    assert value("truthfulqa_mc", "mc1", likely([-3.0, -1.0, -2.0], meta={"labels": [1, 1, 0]})) == 0
    assert SCORERS["truthfulqa_mc"].primary == "mc2" and SCORERS["truthfulqa_mc1"].primary == "mc1"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-20, 0), min_size=2, max_size=6), st.integers(1, 5))
def test_mc2_is_the_reference_where_that_does_not_underflow(values: list[float], true: int) -> None:
    first = min(true, len(values))
    p = np.exp(values)
    assert mass_on_true(np.array(values), set(range(first))) == pytest.approx(p[:first].sum() / p.sum())


def test_truthfulqa_free_answers() -> None:
    def free(text: str) -> Answer:
        return Answer(prediction=text, golds=("The sky is blue",), meta={"incorrect": ("The sky is green",)})

    assert value("truthfulqa_gen", "rouge_acc", free("The sky is blue.")) == 1
    assert value("truthfulqa_gen", "rouge_max", free("the SKY is blue")) == 1
    assert value("truthfulqa_gen", "rouge_acc", free("The sky is green")) == 0
    assert value("truthfulqa_gen", "rouge_diff", free("The sky is green")) == pytest.approx(-0.25)
    assert value("truthfulqa_gen", "rouge_acc", free("I have no comment")) == 1
    assert (
        value("truthfulqa_gen", "rouge_acc", free(""))
        == 0
        == value("truthfulqa_gen", "rouge_max", free("蓝色"))
    )


def test_rouge_takes_the_union_over_lines() -> None:
    # Lin 2004's example: w1..w5 against "w1 w2 w6 w7 w8" and "w1 w3 w8 w9 w5" share w1 w2 w3 w5.
    assert rouge_lsum("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5") == pytest.approx(2 * 4 / 15)


@pytest.mark.parametrize(
    ("text", "official", "clean"),
    [
        ("Rating: 3", 3, 3), ("Explanation…\nrating: 6, fine", 6, 6), ("Rating: 10", 1, None), ("rating:4", None, 4),
        ("Rating: 2 ... Rating: 5", None, None), ("Rating: 2 ... Rating: 2", 2, 2), ("good", None, None),
        ("**Rating: 4**", 4, 4), ("Rating: 3.5", 3, None), ("Rating: 3.", 3, 3),
    ],
)  # fmt: skip
def test_mmhal_ratings(text: str, official: float | None, clean: float | None) -> None:
    assert (read_mmhal(text), read_mmhal_clean(text)) == (official, clean)


def test_mmhal_without_a_rating_is_a_zero_or_left_out() -> None:
    answers = [
        Answer(prediction="", golds=(), meta={"judgement": t}) for t in ("Rating: 6", "Rating: 2", "?")
    ]
    assert value("mmhal", "score", *answers) == pytest.approx(8 / 3)
    assert value("mmhal", "hallucination_rate", *answers) == pytest.approx(2 / 3)
    assert value("mmhal_clean", "score", *answers) == 4
    assert value("mmhal_clean", "hallucination_rate", *answers) == 0.5
    assert (
        value("mmhal", "unparsed", *answers)
        == value("mmhal_clean", "unparsed", *answers)
        == pytest.approx(1 / 3)
    )


@pytest.mark.parametrize(
    ("text", "official", "clean"),
    [
        ("Rating: [[7]]", 7, 7), ("[[7.5]] and [[3]]", 7.5, 7.5), ("[8]", 8, 8), ("[3] … [[5]]", 5, 5),
        ("[[85]]", 85, None), ("[[0]]", 0, None), ("rating: 7", None, None), ("[[rating]]", None, None),
        ("[[" + "9" * 400 + "]]", None, None),
    ],
)  # fmt: skip
def test_mt_bench_ratings(text: str, official: float | None, clean: float | None) -> None:
    assert (read_mt_bench(text), read_mt_bench_clean(text)) == (official, clean)


def test_mt_bench_by_turn() -> None:
    def rated(text: str, turn: int) -> Answer:
        return Answer(prediction="", golds=(), meta={"judgement": text, "turn": turn})

    answers = [rated("[[8]]", 1), rated("[[4]]", 2), rated("none", 2)]
    assert value("mt_bench", "score", *answers) == 6
    assert value("mt_bench", "turn_1", *answers) == 8 and value("mt_bench", "turn_2", *answers) == 4
    assert value("mt_bench", "unparsed", *answers) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("True", "true"),
        ("false.", "false"),
        ("Yes, it is", "true"),
        ("true or false", ""),
        ("untrue", ""),
        ("0", "false"),
    ],
)
def test_vsr_words(text: str, read: str) -> None:
    assert read_truth(text) == read


def test_area_of_a_hand_worked_case() -> None:
    # Pairs (true, false): 0.9 > 0.5, 0.9 > 0.1, 0.5 = 0.5, 0.5 > 0.1: 3.5 of 4.
    sure, true = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    top, bottom = influence(sure, true)
    assert top.sum() / bottom.sum() == pytest.approx(3.5 / 4)
    answers = [
        Answer(prediction="", golds=(str(t),), meta={"p_true": s}) for s, t in zip(sure, true, strict=True)
    ]
    assert value("vsr", "auc", *answers) == pytest.approx(3.5 / 4)
    assert math.isnan(value("vsr", "auc", *answers[:2]))
    assert value("vsr", "unparsed", *answers) == 1


def test_vsr_ranks_by_the_likelihood_of_true_and_false() -> None:
    answers = [
        likely([-1.0, -3.0], "True", options=("True", "False")),
        likely([-3.0, -1.0], "False", options=("False", "True")),
        likely([-9.0, -1.0], "False", options=("True", "False")),
    ]
    assert value("vsr", "auc", *answers) == pytest.approx(0.75)
    assert value("vsr", "auc", *answers[::2]) == 1


def test_variance_of_the_area_is_delongs() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(300) < 0.4
    sure = rng.normal(size=300) + true
    rule = SCORERS["vsr"]
    answers = [
        Answer(prediction="true", golds=(str(bool(t)),), meta={"p_true": float(s)})
        for s, t in zip(sure, true, strict=True)
    ]
    from eval.statistics import ratio_estimate

    found = ratio_estimate(rule.metrics["auc"].value, rule.score(answers).stats, [str(i) for i in range(300)])  # type: ignore[arg-type]
    above = sure[true][:, None] > sure[~true][None, :]
    delong = above.mean(1).var() / true.sum() + above.mean(0).var() / (~true).sum()
    assert found.value == pytest.approx(above.mean()) and found.se == pytest.approx(math.sqrt(delong))
