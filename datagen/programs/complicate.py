"""Stage 2 of ComVint: a harder question of the same domain, written from a verified one."""

from __future__ import annotations

from datagen.gates.words import added_words
from datagen.parsing import normalise
from datagen.programs.desk import Desk, Step
from datagen.programs.draft import Draft, Ended
from datagen.programs.synthesize import write_pair


def complicate(previous: Draft) -> Step:
    """The step that fills a draft with a harder version of ``previous`` (P_Comp): a new question, longer by no more
    than the prompt set allows (ComVint: 10 to 20 words)."""

    async def step(desk: Desk, draft: Draft) -> None:
        await write_pair(desk, draft, "complicate", source=previous)
        if normalise(draft.question) == normalise(previous.question):
            raise Ended("rejected", "unchanged:complicate")
        limit = desk.prompts.added_words
        if limit is not None and "added_words" in desk.config.gates:
            desk.gate(draft, added_words(previous.question, draft.question, limit))

    return step
