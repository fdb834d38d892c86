"""Sentences, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.manner.style import STATISTICS, sentence_lengths, sentences, statistics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("It costs 3.50 dollars. Cheap.", ["It costs 3.50 dollars.", "Cheap."]),
        ("Dr. Smith saw J. Doe, e.g. here. Then?", ["Dr. Smith saw J. Doe, e.g. here.", "Then?"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("1. A cat.\n2. A dog.\n\n- a bird", ["1. A cat.", "2. A dog.", "- a bird"]),
        ("Yes... and no.", ["Yes...", "and no."]),
        ("So do I. You too.", ["So do I.", "You too."]),
        ("There are 3. They are red.", ["There are 3.", "They are red."]),
        ("Wait (really?) yes.", ["Wait (really?)", "yes."]),
        ("...", []),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_statistics_by_hand() -> None:
    found = statistics("The cat sees the dog. It runs.")
    assert found == {
        "words_per_sentence": 3.5,
        "sentences_per_answer": 2.0,
        "words_per_answer": 7.0,
        "letters_per_word": pytest.approx((3 + 3 + 4 + 3 + 3 + 2 + 4) / 7),
        "type_token_ratio": pytest.approx(6 / 7),
    }
    assert statistics(" … ") == dict.fromkeys(STATISTICS, 0.0)
    assert sentence_lengths(["One two. Three", "", "Four five six."]) == [2, 1, 3]


@settings(deadline=None)
@given(st.text(alphabet="aB .!?\n\"'1e.g", max_size=60))
def test_no_word_is_lost(text: str) -> None:
    found = statistics(text)
    assert sum(sentence_lengths([text])) == found["words_per_answer"]
    assert 0.0 <= found["type_token_ratio"] <= 1.0
