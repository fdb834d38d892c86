"""Instructions that would fit every picture: nothing to learn about this one (L2T's task templates)."""

from __future__ import annotations

from datagen.parsing import normalise
from datagen.records import GateResult

TEMPLATES = frozenset(
    normalise(t)
    for t in (
        "Answer the question using a single word or phrase.",
        "Answer with the option's letter from the given choices directly.",
        "Provide a one-sentence caption for the provided image.",
        "Provide a short description for this region.",
        "Provide the bounding box coordinate of the region this sentence describes.",
        "Answer in one word.",
        "Answer with the letter.",
    )
)


def template_only(question: str, answer: str) -> GateResult:
    """The whole question is one of mix-665k's task templates (or the starter's), or echoes itself as the
    answer.
    """
    asked = normalise(question)
    if asked in TEMPLATES or not asked:
        return GateResult(name="template_only", passed=False, detail="the question is only a format template")
    if asked == normalise(answer):
        return GateResult(name="template_only", passed=False, detail="the answer repeats the question")
    return GateResult(name="template_only", passed=True)
