"""Reading models' texts: the starter's form, strong models' forms, and nonsense."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.parsing import (
    ParseError,
    answer_format,
    choice_options,
    parse_options,
    parse_pair,
    parse_text,
    parse_verdict,
    parse_yes_no,
)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Question: How many? Answer: 2", ("How many?", "2")),
        ("**Question 1:** How\nmany?\n**Answer:** Two of\nthem.", ("How many?", "Two of them.")),
        (
            "Sure!\n- Complicated Instruction: Why? \nComplicated Answer: Because.\nKnowledge Type: visual",
            ("Why?", "Because."),
        ),
        ("question: A? answer: b Question: C? Answer: d", ("A?", "b")),
        ("Question: Where? Answer: [1, 2, 3, 4]", ("Where?", "[1, 2, 3, 4]")),
    ],
)  # fmt: skip
def test_pairs(text: str, pair: tuple[str, str]) -> None:
    assert parse_pair(text) == pair


@pytest.mark.parametrize(
    "text", ["", "Question: What?", "Answer: 2", "Question: Answer: 2", "Question: A? Answer: "]
)
def test_no_pair(text: str) -> None:
    with pytest.raises(ParseError):
        parse_pair(text)


@pytest.mark.parametrize(
    ("text", "result", "evidence"),
    [
        ("Evidence: The ball is red. Verdict: yes", "yes", "The ball is red."),
        ("Judgement evidence: It says so.\n**Judgement result**: No.", "no", "It says so."),
        ("Verdict: yes? I look again. Verdict: no", "no", "Verdict: yes? I look again."),
        ("no", "no", ""),
        ("Yes.", "yes", ""),
        ("The answer is nowhere.", "unparsed", "The answer is nowhere."),
        ("", "unparsed", ""),
    ],
)
def test_verdicts(text: str, result: str, evidence: str) -> None:
    verdict = parse_verdict(text)
    assert (verdict.result, verdict.evidence) == (result, evidence)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Options: red, green, blue", ["red", "green", "blue"]),
        ("Options:\nB. a red, round ball.\nC. a box\nD) a cat", ["a red, round ball", "a box", "a cat"]),
        ("- one\n- two\n- two", ["one", "two"]),
        ("Options: [1, 2, 3, 4], [5, 6, 7, 8]", ["[1, 2, 3, 4]", "[5, 6, 7, 8]"]),
    ],
)
def test_options(text: str, options: list[str]) -> None:
    assert parse_options(text) == options


def test_yes_no_and_text() -> None:
    assert parse_yes_no("Yes, nothing was added.") == (True, "nothing was added.")
    assert parse_yes_no("no") == (False, "")
    with pytest.raises(ParseError):
        parse_yes_no("Nothing was added.")
    assert parse_text(' "The ball\n is red." ') == "The ball is red."
    with pytest.raises(ParseError):
        parse_text(" \n")


def test_choice_turns() -> None:
    starter = "What color? Options: A. red B. blue C. dark green D. black. Answer with the letter."
    assert choice_options(starter) == ("red", "blue", "dark green", "black")
    llava = (
        "What color?\nA. red\nB. dark blue\nAnswer with the option's letter from the given choices directly."
    )
    assert choice_options(llava) == ("red", "dark blue")
    assert choice_options("Is Dr. A. Smith here?") == ()
    assert answer_format(starter, "C") == "choice"
    assert answer_format(starter, "red") == "open"
    assert answer_format("Is it?", "Yes, it is.") == "bool"
    assert answer_format("What?", "Nothing.") == "open"


@given(st.text(alphabet=st.sampled_from("ABab.:,[]*\n Question Answer Options Verdict yes no"), max_size=200))
def test_nothing_but_parse_errors(text: str) -> None:
    for parse in (parse_pair, parse_options, parse_yes_no, parse_text):
        with contextlib.suppress(ParseError):
            parse(text)  # type: ignore[operator]
    parse_verdict(text)
    choice_options(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Evidence: I see red, the answer says red. Verdict: no", "yes"),
        ("Evidence: I see red, the answer says Red. Verdict: yes", "yes"),
        ("Evidence: I see red, the answer says blue. Verdict: yes", "no"),
        ("Evidence: I see [1, 2, 3, 4], the answer says [1, 2, 3, 5]. Verdict: yes", "no"),
        ("Evidence: There is no star. Verdict: no", "no"),
        ("I see red, the answer says red.", "unparsed"),
    ],
)
def test_evidence_that_states_both_values_decides(text: str, result: str) -> None:
    assert parse_verdict(text, r"I see (?P<seen>.+), the answer says (?P<said>.+)\.").result == result
