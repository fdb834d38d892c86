"""The papers' limits on words, where a prompt set states them."""

from __future__ import annotations

from datagen.records import GateResult


def answer_words(answer: str, limit: int) -> GateResult:
    """An answer of fewer than ``limit`` words (ComVint, P_K: fewer than 30)."""
    words = len(answer.split())
    passed = words < limit
    return GateResult(
        name="answer_words", passed=passed, detail="" if passed else f"{words} words, allowed below {limit}"
    )


def added_words(before: str, after: str, limit: int) -> GateResult:
    """A complicated question at most ``limit`` words longer (ComVint, P_Comp: 10 to 20)."""
    added = len(after.split()) - len(before.split())
    passed = added <= limit
    return GateResult(
        name="added_words", passed=passed, detail="" if passed else f"{added} words added, allowed {limit}"
    )
