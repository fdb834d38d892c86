"""Verdicts: what is read, what is not, and that a preference for a place can never win."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.manner.judging import combine, parse_choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Both are short. [[A]]", "A"),
        ("[[b]]", "B"),
        ("[[ tie ]]", "tie"),
        ("[[A]], so [[A]]", "A"),
        ("B", "B"),
        (" (a). ", "A"),
        ("Answer: B", "B"),
        ("Verdict: tie", "tie"),
        ("[[A]] or [[B]]", "unparsed"),
        ("A red circle.", "unparsed"),
        ("I prefer A", "unparsed"),
        ("Answer A is better than B", "unparsed"),
        ("yes", "unparsed"),
        ("", "unparsed"),
        ("[[C]]", "unparsed"),
    ],
)
def test_parse_choice(text: str, choice: str) -> None:
    assert parse_choice(text) == choice


def test_combine_by_hand() -> None:
    assert combine("B", "A") == "after"
    assert combine("A", "B") == "before"
    assert combine("tie", "tie") == "tie"
    assert combine("A", "A") == combine("B", "B") == combine("tie", "A") == "inconsistent"
    assert combine("unparsed", "A") == combine("B", "unparsed") == "unparsed"


CHOICE = st.sampled_from(["A", "B", "tie", "unparsed"])
SWAPPED = {"A": "B", "B": "A"}


@settings(deadline=None)
@given(CHOICE, CHOICE)
def test_swapping_the_sides_swaps_the_verdict(one, two) -> None:  # type: ignore[no-untyped-def]
    other = {"after": "before", "before": "after"}
    verdict = combine(one, two)
    assert combine(two, one) == other.get(verdict, verdict)
    if one == two:
        assert verdict not in ("after", "before"), "who always names one place decides nothing"


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_read_or_said_to_be_unreadable(text: str) -> None:
    assert parse_choice(text) in ("A", "B", "tie", "unparsed")
    assert parse_choice(f"{text}[[A]][[B]]") == "unparsed"
