"""Writing-manner alignment of an instruction set that a user already has (arXiv 2503.18320): every soft-format answer
of every conversation, one at a time; questions, order and images stay as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from datagen.programs.desk import Desk
from datagen.programs.draft import Draft
from datagen.programs.rewrite import rewritten, wants_rewrite
from datagen.records import GateResult, Turn


def start(desk: Desk) -> list[Draft]:
    """The imported conversations."""
    return [desk.adopt(record, "align") for record in desk.subject.records]


async def align_conversation(desk: Desk, draft: Draft) -> AsyncIterator[Draft]:
    """The same conversation in the inner LLM's manner. It ends as ``accepted``, or as ``kept_original`` where an
    answer that should have been rewritten was not; no conversation is ever lost to this program."""
    turns, outcomes = list(draft.turns), []
    places = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    for place in places:
        draft.question = next((t.text for t in reversed(turns[:place]) if t.role == "user"), "")
        draft.answer = turns[place].text
        if not wants_rewrite(desk, draft):
            continue
        result = await rewritten(desk, draft)
        outcomes.append(result.outcome)
        if result.outcome == "accepted":
            original = draft.answer if len(places) == 1 else f"{place}\t{draft.answer}"
            draft.gates.append(GateResult(name="original_answer", passed=True, detail=original))
            turns[place] = replace(turns[place], text=result.answer)
    _restore(draft, turns)
    draft.rewrite = next((o for o in ("fallback", "accepted", "kept") if o in outcomes), "")
    draft.end("kept_original" if "fallback" in outcomes else "accepted")
    yield draft


def _restore(draft: Draft, turns: list[Turn]) -> None:
    draft.turns, draft.raw = tuple(turns), ""
    draft.question = next((t.text for t in turns if t.role == "user"), "")
    draft.answer = next((t.text for t in turns if t.role == "assistant"), "")
