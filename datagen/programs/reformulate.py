"""Stage 3 of ComVint: a verified open question also as a yes/no pair and as a multiple choice."""

from __future__ import annotations

import random
from collections.abc import Iterator

from datagen.parsing import ParseError, choice_options, normalise, parse_options
from datagen.programs.desk import Desk, Step
from datagen.programs.draft import Draft, Ended
from datagen.programs.synthesize import write_pair
from datagen.routing import is_short

LETTERS = "ABCD"


def reformulations(desk: Desk, draft: Draft) -> Iterator[list[tuple[Draft, Step]]]:
    """New drafts from a verified one, each with the step that fills it: the two sides of a yes/no pair, which stand
    or fall together so that yes and no stay balanced, and a choice. Which drafts get them is a seeded share.
    """
    kind, shares = desk.prompts.kinds.get(draft.kind), desk.config.reformulate
    if kind is None or draft.format == "choice" or choice_options(draft.question):
        return
    if kind.boolean and draft.format == "open" and desk.coin(draft, "bool", shares.bool_share):
        yield [(desk.derive(draft, f"bool_{side}"), as_bool(draft, side)) for side in ("yes", "no")]
    short_enough = is_short(draft.answer) or not desk.prompts.choice_of_short_answers
    if (
        kind.choice
        and draft.format == "open"
        and short_enough
        and desk.coin(draft, "choice", shares.choice_share)
    ):
        yield [(desk.derive(draft, "choice", kind="choice"), as_choice(draft))]


def as_bool(source: Draft, wanted: str) -> Step:
    """A question of the same fact whose answer is ``yes``, or of a minimally different one whose answer is
    ``no``.
    """

    async def step(desk: Desk, draft: Draft) -> None:
        name = f"bool_{wanted}"
        await write_pair(desk, draft, name, source=_plain(desk, source))
        if normalise(draft.answer).split()[:1] != [wanted]:
            raise Ended("rejected", f"answer:{name}")
        draft.answer, draft.format = wanted, "bool"

    return step


def as_choice(source: Draft) -> Step:
    """The same question with three wrong options; the right one's place is drawn from the draft's seed (the
    paper generates it always first).
    """

    async def step(desk: Desk, draft: Draft) -> None:
        plain, right = _plain(desk, source), normalise(source.answer)

        def wrong_options(text: str) -> list[str]:
            wrong = {normalise(o): o for o in parse_options(text) if normalise(o) != right}
            if len(wrong) < len(LETTERS) - 1:
                raise ParseError(f"{len(wrong)} different wrong options")
            return list(wrong.values())

        wrong = await desk.read(draft, "choice", wrong_options, question=plain.question, answer=plain.answer)
        options = [source.answer.rstrip("."), *wrong[: len(LETTERS) - 1]]
        order = random.Random(draft.sampling.seed).sample(range(len(options)), len(options))
        draft.options = tuple(options[i] for i in order)
        draft.answer_index = order.index(0)
        draft.question = desk.prompts.with_options(source.question, draft.options)
        draft.answer, draft.format = LETTERS[draft.answer_index], "choice"

    return step


def _plain(desk: Desk, source: Draft) -> Draft:
    # The source without its format clause, for the prompt alone.
    plain = Draft(id=source.id, image_ids=source.image_ids, kind=source.kind)
    plain.question, plain.answer = desk.prompts.plain(source.question), source.answer
    return plain
