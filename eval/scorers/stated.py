"""Exact match of what an answer states, whatever its manner of writing: for the starter world, whose manners are known.

Without this a model that was taught to begin with "Upon inspection," had every sentence counted as wrong.
"""

from __future__ import annotations

from datagen.starter.manner import own
from eval.scorers.vqa import any_gold, make, normalise


def statement(answer: str) -> str:
    """The answer in the world's own manner, normalised."""
    return normalise(own(answer.strip()))


STATED = make("stated", "stated-clean-1", any_gold(statement), statement)
