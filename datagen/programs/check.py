"""The mechanical gates, before any call is spent on judging."""

from __future__ import annotations

from datagen.gates import run_gates
from datagen.gates.words import answer_words
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft


async def check(desk: Desk, draft: Draft) -> None:
    """Run the gates that the config names; the first that fails ends the draft with ``gate:<name>``."""
    for result in run_gates(desk.config.gates, draft.question, draft.answer):
        desk.gate(draft, result)
    kind = desk.prompts.kinds.get(draft.kind)
    if kind is not None and kind.answer_words is not None and "answer_words" in desk.config.gates:
        desk.gate(draft, answer_words(draft.answer, kind.answer_words))
