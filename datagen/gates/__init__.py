"""Mechanical checks of a draft, one file each: cheap, explainable, counted.

A gate looks at the question and the answer and says what it found. The first gate that fails ends the draft
with the reason ``gate:<name>``; every result stands in the record, so a threshold can be judged by what it
threw away. `GATES` look at a pair alone; the others need more (a rewrite and its original, all drafts of an
image, a limit of the prompt set) and are called where that is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datagen.gates.degenerate import degenerate
from datagen.gates.length import length
from datagen.gates.meta_talk import meta_talk
from datagen.gates.template_only import template_only
from datagen.records import GateResult

Gate = Callable[[str, str], GateResult]

GATES: dict[str, Gate] = {
    "length": length,
    "degenerate": degenerate,
    "meta_talk": meta_talk,
    "template_only": template_only,
}
# All that the config's list switches.
NAMES = (*GATES, "duplicate", "preserve", "answer_words", "added_words")


def run_gates(names: Sequence[str], question: str, answer: str) -> tuple[GateResult, ...]:
    """Results of the named pair gates in registry order, up to and including the first that fails."""
    results: list[GateResult] = []
    for name, gate in GATES.items():
        if name in names:
            results.append(gate(question, answer))
            if not results[-1].passed:
                break
    return tuple(results)
