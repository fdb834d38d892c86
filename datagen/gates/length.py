"""Too short to ask anything, or too long to be about one thing."""

from __future__ import annotations

from datagen.records import GateResult

QUESTION_WORDS = (2, 120)
ANSWER_WORDS = (1, 300)


def length(question: str, answer: str) -> GateResult:
    """Word counts of question and answer within bounds (ours)."""
    for name, text, (low, high) in (("question", question, QUESTION_WORDS), ("answer", answer, ANSWER_WORDS)):
        words = len(text.split())
        if not low <= words <= high:
            return GateResult(
                name="length", passed=False, detail=f"{name} of {words} words, allowed {low} to {high}"
            )
    return GateResult(name="length", passed=True)
