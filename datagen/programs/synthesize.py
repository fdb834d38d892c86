"""Stage 1 of ComVint: write a question about the image together with its answer."""

from __future__ import annotations

from datagen.parsing import ParseError, answer_format, parse_pair, parse_pairs
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft, Ended


async def synthesize(desk: Desk, draft: Draft) -> None:
    """Fill an empty draft (P_C, P_K); where one call writes several pairs, this draft takes the one in its place."""

    def own_pair(text: str) -> tuple[str, str]:
        pairs = parse_pairs(text)
        if len(pairs) <= draft.place:
            raise ParseError(f"{len(pairs)} pairs, not {draft.place + 1}")
        return pairs[draft.place]

    if desk.config.pairs_per_call == 1:
        fill(draft, *await desk.read(draft, "synthesize", parse_pair))
        return
    try:
        fill(draft, *await desk.read(draft, "synthesize", own_pair))
    except Ended as end:
        if end.state != "truncated" or len(whole := _whole_pairs(draft.raw)) <= draft.place:
            raise
        draft.raw = ""
        fill(draft, *whole[draft.place])


def _whole_pairs(cut: str) -> list[tuple[str, str]]:
    """The pairs of a text that was cut, without the last, which nobody knows to be whole."""
    try:
        return parse_pairs(cut)[:-1]
    except ParseError:
        return []


async def write_pair(desk: Desk, draft: Draft, step: str, *, source: Draft) -> None:
    """Ask for ``Question: … Answer: …`` about ``source`` and fill ``draft`` with it.

    Raises:
        Ended: ``rejected: parse:<step>`` where no attempt had that form.
    """
    pair = await desk.read(draft, step, parse_pair, question=source.question, answer=source.answer)
    fill(draft, *pair)


def fill(draft: Draft, question: str, answer: str) -> None:
    """Put a new exchange into a draft."""
    draft.question, draft.answer = question, answer
    draft.format = answer_format(question, answer)
