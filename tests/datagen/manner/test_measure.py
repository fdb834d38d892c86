"""One answer measured with a scripted engine: which prompts are asked, and what ends where."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from datagen.engine import Completion, RequestError, Score
from datagen.manner.config import MannerConfig
from datagen.manner.measure import ROW_SCHEMA, Gauge, refused
from datagen.manner.pairs import Answer
from datagen.manner.prompts import load_manner_prompts
from datagen.records import Turn
from tests.datagen.scripted import ScriptedEngine

PAIR = Answer(
    id="r", turn=3, image="img",
    context=(Turn(role="user", text="One?"), Turn(role="assistant", text="1"), Turn(role="user", text="Two?")),
    before="As depicted, it is large.", after="It is large.",
)  # fmt: skip


class Engine(ScriptedEngine):
    """Remembers what it scored."""

    scored: list[tuple[str, str]]

    async def score(self, prompt: str, continuation: str, *more: Any) -> Score:
        self.scored = [*getattr(self, "scored", []), (prompt, continuation)]
        return await super().score(prompt, continuation, *more)


def measured(
    answer: Answer, script: Callable[[str], str | Completion], **settings: Any
) -> tuple[dict, Engine]:  # type: ignore[type-arg]
    engine = Engine(script)
    gauge = Gauge(
        config=MannerConfig(instructions="x", **settings),
        prompts=load_manner_prompts("full"),
        inner=engine,
        judge=engine,
        lead=" ",
    )
    return asyncio.run(gauge.measure(answer)), engine


def judge(said: str | Callable[[str], str]) -> Callable[[str], str]:
    """Answers questions with a sentence, and the judge's prompt with ``said``."""

    def script(prompt: str) -> str:
        if "Answer A:" not in prompt:
            return "It is small."
        return said if isinstance(said, str) else said(prompt)

    return script


def test_everything_of_one_answer() -> None:
    row, engine = measured(
        PAIR, judge(lambda prompt: "[[B]]" if "Answer A:\nAs depicted" in prompt else "[[A]]")
    )
    assert list(row) == ROW_SCHEMA.names
    assert row["verdict"] == "after" and row["first_shown"] == 1 and row["failure"] == ""
    assert (row["own"], row["own_cut"], row["own_refused"]) == ("It is small.", False, False)
    # Every word costs a nat in the scripted engine.
    assert (row["nll_before"], row["tokens_before"]) == (5.0, 5)
    assert (row["nll_after"], row["nll_own"]) == (3.0, 3.0)
    prompt = "USER: One? ASSISTANT: 1 USER: Two? ASSISTANT:"
    assert set(engine.scored) == {
        (prompt, f" {text}") for text in (PAIR.before, PAIR.after, "It is small.")
    }, "all three texts answer the same plain question"
    own = next(p for p in engine.prompts if "Answer A:" not in p)
    assert "Two?\n\n(The question is about a picture" in own and "<image>" not in own


def test_a_preference_for_a_place_is_no_verdict() -> None:
    row, _ = measured(PAIR, judge("[[A]]"))
    assert (row["verdict"], row["first_shown"]) == ("inconsistent", 2)
    row, _ = measured(PAIR, judge("The first one is nicer."))
    assert (row["verdict"], row["said_after_first"]) == ("unparsed", "The first one is nicer.")


def test_unchanged_answers_are_not_judged() -> None:
    row, engine = measured(replace(PAIR, before=PAIR.after), judge("[[A]]"))
    assert row["verdict"] == "" and len(engine.prompts) == 1
    row, engine = measured(PAIR, judge("[[A]]"), pairwise=False)
    assert row["verdict"] == "" and len(engine.prompts) == 1


def test_no_reference_no_judgement() -> None:
    row, engine = measured(PAIR, lambda prompt: "I'm sorry, I cannot see the image.")
    assert row["own_refused"] and row["verdict"] == "no_reference" and len(engine.prompts) == 1
    row, _ = measured(PAIR, lambda prompt: "  ")
    assert (row["own"], row["nll_own"], row["verdict"]) == ("", None, "no_reference")
    cut, _ = measured(PAIR, lambda prompt: Completion(text="It goes on and", finish_reason="length"))
    assert cut["own_cut"]


def test_what_the_engine_refuses() -> None:
    def too_long(prompt: str) -> str:
        raise RequestError("the prompt is\n too long")

    row, _ = measured(PAIR, too_long)
    assert row["failure"] == "the prompt is too long" and row["nll_before"] is None
    row, _ = measured(PAIR, judge(too_long))
    assert row["failure"] == "" and row["verdict"] == "refused"


def test_the_models_own_answer_is_drawn_by_lineage() -> None:
    seeds = []

    class Seeds(Engine):
        async def complete(
            self, prompt: str, image: Any, image_id: Any, sampling: Any, *more: Any
        ) -> Completion:
            seeds.append(sampling.seed)
            return await super().complete(prompt, image, image_id, sampling, *more)

    config = MannerConfig(instructions="x", pairwise=False)
    engine = Seeds(judge(""))
    gauge = Gauge(config=config, prompts=load_manner_prompts("full"), inner=engine, judge=engine, lead="")
    for answer in (PAIR, PAIR, replace(PAIR, turn=1)):
        asyncio.run(gauge.measure(answer))
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't view the image you mention.",
        "As an AI language model, I have no eyes.",
        "There is no image provided here.",
        "Please upload the picture first.",
        "I am unable to directly see pictures.",
        "I’m not able to view it; I don’t have the ability to see.",
    ],
)
def test_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "The man cannot see the ball.",
        "There is no image on the wall.",
        "You can see a dog that shares a picnic.",
    ],
)
def test_not_refused(text: str) -> None:
    assert not refused(text)


def test_braces_in_data_stay() -> None:
    prompts = load_manner_prompts("full")
    asked = prompts.ask_judge("{first}?", "{second}", "{question}", "b")
    assert "{first}?" in asked and "{second}" in asked and "Answer A:\n{question}" in asked
