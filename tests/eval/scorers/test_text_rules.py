"""Rules that compare texts or letters: hand-worked cases of each, quirks included."""

from __future__ import annotations

from typing import Any

import pytest

from eval.scorers import SCORERS, Answer
from eval.scorers.ai2d import read_letter as read_ai2d
from eval.scorers.anls import edit_distance, normalise
from eval.scorers.mme import read_lmms, read_mme
from eval.scorers.mmmu import open_right, read_choice, read_open
from eval.scorers.mmstar import read_letter as read_mmstar
from eval.scorers.scienceqa import read_clean, read_llava
from eval.scorers.scienceqa import read_lmms as read_sqa_lmms


def value(scorer: str, metric: str, *answers: Answer) -> float:
    rule = SCORERS[scorer]
    return float(rule.metrics[metric].value(rule.score(list(answers)).stats.sum(axis=0)))


def says(prediction: str, *golds: str, **rest: Any) -> Answer:
    return Answer(prediction=prediction, golds=golds, **rest)


@pytest.mark.parametrize(
    ("text", "lmms", "official"),
    [
        ("Red.", True, True), ("red", True, True), ("R.E.D", True, False), ("red car", False, False),
        ("red...", True, True), ("(red)", True, False), ("", False, False),
    ],
)  # fmt: skip
def test_gqa(text: str, lmms: bool, official: bool) -> None:
    assert value("gqa", "accuracy", says(text, "red")) == lmms
    assert value("gqa_official", "accuracy", says(text, "red")) == official


@pytest.mark.parametrize(
    ("text", "llava", "lmms", "clean"),
    [
        ("B", "B", "B", "B"),
        ("B.", "", "B", ""),  # LLaVA wants the space behind the period
        ("B. because", "B", "B", "B"),
        ("b", "", "", ""),
        ("F. six", "", "F", ""),
        ("The answer is B.", "B", "", "B"),
        ("Well. The answer is B.", "B", "", "B"),
        ("The answer is B", "", "", "B"),  # the rule's period needs any character behind the letter
        ("The answer is B, I think", "B", "", ""),
        ("The answer is Apple", "A", "", ""),  # ... and takes any
        ("The answer is A. The answer is B.", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_scienceqa(text: str, llava: str, lmms: str, clean: str) -> None:
    assert (read_llava(text), read_sqa_lmms(text), read_clean(text)) == (llava, lmms, clean)


def test_scienceqa_tells_questions_with_an_image_from_all() -> None:
    answers = [
        says("A", "A", options=("x", "y")), says("B", "A", options=("x", "y")),
        says("B", "B", options=("x", "y"), meta={"image": False}),
        says("E", "E", options=("x", "y"), meta={"image": False}),  # a letter beyond the choices is none
    ]  # fmt: skip
    assert value("scienceqa", "accuracy", *answers) == 0.5
    assert value("scienceqa", "accuracy_image", *answers) == 0.5
    assert value("scienceqa", "accuracy_image", *answers[:1], *answers[2:]) == 1
    assert value("scienceqa", "unparsed", *answers) == 0.25


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A", "a"), ("(c) red", "c"), ("Option B", "b"), ("The answer is D.", "d"), ("a cat", "a"), ("cat", "c"),
        ("E", ""), ("the answer is: B", ""), ("", ""), ("(", ""), ("\nB", "b"), ("option", ""),
    ],
)  # fmt: skip
def test_mmstar_letters(text: str, read: str) -> None:
    assert read_mmstar(text, 4) == read


def test_mmstar_average_is_the_mean_of_category_means() -> None:
    answers = [says("A", "A", category="count")] * 3 + [says("A", "B", category="count")]
    answers += [says("C", "D", category="math"), says("D", "D", category="math")]
    assert value("mmstar", "average", *answers) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert value("mmstar", "accuracy", *answers) == pytest.approx(4 / 6)


OPTIONS = ("a red dog", "blue", "green", "DNA of a frog")


@pytest.mark.parametrize(
    ("text", "official", "lmms"),
    [
        ("B", "B", "B"), ("B.", "B", "B"), ("(B)", "B", "B"), ("Answer: (A) or rather (C)", "C", "C"),
        ("It is (A), no B", "A", "A"),  # brackets go before bare letters
        ("A or B", "B", "B"), ("DNA ", "", "A"),  # lmms looks for "A ", which words end with too
        ("see A. for details", "", "A"), ("b", "", ""), ("", "", ""),
        ("blue", "", ""),  # too short for the option's text
        ("I would say that it is blue", "B", "B"), ("not blue but I think rather green", "C", "C"),
        ("The DNA here, or so", "", "A"),
    ],
)  # fmt: skip
def test_mmmu_choice(text: str, official: str, lmms: str) -> None:
    assert read_choice(text, OPTIONS) == official
    assert read_choice(text, OPTIONS, lmms=True) == lmms


def test_mmmu_never_draws_an_option() -> None:
    answers = [says("", "A", options=OPTIONS), says("B", "B", options=OPTIONS)]
    assert value("mmmu", "accuracy", *answers) == 0.5
    assert value("mmmu", "accuracy_expected", *answers) == pytest.approx((1 / 4 + 1) / 2)
    assert value("mmmu", "unparsed", *answers) == 0.5


@pytest.mark.parametrize(
    ("text", "golds", "right"),
    [
        ("The answer is 4.5", ("4.5",), True), ("x = 4.504", ("4.5",), True), ("It is 1,234 dollars", ("1234",), True),
        ("about 45", ("4.5",), False), ("The final answer is the Mekong river", ("mekong",), True),
        ("5 m/s", ("5",), True), ("so y is 3\nthus x is 7", ("3",), True), ("a", ("a",), True), ("ab", ("a",), False),
        ("the answer is a b", ("a",), True), ("2e3", ("2000",), True), ("", ("4",), False), ("nan", ("inf",), False),
        ("7", ("8", "7.0"), True),
    ],
)  # fmt: skip
def test_mmmu_open(text: str, golds: tuple[str, ...], right: bool) -> None:
    assert open_right(read_open(text), golds) == right
    answer = says(text, *golds, meta={"question_type": "open"})
    assert value("mmmu", "accuracy_open", answer) == right


def test_mmmu_keeps_the_shortest_tail_and_all_numbers() -> None:
    assert read_open("So the area is 3 x 4 = 12.") == [12.0]
    # 200 is the simple pattern's reading of "1,200".
    assert read_open("the total could be 1,200 or 3") == ["1,200 or 3", 1200.0, 200.0, 3.0]


@pytest.mark.parametrize(
    ("text", "read"),
    [("B. a cat", "b"), ("  C. x", "c"), ("(B)", "b"), ("b", "b"), ("B because", "b because")],
)
def test_ai2d(text: str, read: str) -> None:
    assert read_ai2d(text) == read


def test_ai2d_counts_what_is_no_letter() -> None:
    answers = [says("B. a", "B", options=("a", "b")), says("C", "B", options=("a", "b")), says("cat", "A")]
    assert value("ai2d", "accuracy", *answers) == pytest.approx(1 / 3)
    assert value("ai2d", "unparsed", *answers) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "gold", "official", "clean"),
    [
        ("hello", "hello", 1, 1), ("HELLO", "hello", 1, 1), ("helo", "hello", 0.8, 0.8),
        ("ab", "ac", 0.5, 0.5),  # exactly one half stays
        ("abc", "axy", 0, 0), ("a  b", "a b", 1, 1), ("a  c", "a b", 0.75, 2 / 3), ("", "", 1, 1), ("", "x", 0, 0),
    ],
)  # fmt: skip
def test_anls(text: str, gold: str, official: float, clean: float) -> None:
    assert value("anls", "anls", says(text, gold)) == pytest.approx(official)
    assert value("anls_clean", "anls", says(text, gold)) == pytest.approx(clean)


def test_anls_takes_the_best_gold() -> None:
    assert value("anls", "anls", says("cat", "dog", "cats", "a very long answer")) == pytest.approx(0.75)
    assert normalise(" A\tB\u2028c ") == "a b c"
    assert (
        edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == edit_distance("abc", "") == 3
    )


def test_ocrbench() -> None:
    assert value("ocrbench", "score", says("It says\nSTOP now", "stop now")) == 1
    assert SCORERS["ocrbench"].metrics["score"].scale == 1000
    formula = {"dataset": "HME100k"}
    assert value("ocrbench", "score", says("x ^ 2 + Y", "x^2+Y", meta=formula)) == 1
    assert value("ocrbench", "score", says("x^2+y", "x^2+Y", meta=formula)) == 0
    assert value("ocrbench", "score", says("x ^ 2", "x^2")) == 0
    wide = says("ＡＢＣ　１２", "abc 12")
    assert value("ocrbench", "score", wide) == 0 and value("ocrbench_lmms", "score", wide) == 1


@pytest.mark.parametrize(
    ("text", "official", "lmms"),
    [
        ("Yes", "yes", "yes"), ("know", "no", "no"), ("Not sure", "no", "no"), ("y", "other", "yes"),
        ("  no", "no", "no"), ("   no", "other", "no"), (".yes", "yes", "yes"), ("N.", "other", "no"),
        ("", "other", "other"),
    ],
)  # fmt: skip
def test_mme_reads_four_characters(text: str, official: str, lmms: str) -> None:
    assert (read_mme(text), read_lmms(text)) == (official, lmms)
