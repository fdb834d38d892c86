"""Which answers have a manner of writing at all."""

from __future__ import annotations

import pytest

from datagen.routing import is_hard, is_short


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What color is it? Answer in one word.", "red"),
        ("What color is it?\nAnswer the question using a single word or phrase.", "The ball is red."),
        ("Which? Options: A. x B. y. Answer with the letter.", "B"),
        ("Is it red?", "Yes."),
        ("How many?", "12"),
        ("How tall?", "3.5 m"),
        ("Where is it?", "[12, 3, 40, 50]"),
        ("What color is it?", "dark red"),
        ("Provide a one-sentence caption for the provided image.", "A dog runs over the green grass."),
    ],
)
def test_hard(question: str, answer: str) -> None:
    assert is_hard(question, answer)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What color is it?", "The circle is red."),
        ("Is it red?", "Yes, it is red."),
        ("Why is he running?", "Because the bus is about to leave without him"),
        ("How many are there?", "There are 3 of them."),
    ],
)
def test_soft(question: str, answer: str) -> None:
    assert not is_hard(question, answer)


def test_short() -> None:
    assert is_short("dark red") and not is_short("It is red.") and not is_short("one two three four five six")
