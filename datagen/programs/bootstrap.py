"""Self-bootstrapping (L2T, arXiv 2503.22215, P13): a model that learned p(X_I, X_A | X_V) gets the image
alone, writes an instruction, then answers it.

The paper names no filter and no decoding; gates and verifier are ours, the instruction's decoding is that of
Oasis (arXiv 2503.08741): temperature 1, top-k 20.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from datagen.parsing import ParseError, answer_format, choice_options, parse_text
from datagen.programs.desk import Desk, survives
from datagen.programs.draft import Draft, Ended
from datagen.programs.judged import JUDGED
from datagen.programs.rewrite import align
from datagen.records import Turn

KIND = "self_bootstrap"


def start(desk: Desk) -> list[Draft]:
    """The drafts of an image: all alike, told apart by their seeds."""
    return [desk.first(KIND, k, "instruct") for k in range(desk.config.drafts_per_image)]


async def bootstrap(desk: Desk, draft: Draft) -> AsyncIterator[Draft]:
    """One instruction and its response; the draft yielded has ended."""
    if await survives(desk, draft, instruct, respond, *JUDGED):
        await align(desk, draft)
    yield draft


async def instruct(desk: Desk, draft: Draft) -> None:
    """Let the model go on after the image, up to where its template would begin the answer."""
    engine = desk.engines["generator"]
    end = engine.after_instruction()
    draft.sampling = desk.sampling(draft, "instruct")
    stop = (*draft.sampling.stop, end.rstrip("\n") or end)
    sampling = desk.config.sampling.instruct.model_copy(update={"stop": stop}).at(draft.sampling.seed)
    prompt = engine.render_chat([], has_image=True, cut_after_image=True)
    draft.question = _read(
        draft, await desk.call(draft, "instruct", engine, prompt, sampling, image=True), "instruct"
    )


async def respond(desk: Desk, draft: Draft) -> None:
    """The model's own greedy answer to what it asked."""
    engine = desk.engines["generator"]
    prompt = engine.render_chat([Turn(role="user", text=draft.question)], has_image=True)
    text = await desk.call(draft, "respond", engine, prompt, desk.sampling(draft, "respond"), image=True)
    draft.answer = _read(draft, text, "respond")
    draft.format = answer_format(draft.question, draft.answer)
    if draft.format == "choice":
        draft.options = choice_options(draft.question)
        place = "ABCDEFGH".index(draft.answer.strip("(). ")[0])
        if place >= len(draft.options):
            raise Ended("rejected", "answer:respond")
        draft.answer_index = place


def _read(draft: Draft, text: str, step: str) -> str:
    try:
        return parse_text(text)
    except ParseError as error:
        draft.raw = text
        raise Ended("rejected", f"parse:{step}") from error
