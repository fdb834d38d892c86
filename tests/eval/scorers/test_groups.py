"""Metrics over groups and categories: MME, HallusionBench, ETHICS, and their errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scorers import SCORERS, Answer
from eval.scorers.base import all_right, shares
from eval.statistics import estimate, paired


def value(scorer: str, metric: str, answers: list[Answer]) -> float:
    rule = SCORERS[scorer]
    return float(rule.metrics[metric].value(rule.score(answers).stats.sum(axis=0)))


def yes_no(right: bool, image: str, task: str) -> Answer:
    return Answer(prediction="Yes" if right else "No", golds=("Yes",), group=image, category=task)


def test_mme_sums_over_its_sub_tasks() -> None:
    # count: 3 of 4 right, one image of two; OCR: both of two and the image; code: one of two, no image.
    answers = [
        yes_no(True, "a", "count"), yes_no(True, "a", "count"), yes_no(True, "b", "count"), yes_no(False, "b", "count"),
        yes_no(True, "a", "OCR"), yes_no(True, "a", "OCR"),
        yes_no(True, "c", "code_reasoning"), yes_no(False, "c", "code_reasoning"),
    ]  # fmt: skip
    assert value("mme", "perception", answers) * 100 == pytest.approx(75 + 50 + 100 + 100)
    assert value("mme", "cognition", answers) * 100 == pytest.approx(50 + 0)
    assert value("mme", "score", answers) * 100 == pytest.approx(375)
    assert value("mme", "accuracy", answers) == 6 / 8
    assert value("mme", "accuracy_plus", answers) == pytest.approx(2 / 4)
    assert math.isnan(value("mme", "cognition", answers[:6]))
    assert value("mme", "score", answers[:6]) == pytest.approx(value("mme", "perception", answers))


def test_a_sample_of_mme_shows_its_own_answer() -> None:
    answers = [yes_no(True, "a", "count"), yes_no(False, "a", "count")]
    rule = SCORERS["mme"]
    assert rule.sample_scores(rule.score(answers)).tolist() == [1, 0]


def hallusion(said: str, category: str, set_id: int, figure: int, question: int) -> Answer:
    meta = {
        "judgement": said, "category": category, "subcategory": "map", "set_id": set_id, "figure_id": figure,
        "question_id": question,
    }  # fmt: skip
    return Answer(prediction="", golds=("1",), meta=meta)


def test_hallusion_groups_by_question_and_by_figure() -> None:
    answers = [
        hallusion("Correct", "VD", 0, 0, 0), hallusion("correct.", "VD", 0, 0, 1),
        hallusion("correct", "VD", 0, 1, 0), hallusion("This is incorrect", "VD", 0, 1, 1),
        hallusion("unclear", "VS", 0, 0, 0),  # no figure: not knowing is right, and there is no figure to count
        hallusion("unclear", "VS", 0, 1, 0),
        hallusion("I cannot tell", "VS", 1, 0, 0),
    ]  # fmt: skip
    assert value("hallusion", "aAcc", answers) == pytest.approx(5 / 7)
    assert value("hallusion", "qAcc", answers) == pytest.approx(2 / 4)
    assert value("hallusion", "fAcc", answers) == pytest.approx(1 / 3)
    assert value("hallusion", "unclear", answers) == pytest.approx(3 / 7)
    assert value("hallusion", "unparsed", answers) == pytest.approx(1 / 7)
    cluster = SCORERS["hallusion"].cluster
    assert cluster is not None and len({cluster(a) for a in answers}) == 3


@pytest.mark.parametrize(
    ("text", "gold", "label"),
    [
        ("Yes, it is.", "1", "correct"), ("No.", "yes", "incorrect"), ("no", "0", "correct"), ("Yes and no", "1", ""),
        ("I know", "0", ""), ("", "1", ""), ("yes", "uncertain", "incorrect"),
    ],
)  # fmt: skip
def test_hallusion_words(text: str, gold: str, label: str) -> None:
    scored = SCORERS["hallusion_words"].score([Answer(prediction=text, golds=(gold,))])
    assert scored.parsed == [label]


def ethics(right: bool, category: str, group: str = "") -> Answer:
    likely = [-1.0, -2.0] if right else [-2.0, -1.0]
    meta = {"loglikelihoods": likely, "group": group}
    return Answer(prediction="", golds=("no",), options=("no", "yes"), category=category, meta=meta)


def test_ethics_items_and_groups() -> None:
    answers = (
        [ethics(True, "justice", "1")] * 4
        + [ethics(True, "justice", "2")] * 3
        + [ethics(False, "justice", "2")]
    )
    answers += [ethics(True, "commonsense"), ethics(False, "commonsense")]
    assert value("ethics", "accuracy", answers) == pytest.approx(8 / 10)
    assert value("ethics", "average", answers) == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert value("ethics", "exact_match", answers) == pytest.approx(2 / 4)
    assert value("ethics", "average_exact", answers) == pytest.approx((1 / 2 + 1 / 2) / 2)
    lost = Answer(prediction="", golds=("no",), options=("no", "yes"), category="justice")
    assert value("ethics", "unparsed", [*answers, lost]) == pytest.approx(1 / 11)


KEYS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(KEYS)
def test_group_shares_add_up_to_what_groups_count(keyed: list[tuple[str, bool]]) -> None:
    keys, right = [k for k, _ in keyed], [r for _, r in keyed]
    groups = {k: all(r for k2, r in keyed if k2 == k) for k in set(keys)}
    assert shares(keys).sum() == pytest.approx(len(groups))
    assert (all_right(keys, right) * shares(keys)).sum() == pytest.approx(sum(groups.values()))


def test_error_of_a_group_metric_is_that_of_group_means() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((200, 2)) < 0.8
    answers = [yes_no(bool(r), f"{i}", "count") for i, pair in enumerate(right) for r in pair]
    rule = SCORERS["mme"]
    stats, images = rule.score(answers).stats, [a.group for a in answers]
    found = estimate(rule.metrics["accuracy_plus"], stats, images)
    both = right.all(axis=1)
    assert found.value == pytest.approx(both.mean())
    assert found.se == pytest.approx(both.std() / math.sqrt(200))
    # One sub-task: the score is twice the mean over images of (accuracy + all right) / 2, its error that mean's.
    score = estimate(rule.metrics["score"], stats, images)
    per_image = right.mean(axis=1) + both
    assert score.value == pytest.approx(per_image.mean())
    assert score.se == pytest.approx(per_image.std() / math.sqrt(200))


def test_a_perfect_model_has_no_error_over_categories_of_any_size() -> None:
    answers = [
        yes_no(True, f"{t}{i}", t) for t, n in (("count", 2), ("OCR", 30)) for i in range(n) for _ in range(2)
    ]
    rule = SCORERS["mme"]
    stats, images = rule.score(answers).stats, [a.group for a in answers]
    found = estimate(rule.metrics["score"], stats, images)
    assert found.value == pytest.approx(4) and found.se == pytest.approx(0, abs=1e-12)


def test_paired_difference_of_a_mean_of_means() -> None:
    rng = np.random.default_rng(1)
    categories = ["a"] * 60 + ["b"] * 20

    def model(p: float) -> Any:
        return (
            SCORERS["mmstar"]
            .score(
                [
                    Answer(prediction="A" if rng.random() < p else "B", golds=("A",), category=c)
                    for c in categories
                ]
            )
            .stats
        )

    rule, ids = SCORERS["mmstar"], [str(i) for i in range(80)]
    better, worse = model(0.9), model(0.4)
    found = paired(rule.metrics["average"], better, worse, ids)
    means = [s[:, 0][np.array(categories) == c].mean() for s in (better, worse) for c in ("a", "b")]
    assert found.value == pytest.approx((means[0] + means[1] - means[2] - means[3]) / 2)
    assert 0.02 < found.se < 0.15 and found.p < 0.01
