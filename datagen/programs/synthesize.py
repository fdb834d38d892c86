"""Stage 1 of ComVint: write a question about the image together with its answer."""

from __future__ import annotations

from datagen.parsing import ParseError, answer_format, parse_pair
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft, Ended


async def synthesize(desk: Desk, draft: Draft) -> None:
    """Fill an empty draft (P_C, P_K)."""
    await write_pair(desk, draft, "synthesize", source=draft)


async def write_pair(desk: Desk, draft: Draft, step: str, *, source: Draft) -> None:
    """Ask for ``Question: … Answer: …`` about ``source`` and read it into ``draft``.

    Raises:
        Ended: ``rejected: parse:<step>`` where the text has another form.
    """
    draft.question, draft.answer = source.question, source.answer
    try:
        text = await desk.ask(draft, step)
    finally:
        # What stands there is the parent's: it is not this draft's question until the model has written one.
        draft.question = draft.answer = ""
    draft.sampling = desk.sampling(draft, step)
    try:
        draft.question, draft.answer = parse_pair(text)
    except ParseError as error:
        draft.raw = text
        raise Ended("rejected", f"parse:{step}") from error
    draft.format = answer_format(draft.question, draft.answer)
