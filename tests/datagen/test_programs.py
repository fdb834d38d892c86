"""Programs on scripted models: every terminal state can be reached, and whatever a model writes, each draft
ends in exactly one record.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import DatagenConfig
from datagen.corpus import to_table
from datagen.engine import Completion, EngineDead, RequestError, ScriptedEngine
from datagen.programs.draft import outcome
from datagen.prompts import load_prompts
from datagen.records import ACCEPTED_STATES, Record, from_table
from datagen.shard import ShardResult, ShardRunner
from tests.datagen.conftest import row

Script = Callable[[str], str | Completion]

GOOD = {
    "Write a": "Question: What color is the ball? Answer: red",
    "Make this harder": "Question: What color is the leftmost ball? Answer: One can see the ball is red.",
    "Check this": "Evidence: The ball is red. Verdict: yes",
    "Make a yes": "Question: Is the ball red? Answer: yes",
    "Make a no": "Question: Is the ball blue? Answer: no",
    "Make wrong": "Options: blue, green, black",
    "Rewrite the": "The ball is red.",
    "Same meaning": "yes",
    "USER: <image>\n": "What is in the picture?",
}


def script(**changes: str | Completion | Callable[[str], str | Completion]) -> Script:
    """A model that does well, but for ``changes`` by the first word of the prompt."""

    def answer(prompt: str) -> str | Completion:
        for start, said in changes.items():
            if start.replace("_", " ") in prompt:
                return said(prompt) if callable(said) else said
        for start, text in GOOD.items():
            if start in prompt and (start != "USER: <image>\n" or prompt == start):
                return text
        return "A ball."

    return answer


def run(model: Script, images: int = 1, **config: object) -> ShardResult:
    """A shard of good rows through a program."""
    settings: dict[str, object] = {
        "corpus": "c",
        "output": "o",
        "drafts_per_image": 2,
        "kinds": ("color", "ocr"),
        "reformulate": {"bool_share": 1, "choice_share": 1},
        **config,
    }
    engine = ScriptedEngine(model)
    runner = ShardRunner(
        config=DatagenConfig.model_validate(settings),
        prompts=load_prompts("starter"),
        engines={"generator": engine, "verifier": engine, "inner": engine},
        revision="scripted",
        admission=asyncio.Semaphore(2),
    )
    return asyncio.run(runner.run(0, to_table([row(i) for i in range(images)])))


def states(result: ShardResult) -> set[str]:
    return set(result.counts())


def by_step(result: ShardResult, **wanted: object) -> list[Record]:
    return [r for r in result.records if all(getattr(r, k) == v for k, v in wanted.items())]


def test_the_paper_s_procedure() -> None:
    result = run(script(), kinds=("color",), drafts_per_image=1)
    # The draft and its complication, a yes and a no for each, and a choice for the one with a short answer.
    assert result.started == 7
    first = by_step(result, round=0, format="open")[0]
    harder = by_step(result, round=1, format="open")[0]
    assert harder.parents == (first.id,)
    assert first.verdict is not None and first.verdict.evidence == "The ball is red."
    assert first.rewrite == "" and first.answer == "red", "a hard-format answer is not rewritten"
    assert harder.rewrite == "accepted" and harder.answer == "The ball is red."
    original = [g.detail for g in harder.gates if g.name == "original_answer"]
    assert original == ["One can see the ball is red."]
    choice = by_step(result, format="choice")[0]
    assert sorted(choice.options) == ["black", "blue", "green", "red"]
    assert choice.answer_index is not None and choice.options[choice.answer_index] == "red"
    assert choice.answer == "ABCD"[choice.answer_index]
    assert choice.question.endswith("Answer with the letter.") and "B. " in choice.question
    assert Counter(r.answer for r in result.records if r.format == "bool") == {"yes": 2, "no": 2}
    # The second round's yes/no pair says the same as the first's.
    assert result.counts() == {"accepted": 5, "rejected:duplicate": 2}


def test_ids_and_texts_do_not_depend_on_timing() -> None:
    once, again = run(script(), images=3), run(script(), images=3)
    assert [(r.id, r.state, r.answer) for r in once.records] == [
        (r.id, r.state, r.answer) for r in again.records
    ]
    assert {r.id for r in once.records}.isdisjoint({r.id for r in run(script(), seed=1).records})


def test_a_failed_complication_leaves_the_verified_version() -> None:
    result = run(script(Check_this=lambda p: "Verdict: no" if "leftmost" in p else "Verdict: yes"), rounds=2)
    harder = [r for r in result.records if r.round > 0]
    assert {outcome(r.state, r.reason) for r in harder} == {"rejected:unverified"}
    assert len(harder) == 4, "each of two drafts tried twice, both times from the last verified version"
    assert any(r.round == 0 and r.state == "accepted" for r in result.records)


def test_every_terminal_state() -> None:
    cut = Completion(text="Question: What", finish_reason="length")

    def refuse(prompt: str) -> str:
        raise RequestError("prompt too long")

    nonsense = "¯\\_(ツ)_/¯"
    reached = {
        "rejected:parse:synthesize": script(Write_a=nonsense),
        "truncated:synthesize": script(Write_a=cut),
        "failed:synthesize": script(Write_a=refuse),
        "failed:verify": script(Check_this=Completion(text="", finish_reason="abort")),
        "rejected:gate:length": script(Write_a="Question: Ball? Answer: red"),
        "rejected:gate:degenerate": script(Write_a="Question: red red red red red? Answer: red"),
        "rejected:gate:meta_talk": script(Write_a="Question: What do the captions say? Answer: red"),
        "rejected:gate:template_only": script(Write_a="Question: Answer in one word. Answer: red"),
        "rejected:unverified": script(Check_this="Evidence: The ball is blue. Verdict: no"),
        "rejected:parse:verify": script(Check_this=nonsense),
        "truncated:verify": script(Check_this=cut),
        "rejected:parse:complicate": script(Make_this_harder=nonsense),
        "rejected:unchanged:complicate": script(Make_this_harder=GOOD["Write a"]),
        "rejected:parse:bool_yes": script(Make_a_yes=nonsense),
        "rejected:answer:bool_yes": script(Make_a_yes="Question: Is it red? Answer: no"),
        "rejected:answer:bool_no": script(Make_a_no="Question: Is it red? Answer: red"),
        "rejected:parse:choice": script(Make_wrong="Options: ,"),
        "rejected:options:choice": script(Make_wrong="Options: blue, blue, green"),
        "rejected:duplicate": script(),
        "kept_original": script(Same_meaning="no"),
    }
    for state, model in reached.items():
        assert state in states(run(model)), state
    raw = by_step(run(script(Write_a=nonsense)), reason="parse:synthesize")[0]
    assert [t.text for t in raw.conversation if t.role == "draft"] == [nonsense], "what was written is kept"
    assert raw.question == "" and raw.answer == ""


def test_rewrite_outcomes() -> None:
    soft = "Question: What color is the ball? Answer: One can see that the ball is red."
    only = {"rounds": 0, "reformulate": {"bool_share": 0, "choice_share": 0}, "drafts_per_image": 1}
    kept = run(script(Write_a=soft, Rewrite_the="One can see that the ball is red."), **only).records[0]
    assert (kept.state, kept.rewrite) == ("accepted", "kept")
    lost = run(script(Write_a=soft, Rewrite_the="The ball is blue."), **only).records[0]
    assert (lost.state, lost.rewrite, lost.answer) == (
        "kept_original",
        "fallback",
        "One can see that the ball is red.",
    )
    assert [g.passed for g in lost.gates if g.name == "preserve"] == [False, False], "one retry"
    tries = itertools.count()
    second = run(
        script(Write_a=soft, Rewrite_the=lambda p: "" if next(tries) == 0 else "The ball is red."), **only
    )
    assert second.records[0].rewrite == "accepted"


def test_bootstrap_program() -> None:
    result = run(script(), program="bootstrap", rewrite={"share": 0}, drafts_per_image=3)
    assert result.counts() == {"accepted": 1, "rejected:duplicate": 2}
    record = result.records[0]
    assert (record.kind, record.question, record.answer) == (
        "self_bootstrap",
        "What is in the picture?",
        "A ball.",
    )
    choice = "Which one? Options: A. red B. blue C. green D. black. Answer with the letter."
    model = script(Check_this="Verdict: yes")
    record = run(
        lambda p: choice if p == "USER: <image>\n" else "C" if "Check" not in p else model(p),
        program="bootstrap",
        rewrite={"share": 0},
    ).records[0]
    assert (record.format, record.options, record.answer_index) == (
        "choice",
        ("red", "blue", "green", "black"),
        2,
    )
    assert "rejected:parse:instruct" in states(run(lambda p: "  ", program="bootstrap", rewrite={"share": 0}))


def test_bad_rows_become_rejects() -> None:
    engine = ScriptedEngine(script())
    runner = ShardRunner(
        config=DatagenConfig(corpus="c", output="o", drafts_per_image=3),
        prompts=load_prompts("starter"),
        engines={"generator": engine, "verifier": engine, "inner": engine},
        revision="r",
        admission=asyncio.Semaphore(2),
    )
    table = to_table([row(0, b"no picture"), row(1), row(2, b"")])
    rows = table.to_pylist()
    rows[1]["objects"] = [{"name": "x", "box": None, "attributes": None}]
    result = asyncio.run(runner.run(4, type(table).from_pylist(rows, schema=table.schema)))
    assert result.counts() == {"failed:image": 6, "failed:row": 3}
    assert result.started == 9 and not engine.prompts
    assert "cannot decode" in result.records[0].conversation[0].text


def test_a_dead_engine_ends_the_shard() -> None:
    calls = itertools.count()

    def dying(prompt: str) -> str:
        if next(calls) > 5:
            raise EngineDead("gone")
        return script()(prompt)  # type: ignore[return-value]

    with pytest.raises(EngineDead, match="gone"):
        run(dying, images=3)


PIECES = st.sampled_from(
    [
        *(
            "Question:",
            "Answer:",
            "Evidence:",
            "Verdict:",
            "Options:",
            "A.",
            "B.",
            "red",
            ",",
            "yes",
            "no",
            "**",
        ),
        *(
            "the caption",
            "Answer in one word.",
            "[1, 2",
            "3]",
            "<image>",
            "\n",
            '"',
            "\ufffd",
            "💡",
            "1.",
            " ",
        ),
        *("{question}", "$x", "\x00"),
    ]
)
NONSENSE = st.one_of(
    st.lists(PIECES, max_size=14).map(" ".join), st.text(max_size=40), st.sampled_from(list(GOOD.values()))
)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(NONSENSE, min_size=1, max_size=20),
    cuts=st.lists(st.sampled_from(["stop"] * 8 + ["length", "abort"]), min_size=1),
    program=st.sampled_from(["comvint", "bootstrap"]),
)
def test_books_balance_whatever_a_model_writes(texts: list[str], cuts: list[str], program: str) -> None:
    said, reasons = itertools.cycle(texts), itertools.cycle(cuts)
    result = run(
        lambda p: Completion(text=next(said), finish_reason=next(reasons)),
        images=2,
        program=program,
        rounds=2,
    )
    # ShardResult.check has counted: every draft one record, ids unique, parents known.
    assert sum(result.counts().values()) == result.started
    assert len([r for r in result.records if not r.parents]) == 4
    tables = result.tables()
    assert from_table(tables["rows"]) == [r for r in result.records if r.state in ACCEPTED_STATES]
    assert tables["rejects"].num_rows + tables["rows"].num_rows == result.started
    for record in from_table(tables["rows"]):
        assert record.question and record.answer and not record.reason
