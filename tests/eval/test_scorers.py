"""Scorers: hand-worked cases of each rule with its quirks, and properties that hold for any text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.starter.manner import FOREIGN
from eval.scorers import SCORERS, Answer
from eval.scorers.chair import object_names, synonym_mentions
from eval.scorers.chart import clean, relaxed
from eval.scorers.choice import read_letter
from eval.scorers.grounding import iou, read_box
from eval.scorers.mme import read_mme
from eval.scorers.vqa import accuracy_strict_official, agreement, normalise, normalise_m4c
from eval.scorers.yesno import read_pope


def value(scorer: str, metric: str, *answers: Answer) -> float:
    rule = SCORERS[scorer]
    stats = rule.score(list(answers)).stats
    return float(rule.metrics[metric].value(stats.sum(axis=0)))


def says(prediction: str, *golds: str, **rest: object) -> Answer:
    return Answer(prediction=prediction, golds=golds, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat.", "cat"),
        ("two", "2"),
        ("None", "0"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),  # only one apostrophe may be missing
        ("couldnt've", "couldn't've"),
        ("1,000", "1000"),  # a comma between digits removes all punctuation
        ("red-blue", "red blue"),
        ("red -blue", "red blue"),  # touches a space: removed
        ("3.5", "3.5"),  # a digit follows the period
        ("3. 5", "3 5"),
        ("a.b", "ab"),  # the rule's typo: any period that no digit follows
        ("yes\nno\tmaybe", "yes no maybe"),
        ("." * 40, "." * 8),  # at most 32 periods: the flag passed as count
    ],
)
def test_vqa_normaliser_follows_the_official_quirks(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize("manner", FOREIGN)
def test_what_is_stated_counts_in_any_manner(manner: str) -> None:
    said = manner.format("the circle is red.")
    assert value("stated", "accuracy", says(said, "The circle is red.")) == 1
    assert (
        value("stated", "accuracy", says(said, "The circle is blue."), says("red", "The circle is red.")) == 0
    )


def test_m4c_splits_possessives_and_drops_commas_first() -> None:
    assert normalise_m4c("Joe's, bar?") == "joe 's bar"


def test_vqa_accuracy_leaves_one_annotator_out() -> None:
    golds = ["red"] * 3 + ["blue"] * 7
    # Of the three who said red, each sees two others: 2/3; the other seven see three: 1.
    assert agreement("red", golds) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert agreement("green", golds) == 0


def test_strict_official_normalises_only_where_annotators_disagree() -> None:
    assert accuracy_strict_official("Yes", ["yes"] * 10) == 0
    assert accuracy_strict_official("Yes", ["yes"] * 9 + ["no"]) == 1
    assert value("vqa", "accuracy", says("Yes", *["yes"] * 10)) == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("no", "no"), ("No, there is not.", "no"), ("NO", "yes"), ("isn't", "yes"), ("Yes. no", "yes"), ("", "yes"),
        ("There is not a cat", "no"), ("None", "yes"),
    ],
)  # fmt: skip
def test_pope_reads_as_the_authors_do(text: str, read: str) -> None:
    assert read_pope(text) == read


@pytest.mark.parametrize(
    ("text", "read"),
    [("Yes", "yes"), ("know", "no"), ("Not sure", "no"), ("maybe", "other"), ("  yes", "other")],
)
def test_mme_looks_at_four_characters(text: str, read: str) -> None:
    assert read_mme(text) == read


def test_pope_counts_predictions_not_truth_in_the_yes_ratio() -> None:
    answers = [says("yes", "yes"), says("yes", "no"), says("yes", "no"), says("no", "yes")]
    assert value("pope", "yes_ratio", *answers) == 0.75
    assert value("pope", "precision", *answers) == pytest.approx(1 / 3)
    assert value("pope", "recall", *answers) == 0.5
    assert value("pope", "f1", *answers) == pytest.approx(0.4)
    assert value("pope", "unparsed", says("maybe", "yes"), says("Yes", "yes")) == 0.5


def test_mme_plus_needs_both_questions_of_an_image() -> None:
    answers = [
        says("yes", "yes", group="a"), says("no", "no", group="a"),
        says("yes", "yes", group="b"), says("yes", "no", group="b"),
    ]  # fmt: skip
    assert value("mme", "accuracy", *answers) == 0.75
    assert value("mme", "accuracy_plus", *answers) == 0.5
    assert value("mme", "score", *answers) * 100 == 125


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("B", "B"), ("b", "B"), ("B. red", "B"), ("(C) blue", "C"), ("The answer is D.", "D"),
        ("The answer is A. The answer is B.", ""), ("red", "A"), ("A red one", ""), ("", ""),
    ],
)  # fmt: skip
def test_choice_letters(text: str, read: str) -> None:
    assert read_letter(text, ("red", "blue", "a cat", "4")) == read


def test_chart_rule_and_its_repair() -> None:
    assert relaxed("104", "100") and not relaxed("106", "100")
    assert relaxed("2010", "2008") and relaxed("5%", "0.05") and not relaxed("5%", "5")
    assert not relaxed("0.0", "0.01") and relaxed("Yes", "yes")
    assert not relaxed("Yes.", "Yes") and relaxed(clean("Yes."), "Yes")
    assert relaxed(clean("1,200."), "1200")
    assert relaxed("0", "0") and not relaxed("0.0", "0")  # a target of 0 is compared as text


def test_boxes() -> None:
    assert read_box("it is at [1, 2, 3.5, .5].") == (1, 2, 3.5, 0.5)
    assert read_box("(0.1,0.2,0.3,0.4)") == (0.1, 0.2, 0.3, 0.4)
    assert read_box("[1, 2, 3]") is None
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((2, 2, 0, 0), (0, 0, 2, 2)) == 0
    assert value("grounding", "accuracy@0.5", says("[0, 0, 2, 2]", "[0, 0, 2, 1]")) == 1


def test_chair_counts_mentions_and_captions() -> None:
    answers = [
        says(
            "Large red circle at row 1, small blue star at row 2, a blue star.", "", objects=("red circle",)
        ),
        says("A red circle and a sign.", "", objects=("red circle", "sign")),
        says("circles", "", objects=("red circle",)),
    ]
    assert value("chair_starter", "chair_i", *answers) == pytest.approx(2 / 6)
    assert value("chair_starter", "chair_s", *answers) == pytest.approx(1 / 3)
    assert value("chair_starter", "recall", *answers) == pytest.approx(3 / 4)
    assert math.isnan(value("chair_starter", "chair_i", says("nothing here", "", objects=())))


def test_object_names_and_synonyms() -> None:
    named = object_names([("circle", ("large", "red")), ("sign", ("cat",))], ("red", "blue"))
    assert named == ("red circle", "sign")
    mentions = synonym_mentions({"dog": "dog", "puppy": "dog", "hot dog": "food", "glass": "cup"})
    assert mentions("Two dogs, a hot dog and glasses; a puppy") == ["dog", "food", "cup", "dog"]


TEXTS = st.text(max_size=60)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SCORERS)), TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_any_text_is_scored_within_bounds(scorer: str, prediction: str, golds: list[str]) -> None:
    rule = SCORERS[scorer]
    answers = [says(prediction, *golds, options=tuple(golds), group="a"), says("", *golds, group="b")]
    scored = rule.score(answers)
    assert scored.stats.shape == (2, len(rule.columns)) and len(scored.parsed) == 2
    assert np.isfinite(scored.stats).all()
    for name, metric in rule.metrics.items():
        result = float(metric.value(scored.stats.sum(axis=0)))
        limit = 10.0 if name == "cider" else 2.0 if name == "score" else 1.0
        assert math.isnan(result) or -1e-9 <= result <= limit + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_metrics_do_not_depend_on_order(order: list[int]) -> None:
    texts = ["a red cat", "a dog on a mat", "two cats", "", "the sky is blue", "a dog"]
    answers = [says(texts[i], texts[i - 1], texts[i]) for i in range(6)]
    for scorer in ("captions", "stated", "vqa", "pope", "choice"):
        rule = SCORERS[scorer]
        straight = rule.score(answers).stats.sum(axis=0)
        mixed = rule.score([answers[i] for i in order]).stats.sum(axis=0)
        assert np.allclose(straight, mixed)


PERFECT = {
    "vqa": ("red", "red"), "vqa_m4c": ("red", "red"), "vqa_strict": ("red", "red"),
    "stated": ("Upon inspection, red.", "red"), "pope": ("No, it is not.", "no"),
    "mme": ("Yes", "Yes"), "choice": ("B", "B"),
    "grounding": ("[1, 1, 4, 4]", "[1, 1, 4, 4]"), "chart": ("3", "3"), "chart_clean": ("3.", "3"),
}  # fmt: skip


@pytest.mark.parametrize("scorer", sorted(PERFECT))
def test_a_perfect_answer_is_the_maximum(scorer: str) -> None:
    prediction, gold = PERFECT[scorer]
    best = 2.0 if scorer == "mme" else 1.0
    assert value(scorer, SCORERS[scorer].primary, says(prediction, gold, group="i")) == best
