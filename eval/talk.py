"""Talks of several turns: MT-Bench's second question follows what the model itself answered to the first.

A row of the benchmark is a turn, with all that the user says up to it in ``meta["turns"]``. Temperatures follow the
question's category, as the authors set them: what is to be invented is drawn, what is to be right is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from datagen.engine import Completion
from datagen.records import Sampling, Turn
from eval.tasks import TASKS, Sample

TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "stem": 0.1,
    "humanities": 0.1,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
}
# Of categories that are not MT-Bench's own.
OTHERWISE = 0.7
Ask = Callable[[tuple[Turn, ...], Sampling], Awaitable[Completion]]


@dataclass(frozen=True, kw_only=True)
class Said:
    """The answer to a talk's last turn, with the talk up to it and the model's own earlier answers in it."""

    turns: tuple[Turn, ...]
    answer: Completion
    earlier: tuple[str, ...]


def is_talk(sample: Sample) -> bool:
    """Whether a sample is a turn of a talk, to be asked by `Talks`."""
    return TASKS[sample.task].benchmark == "mt_bench" and bool(sample.meta.get("turns"))


def sampling_of(sample: Sample) -> Sampling:
    """A task's sampling, with the temperature of the sample's category where it is a talk."""
    sampling = TASKS[sample.task].sampling
    if not is_talk(sample):
        return sampling
    return replace(sampling, temperature=TEMPERATURES.get(sample.category, OTHERWISE))


class Talks:
    """Talks of a chunk with one model. An answer that several turns build on is had once.

    Args:
        ask: gives the model's answer to a conversation, from the engine or from what is known.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._said: dict[tuple[tuple[str, ...], Sampling], asyncio.Task[Said]] = {}

    async def answer(self, asked: Sequence[str], sampling: Sampling) -> Said:
        """The model's answer after ``asked`` by the user, its own answers in between. Raises what ``ask`` raises."""
        key = (tuple(asked), sampling)
        if key not in self._said:
            self._said[key] = asyncio.create_task(self._answer(*key))
        return await self._said[key]

    async def _answer(self, asked: tuple[str, ...], sampling: Sampling) -> Said:
        turns: tuple[Turn, ...] = ()
        earlier: tuple[str, ...] = ()
        if len(asked) > 1:
            before = await self.answer(asked[:-1], sampling)
            earlier = (*before.earlier, before.answer.text.strip())
            turns = (*before.turns, Turn(role="assistant", text=earlier[-1]))
        turns = (*turns, Turn(role="user", text=asked[-1]))
        return Said(turns=turns, answer=await self._ask(turns, sampling), earlier=earlier)
