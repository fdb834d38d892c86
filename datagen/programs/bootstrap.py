"""Self-bootstrapping (L2T, arXiv 2503.22215, P13): a model that learned p(X_I, X_A | X_V) gets the image
alone, writes an instruction, then answers it.

The paper names no filter and no decoding. The instruction's decoding (temperature 1, top-k 20), the refusal
of captions and the four scores are those of Oasis (arXiv 2503.08741); the other gates are *ours*. What a
shard keeps of one kind or of one sentence is limited when it is done, see `datagen.programs.balance`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from datagen.gates import run_gates
from datagen.parsing import ParseError, answer_format, choice_options, normalise, parse_text
from datagen.programs.complicate import complications
from datagen.programs.desk import Desk, survives
from datagen.programs.draft import Draft, Ended
from datagen.programs.evolve import evolutions
from datagen.programs.instruction import asks, first_sentence, kind_of
from datagen.programs.judged import JUDGED
from datagen.programs.rate import rate_instruction
from datagen.programs.rewrite import align

# Of drafts that ended before they had an answer; the others are of the kind that was found in them.
KIND = "self_bootstrap"
# What the verifier says where there is no instruction (Oasis' word).
NO_INSTRUCTION = "NO_INST"
# Gates that can already judge a question without its answer.
OF_QUESTIONS = ("degenerate", "meta_talk", "template_only")


def start(desk: Desk) -> list[Draft]:
    """The drafts of an image: all alike, told apart by their seeds."""
    return [desk.first(KIND, k, "instruct") for k in range(desk.config.drafts_per_image)]


async def bootstrap(desk: Desk, draft: Draft) -> AsyncIterator[Draft]:
    """One instruction and its response, and what is made from them; every draft yielded has ended."""
    if not await survives(desk, draft, instruct, new_here, rate_instruction, respond, *JUDGED):
        yield draft
        return
    verified = [draft]
    if desk.config.bootstrap.further == "complicate":
        async for harder in complications(desk, draft):
            if harder.state is None:
                verified.append(harder)
            else:
                yield harder
    elif desk.config.bootstrap.further == "evolve":
        async for evolved in evolutions(desk, draft):
            yield evolved
    for version in verified:
        await align(desk, version)
        yield version


async def instruct(desk: Desk, draft: Draft) -> None:
    """Let the model go on after the image, up to where its template would begin the answer; or give it the instruction,
    as a control of what its own ones are worth."""
    said = desk.asked[draft.number] = asyncio.get_running_loop().create_future()
    try:
        asked = desk.config.bootstrap.ask
        draft.question = asked[draft.number % len(asked)] if asked else await _continued(desk, draft)
        if "instruction" in desk.config.gates and not asks(draft.question):
            raise Ended("rejected", "no_instruction")
        judging = [
            name for name in OF_QUESTIONS if name in desk.config.gates and name not in desk.config.keep
        ]
        for result in run_gates(judging, draft.question, ""):
            if not result.passed:  # what passes is judged, and noted, with its answer
                desk.gate(draft, result)
    finally:
        said.set_result(normalise(draft.question))


async def _continued(desk: Desk, draft: Draft) -> str:
    engine = desk.engines["generator"]
    end = engine.after_instruction()
    draft.sampling = desk.sampling(draft, "instruct")
    # Without the white space around it: a model that writes a line break where its template has a space ends here too.
    sampling = desk.config.sampling.instruct.model_copy(
        update={"stop": (*draft.sampling.stop, end.strip() or end)}
    ).at(draft.sampling.seed)
    prompt = engine.render_chat(desk.before_user(), has_image=True, cut_after_image=True)
    by_sentence = desk.config.bootstrap.ending == "sentence"
    try:
        text = await desk.call(draft, "instruct", engine, prompt, sampling, image=True)
    except Ended as end:
        # Of a text that was cut only what comes after its first sentence is missing.
        if end.state != "truncated" or not by_sentence or first_sentence(draft.raw) == draft.raw:
            raise
        text, draft.raw = draft.raw, ""
    text = _read(draft, text, "instruct")
    if by_sentence:
        text = first_sentence(text)
    if not desk.config.bootstrap.extract:
        return text
    draft.question = text
    found = _read(draft, await desk.ask(draft, "extract"), "extract")
    if NO_INSTRUCTION in found:
        raise Ended("rejected", "no_instruction")
    return found


async def new_here(desk: Desk, draft: Draft) -> None:
    """End drafts that ask what an earlier draft of the image asks (``repeated:image``), before they cost an
    answer."""
    mine = normalise(draft.question) if "repeated" in desk.config.gates else ""
    for number in range(draft.number):
        if mine and await asyncio.shield(desk.asked[number]) == mine:
            raise Ended("rejected", "repeated:image")


async def respond(desk: Desk, draft: Draft) -> None:
    """The model's own answer to what it asked, greedy unless the config samples it."""
    engine = desk.engines["generator"]
    prompt = engine.render_chat(desk.asking(draft), has_image=True)
    text = await desk.call(draft, "respond", engine, prompt, desk.sampling(draft, "respond"), image=True)
    draft.answer = _read(draft, text, "respond")
    draft.format = answer_format(draft.question, draft.answer)
    draft.kind = kind_of(draft.question, draft.answer, draft.format)
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
