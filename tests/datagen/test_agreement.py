"""Same or not, decided without a model: hand-worked pairs, and what must hold for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.agreement import agree


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("red", "Red.", True),
        ("red", "The ball is red.", True),
        ("red", "Red: the ball is red.", True),
        ("blue", "The ball is red.", False),
        ("yes", "Yes, there is a ball.", True),
        ("yes", "No, there is no ball.", False),
        ("2", "There are two balls.", True),
        ("There are 2 balls.", "There are two balls.", True),
        ("The small ball is left of the box.", "The small ball is not left of the box.", False),
        ("[1, 2, 3, 4]", "[1, 2, 3, 5]", False),
        ("", "", True),
        ("", "red", False),
        ("A man rides a horse through a river.", "A man on a horse crosses a stream.", False),
    ],
)
def test_pairs(one: str, other: str, same: bool) -> None:
    assert agree(one, other) is same
    assert agree(other, one) is same


@given(st.text(max_size=60), st.text(max_size=60))
def test_symmetric_and_reflexive(one: str, other: str) -> None:
    assert agree(one, one)
    assert agree(one, other) == agree(other, one)
