"""MT-Bench's talks, with an engine that answers by a rule."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from datagen.engine import Completion, EngineDead
from datagen.records import Sampling, Turn
from eval.talk import Said, Talks, is_talk, sampling_of
from eval.tasks import TASKS, Sample
from tests.datagen.scripted import ScriptedEngine


def sample(category: str = "writing", task: str = "mt_bench", **meta: Any) -> Sample:
    return Sample(id="1", task=task, image_ids=(), question="q", golds=(), category=category, meta=meta)


def talk_to(engine: ScriptedEngine) -> Talks:
    async def ask(turns: tuple[Turn, ...], sampling: Sampling) -> Completion:
        return await engine.complete(engine.render_chat(turns, has_image=False), None, None, sampling)

    return Talks(ask)


def test_a_second_turn_follows_the_models_own_answer() -> None:
    engine = ScriptedEngine(lambda prompt: f" {prompt.count('USER:')} asked")

    async def both() -> list[Said]:
        talks = talk_to(engine)
        asked = (["Hello?", "And now?"], ["Hello?"], ["Hello?", "And then?"])
        return list(await asyncio.gather(*(talks.answer(a, Sampling()) for a in asked)))

    second, first, other = asyncio.run(both())
    assert first.answer.text == " 1 asked" and first.earlier == ()
    assert second.answer.text == " 2 asked" and second.earlier == other.earlier == ("1 asked",)
    assert [t.text for t in second.turns] == ["Hello?", "1 asked", "And now?"]
    # The first answer was had once, though three rows need it.
    assert sorted(engine.prompts) == sorted([
        "USER: Hello? ASSISTANT:",
        "USER: Hello? ASSISTANT: 1 asked USER: And now? ASSISTANT:",
        "USER: Hello? ASSISTANT: 1 asked USER: And then? ASSISTANT:",
    ])  # fmt: skip


def test_a_dead_engine_ends_the_talk() -> None:
    def die(prompt: str) -> str:
        raise EngineDead("gone")

    async def ask() -> Said:
        return await talk_to(ScriptedEngine(die)).answer(["Hello?", "And?"], Sampling())

    with pytest.raises(EngineDead):
        asyncio.run(ask())


def test_temperatures_follow_the_category_of_talks_alone() -> None:
    turns: dict[str, Any] = {"turns": ["a"]}
    heat = {c: sampling_of(sample(c, **turns)).temperature for c in ("writing", "math", "stem", "unheard-of")}
    assert heat == {"writing": 0.7, "math": 0.0, "stem": 0.1, "unheard-of": 0.7}
    assert sampling_of(sample(**turns)).max_tokens == TASKS["mt_bench"].sampling.max_tokens
    assert not is_talk(sample()) and not is_talk(sample(task="mmhal", **turns))
    assert sampling_of(sample(task="mmhal", **turns)) == TASKS["mmhal"].sampling
