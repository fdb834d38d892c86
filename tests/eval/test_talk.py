"""MT-Bench's talks, with an engine that answers by a rule."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from datagen.engine import Completion, EngineConfig, EngineDead
from datagen.records import Sampling, Turn
from eval.benchmarks.importing import ImportJob, run_import
from eval.config import GoldSet
from eval.generate import Job, answer_chunk
from eval.samples import select
from eval.talk import Said, Talks, is_talk, sampling_of
from eval.tasks import TASKS, Sample
from tests.datagen.scripted import ScriptedEngine
from tests.eval.benchmarks.layouts import jsonl


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


def test_turns_of_an_imported_talk_become_rows(tmp_path: Path) -> None:
    asked = {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Now shorter."]}
    jsonl(tmp_path / "mt/question.jsonl", [asked])
    root = str(tmp_path / "benchmarks")
    run_import(ImportJob(benchmark="mt_bench", sources=(str(tmp_path / "mt"),), output=root))
    gold = GoldSet(benchmarks=root, names=("mt_bench",))
    (chunk,) = select(gold, [TASKS["mt_bench"]], None, 10)
    job = Job(uri="", name="m", revision="r", text="t", gold=gold, engine=EngineConfig())
    rows, _ = asyncio.run(
        answer_chunk(ScriptedEngine(lambda prompt: f" answer {prompt.count('USER:')}"), job, chunk, {})
    )
    first, second = sorted(rows, key=lambda row: row["sample_id"])
    assert [row["state"] for row in (first, second)] == ["accepted", "accepted"]
    assert first["prediction"] == " answer 1" and second["prediction"] == " answer 2"
    assert json.loads(second["meta"])["answers"] == ["answer 1"]
    assert "Write a line." in second["prompt"] and "answer 1" in second["prompt"]
    known = {row["key"]: row for row in rows}
    again, _ = asyncio.run(answer_chunk(ScriptedEngine(lambda prompt: "other"), job, chunk, known))
    assert {row["prediction"] for row in again} == {" answer 1", " answer 2"}, "nothing is asked again"
    assert all(row["reused"] for row in again)
