"""Row programs (contract 4): coroutines over one subject that read like the papers' procedures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from datagen.gates.duplicate import reject_duplicates
from datagen.programs import align, bootstrap, comvint, evolve
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft
from datagen.records import Record


@dataclass(frozen=True)
class Program:
    """``start`` makes the drafts of an image; ``follow`` takes one of them, and all made from it, to their
    ends.
    """

    start: Callable[[Desk], list[Draft]]
    follow: Callable[[Desk, Draft], AsyncIterator[Draft]]


PROGRAMS = {
    "comvint": Program(comvint.start, comvint.comvint),
    "bootstrap": Program(bootstrap.start, bootstrap.bootstrap),
    "align": Program(align.start, align.align_conversation),
    "evolve": Program(evolve.start, evolve.evolve),
}


async def run_program(desk: Desk) -> list[Record]:
    """All records of one image, in lineage order whatever finished first. Drafts run side by side."""
    program = PROGRAMS[desk.config.program]

    async def follow(draft: Draft) -> list[Draft]:
        return [ended async for ended in program.follow(desk, draft)]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(draft)) for draft in program.start(desk)]
    drafts = [draft for task in tasks for draft in task.result()]
    # By round, not by the moment of ending: an original comes before what was made from it, so of two equal
    # rows the earlier version is the one that stays.
    order = {"instruct": 0, "synthesize": 0, "seed": 0, "align": 0, "complicate": 1}
    drafts.sort(key=lambda d: (d.round, order.get(d.step, 2)))
    records = [desk.record(draft) for draft in drafts]
    if "duplicate" not in desk.config.gates:
        return records
    return reject_duplicates(records, frozenset(draft.id for draft in drafts if draft.origin))


def fail_all(desk: Desk, stage: str, why: str) -> list[Record]:
    """The drafts of a subject that nothing can be asked about, all ``failed: <stage>``: the books still
    balance.
    """
    drafts = PROGRAMS[desk.config.program].start(desk)
    for draft in drafts:
        draft.raw = why
        draft.end("failed", stage)
    return [desk.record(draft) for draft in drafts]
