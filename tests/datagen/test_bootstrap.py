"""Self-bootstrapping on scripted models: what ends a draft before it costs an answer, the ratings, and what is known
already."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.datasets import commit_shard, freeze, plan_dataset
from cluster.errors import UserError
from datagen.config import DatagenConfig
from datagen.corpus import CorpusRow, to_table
from datagen.engine import Completion, Score
from datagen.gates.known import KnownRows, KnownSets
from datagen.parsing import choice_options
from datagen.programs.consistency import largest_group
from datagen.prompts import load_prompts
from datagen.records import ACCEPTED_STATES, Record, Turn
from datagen.records import to_table as records_table
from datagen.shard import ShardInput, ShardResult, ShardRunner
from tests.datagen.conftest import row
from tests.datagen.scripted import ScriptedEngine

ALONE = "USER: <image>\n"
Script = Callable[[str], str | Completion]


def model(*instructions: str, answer: str = "A red ball.", **others: str) -> Script:
    """Writes the instructions in turn when shown an image alone, else by a part of the prompt, else ``answer``."""
    said = itertools.cycle(instructions)

    def script(prompt: str) -> str:
        if prompt == ALONE or prompt.endswith(f"\n{ALONE}"):
            return next(said)
        found = (text for part, text in others.items() if part.replace("_", " ") in prompt)
        return next(found, "Evidence: So it is. Verdict: yes" if "Check this" in prompt else answer)

    return script


def run(
    script: Script | ScriptedEngine, images: int = 1, known: KnownRows | None = None, **config: object
) -> ShardResult:
    plain = {
        "corpus": "c",
        "output": "o",
        "program": "bootstrap",
        "rewrite": {"share": 0},
        "drafts_per_image": 1,
    }
    settings = DatagenConfig.model_validate(plain | config)
    engine = script if isinstance(script, ScriptedEngine) else ScriptedEngine(script)
    runner = ShardRunner(
        arms={"": settings},
        prompts=load_prompts(settings.prompt_set),
        engines={"generator": engine, "verifier": engine, "inner": engine},
        revision="r",
        admission=asyncio.Semaphore(4),
        known={0: {settings.near_duplicate.known: known}} if known else {},
    )
    return asyncio.run(runner.run(0, ShardInput(corpus=to_table([row(i) for i in range(images)]))))[""]


@pytest.mark.parametrize(
    ("written", "state"),
    [
        ("A red ball lies beside a box.", "rejected:no_instruction"),
        ("ball ball ball ball ball?", "rejected:gate:degenerate"),
        ("Answer the question using a single word or phrase.", "rejected:gate:template_only"),
        ("What do the captions say?", "rejected:gate:meta_talk"),
        ("  ", "rejected:parse:instruct"),
        ("What is it?", "accepted"),
        ("Count the balls.", "accepted"),
    ],
)
def test_what_is_no_instruction_costs_no_answer(written: str, state: str) -> None:
    engine = ScriptedEngine(model(written, answer="Two balls."))
    result = run(engine)
    assert result.counts() == {state: 1}
    assert len(engine.prompts) == (3 if state == "accepted" else 1)
    assert written.strip() in " ".join(t.text for t in result.records[0].conversation)


def test_captions_pass_where_their_gate_is_off() -> None:
    assert run(model("ball ball ball ball ball?"), gates=[]).counts() == {"accepted": 1}
    assert run(model("A red ball."), gates=[], drafts_per_image=2).counts() == {"accepted": 2}


def test_an_image_asked_the_same_again() -> None:
    engine = ScriptedEngine(model("What is it?", "what is  it", "Is it red?", "What is it?"))
    result = run(engine, drafts_per_image=4)
    assert result.counts() == {"accepted": 2, "rejected:repeated:image": 2}
    assert len(engine.prompts) == 4 + 2 * 2, "repeats are found before they are answered"
    assert [r.kind for r in result.records if r.state == "rejected"] == ["self_bootstrap"] * 2


def test_given_instructions_are_answered_in_turn() -> None:
    engine = ScriptedEngine(model("never asked for"))
    given_ = ("Describe it briefly.", "Describe it in detail.")
    result = run(engine, drafts_per_image=3, bootstrap={"ask": given_})
    assert [r.question for r in result.records] == [*given_, given_[0]]
    assert result.counts() == {"accepted": 2, "rejected:repeated:image": 1}
    assert ALONE not in engine.prompts, "nothing is written but answers"


def test_an_instruction_ends_with_its_first_sentence_where_asked() -> None:
    written = model("How many balls are there??. 4 B. black")
    assert run(written, bootstrap={"ending": "sentence"}).records[0].question == "How many balls are there?"
    assert "black" in run(written).records[0].question

    def cut(prompt: str) -> str | Completion:
        said = Completion(text="How many balls are there? The balls", finish_reason="length")
        return said if prompt == ALONE else written(prompt)

    assert run(cut).counts() == {"truncated:instruct": 1}
    whole = run(cut, bootstrap={"ending": "sentence"}).records[0]
    assert (whole.question, len(whole.conversation)) == ("How many balls are there?", 2)


def test_the_template_s_end_stops_instructions_whatever_the_white_space() -> None:
    seen = []

    class Watched(ScriptedEngine):
        async def complete(self, prompt, image, image_id, sampling, **more):  # type: ignore[no-untyped-def]
            seen.append((prompt, sampling))
            return await super().complete(prompt, image, image_id, sampling, **more)

    run(Watched(model("What is it?")), bootstrap={"system": "Be brief."})
    (_, first), (second, _) = seen[:2]
    assert first.stop == ("ASSISTANT:",) and (first.temperature, first.top_k) == (1.0, 20)
    assert "Be brief." in second, "the system text stands before the answer too"


def test_the_verifier_takes_the_instruction_out_of_the_words() -> None:
    rambling = "A kitchen with a lamp. How many chairs are there? Two."
    more = {"prompt_set": "full", "bootstrap": {"extract": True}, "verify": False}
    told = run(model(rambling, between_the_lines="How many chairs are there?"), **more)
    assert told.records[0].question == "How many chairs are there?"
    none = run(model("A kitchen with a lamp, isn't it?", between_the_lines="NO_INST"), **more)
    assert none.counts() == {"rejected:no_instruction": 1}


SCORED = {
    "how_fully": "Reason: plain. Score: 5", "two_careful": "Reason: plain. Score: 4",
    "takes_for_granted": "Reason: there. Score: 5", "text_alone": "Reason: fine. Score: 5",
}  # fmt: skip
OASIS = {"prompt_set": "full", "verify": False, "rating": {"method": "scores"}}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "accepted"),
        ({"how_fully": "Score: 3"}, "accepted"),
        ({"how_fully": "Score: 2"}, "rejected:gate:rating"),
        ({"two_careful": "Score: 1"}, "rejected:gate:rating"),
        ({"how_fully": "Score: 3", "two_careful": "Score: 3"}, "rejected:gate:rating"),
        ({"takes_for_granted": "Score: 4"}, "rejected:gate:rating"),
        ({"text_alone": "Score: 4"}, "rejected:gate:rating"),
        ({"text_alone": "It is fine."}, "rejected:parse:rate_nonsense"),
        ({"text_alone": "Score: 6"}, "rejected:parse:rate_nonsense"),
    ],
)
def test_oasis_scores(change: dict[str, str], state: str) -> None:
    engine = ScriptedEngine(model("What is it?", **(SCORED | change)))
    result = run(engine, **OASIS)
    assert result.counts() == {state: 1}
    asked = [p for p in engine.prompts if p.endswith("What is it? ASSISTANT:") and "rate" not in p.lower()]
    assert bool(asked) == (state == "accepted"), "a bad instruction is not answered"
    if state == "accepted":
        assert dict(result.records[0].scores)["clarity"] == 4


def test_kept_gates_only_write_down() -> None:
    config = OASIS | {"keep": ["rating", "degenerate"], "verify": False}
    unread = run(model("What is it?", **(SCORED | {"text_alone": "?"})), **config).records[0]
    assert unread.state == "accepted" and "nonsense" not in dict(unread.scores)
    assert [(g.passed, g.detail) for g in unread.gates if g.name == "rating"] == [
        (False, "no score could be read: nonsense")
    ]
    result = run(model("Is it it it it it?", Check_this="Verdict: perhaps"), keep=["degenerate", "verify"])
    (record,) = result.records
    assert record.state == "accepted" and record.verdict is not None and record.verdict.result == "unparsed"
    assert result.gates() == {"degenerate": 1} and len(record.conversation) == 2
    with pytest.raises(ValueError, match="did you mean 'rating'"):
        DatagenConfig.model_validate({"corpus": "c", "output": "o", "keep": ["raiting"]})


class Likely(ScriptedEngine):
    """Continuations by what they hold, in nats."""

    def __init__(self, script: Script, nats: dict[str, float]) -> None:
        super().__init__(script)
        self.nats, self.scored = nats, list[str]()

    async def score(self, prompt, continuation, image=None, image_id=None):  # type: ignore[no-untyped-def]
        self.scored.append(continuation)
        return Score(tokens=1, logprob=next(v for k, v in self.nats.items() if k in continuation))


@pytest.mark.parametrize(
    ("evidence", "nats", "p"),
    [
        ("Evidence: I see red, the answer says blue. Verdict: no", {"I see blue,": -2.3025851}, 0.1),
        ("Evidence: There is no ball. Verdict: no", {"Verdict: yes": -3.0, "Verdict: no": -1.0}, 0.1192029),
    ],
)
def test_likelihood_of_agreeing_evidence(evidence: str, nats: dict[str, float], p: float) -> None:
    engine = Likely(model("What is it?", Check_this=evidence), nats)
    rating = {"method": "likelihood", "threshold": 0.5}
    record = run(engine, rating=rating).records[0]
    assert dict(record.scores)["p_yes"] == pytest.approx(p, rel=1e-5)
    assert (record.state, record.reason) == ("rejected", "gate:rating")
    again = Likely(model("What is it?", Check_this=evidence), nats)
    assert run(again, rating=rating | {"threshold": 0.05}, verify=False).counts() == {"accepted": 1}
    unread = Likely(model("What is it?", Check_this="so so"), nats)
    assert run(unread, rating=rating, verify=False).counts() == {"rejected:parse:judge": 1}


def test_likelihood_of_a_plain_yes() -> None:
    engine = Likely(model("What is it?"), {"yes": -0.5, "no": -1.5})
    record = run(engine, prompt_set="full", rating={"method": "likelihood"}, verify=False).records[0]
    assert dict(record.scores)["p_yes"] == pytest.approx(1 / (1 + 2.718281828 ** (-1)))
    assert engine.scored == [" yes", " no"]


@pytest.mark.parametrize(
    ("said", "form", "state"),
    [
        (["red", "red", "red", "blue"], "majority", "accepted"),
        (["blue", "blue", "blue", "red"], "majority", "rejected:gate:consistency"),
        (["red", "blue", "green", "black"], "majority", "rejected:gate:consistency"),
        (["red", "red", "blue", "green"], "written", "accepted"),
        (["red", "red", "red", "red"], "majority", "rejected:gate:consistency"),
    ],
)
def test_visplay_s_band(said: list[str], form: str, state: str) -> None:
    answers = itertools.chain(["red"], said)
    script = model("What color is it?")
    result = run(
        lambda p: next(answers) if "What color is it? ASSISTANT" in p and "Check" not in p else script(p),
        verify=False,
        consistency={"samples": 4, "low": 0.3, "high": 0.8, "form": form},
    )
    assert result.counts() == {state: 1}


def test_largest_group() -> None:
    assert largest_group(["red", "Red.", "blue", "the ball is red"]) == 3
    assert largest_group(["B", "B. blue", "blue", "A"], ("red", "blue")) == 3 and largest_group([]) == 0


def sha(number: int) -> str:
    return row(number).sha256


def test_what_the_mix_says_already() -> None:
    said = (
        Turn(role="user", text="What is lying there on the long table?"),
        Turn(role="assistant", text="A red ball."),
    )
    known = KnownRows.of([("old", said, sha(0))])
    near = {"near_duplicate": {"known": ["mix"], "threshold": 0.5}}
    asked = model("What is lying there on the table?")
    record = run(asked, known=known, **near).records[0]
    assert (record.reason, "old" in record.gates[-1].detail) == ("gate:near_duplicate", True)
    assert run(asked, known=KnownRows.of([("old", said, sha(7))]), **near).counts() == {"accepted": 1}
    assert run(
        model("What is lying there on the table?", answer="A blue box."), known=known, **near
    ).counts() == {"accepted": 1}, "another short answer is another row"
    assert run(asked, known=known).counts() == {"accepted": 1}, "off where no set is named"
    assert run(asked, known=known, keep=["near_duplicate"], **near).counts() == {"accepted": 1}


def test_known_sets_of_this_and_of_another_corpus(tmp_path: Path, write_corpus: Callable[..., str]) -> None:
    here = write_corpus([[row(0)], [row(1)]], "here")
    moved = replace(row(1), image_id="elsewhere")
    there = write_corpus([[moved, row(9)]], "there")

    def publish(name: str, corpus: str, shards: list[list[Record]]) -> str:
        uri = str(tmp_path / name)
        plan_dataset(
            uri, kind="instructions", name=name, shards=len(shards), config={"of": name}, parents=[corpus]
        )
        for k, rows in enumerate(shards):
            commit_shard(uri, k, {"rows": records_table(rows)}, counts={"accepted": len(rows)})
        freeze(uri)
        return uri

    a = publish("a", here, [[made("a0", image="img-0000")], [made("a1", image="img-0001")]])
    b = publish("b", there, [[made("b1", image="elsewhere"), made("b9", image="img-0009")]])
    sets = KnownSets(here, [a, b])
    found = [sets.of_shard(k, {f"img-000{k}": sha(k)}) for k in (0, 1)]
    ids = [sorted(i for of in rows.ids.values() for i in of) for rows in found]
    assert ids == [["a0"], ["a1", "b1"]]
    with pytest.raises(UserError, match="of kind corpus, not instructions"):
        KnownSets(here, [there])


def test_harder_and_evolved_versions_of_what_it_wrote() -> None:
    pair = "Question: What is the leftmost ball made of? Answer: The ball is made of wood."
    script = model(
        "What is it?", Make_this_harder=pair, second_better="yes", another_detail=pair, another_form=pair
    )
    harder = run(script, bootstrap={"further": "complicate"}, rounds=1, rewrite={"share": 1, "review": False})
    assert [(r.round, r.question[:11]) for r in harder.records] == [(0, "What is it?"), (1, "What is the")]
    assert harder.records[1].parents == (harder.records[0].id,)
    assert {r.rewrite for r in harder.records} != {""}, "rewritten like everything else"
    evolved = run(script, bootstrap={"further": "evolve"}, rounds=1)
    assert evolved.counts() == {"accepted": 2} and evolved.records[1].parents == (evolved.records[0].id,)
    assert run(script, rounds=3).counts() == {"accepted": 1}, "nothing follows unless asked"


def made(
    name: str, kind: str = "open", question: str = "", image: str = "i", state: str = "accepted"
) -> Record:
    turns = (Turn(role="user", text=question or f"What is {name}?"), Turn(role="assistant", text="That."))
    return Record(id=name, image_ids=(image,), kind=kind, format="open", conversation=turns, state=state)  # type: ignore[arg-type]


def test_a_shard_is_balanced_when_it_is_done() -> None:
    numbers = itertools.count()

    def script(prompt: str) -> str:
        if prompt == ALONE:
            n = next(numbers)
            return f"Describe thing {n}." if n % 4 else "Describe the picture."
        return "Verdict: yes" if "Check" in prompt else "Two balls."

    result = run(script, images=8, balance={"image_share": 0.1, "kind_share": 1})
    assert result.counts() == {"accepted": 8}
    same = run(model("Describe the picture."), images=8, balance={"image_share": 0.1, "kind_share": 1})
    assert same.counts() == {"accepted": 2, "rejected:repeated:images": 6}
    assert run(model("Describe the picture."), images=8, balance={"image_share": 1}).counts() == {
        "accepted": 8
    }
    mixed = model(*["Describe the cup."] * 6, "What colour is it?", "How many are there?", answer="3")
    balance = {"kind_share": 0.4, "image_share": 1}
    assert run(mixed, images=8, balance=balance).counts()["rejected:over_share"] == 5


PIECES = st.sampled_from(
    ["What", "is it?", "Describe", "the ball.", "A. red", "B. blue", "yes", "no", "Score: 5", "Score: 9",
     "Verdict: yes", "Evidence: I see red, the answer says red.", "[1, 2, 3, 4]", "NO_INST",
     "ball " * 5, "\ufffd", "ASSISTANT:", " ", "3"]
)  # fmt: skip
SAID = st.lists(PIECES, max_size=5).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(SAID, min_size=1, max_size=15),
    cuts=st.lists(st.sampled_from(["stop"] * 8 + ["length", "abort"]), min_size=1),
    keep=st.sampled_from([(), ("rating", "verify", "blind", "consistency", "meta_talk", "degenerate")]),
    rating=st.sampled_from(["off", "scores", "likelihood"]),
    further=st.sampled_from(["none", "complicate", "evolve"]),
    form=st.sampled_from(["written", "majority"]),
)
def test_books_balance_with_every_gate(
    texts: list[str], cuts: list[str], keep: tuple[str, ...], rating: str, further: str, form: str
) -> None:
    said, reasons = itertools.cycle(texts), itertools.cycle(cuts)
    result = run(
        lambda p: Completion(text=next(said), finish_reason=next(reasons)),
        images=3,
        drafts_per_image=3,
        prompt_set="full" if rating == "scores" else "starter",
        keep=keep,
        rating={"method": rating},
        blind={"method": "likelihood"},
        consistency={"samples": 3, "form": form},
        bootstrap={"further": further, "ending": "sentence", "extract": rating == "scores"},
        rewrite={"share": 1},
        evolve={"patience": 2},
        rounds=2,
    )
    assert sum(result.counts().values()) == result.started
    for record in result.records:
        assert record.state not in ACCEPTED_STATES or (record.question and record.answer)
        if record.format == "choice" and record.state in ACCEPTED_STATES and not record.parents:
            assert choice_options(record.question) == record.options


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"rating": {"method": "likelihood"}, "engines": {"generator": {"backend": "openai"}}},
            "backend vllm",
        ),
        ({"rating": {"clarity": 6}}, "less than or equal to 5"),
        ({"balance": {"kind_share": 0}}, "greater than 0"),
        ({"arms": {"a": {"bootstrap": {"extract": True}}}}, "Arms may differ in"),
    ],
)
def test_bad_settings(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DatagenConfig.model_validate({"corpus": "c", "output": "o", **wrong})


def test_arms_share_the_instructions() -> None:
    engine = ScriptedEngine(model("What is it?"))
    settings = DatagenConfig.model_validate(
        {"corpus": "c", "output": "o", "program": "bootstrap", "rewrite": {"share": 0}, "drafts_per_image": 1,
         "arms": {"a": {"verify": False}, "b": {}, "c": {"balance": {"kind_share": 1}, "keep": ["verify"]}}}
    )  # fmt: skip
    runner = ShardRunner(
        arms=settings.variants(), prompts=load_prompts("starter"), revision="",
        engines={"generator": engine, "verifier": engine, "inner": engine}, admission=asyncio.Semaphore(4),
    )  # fmt: skip
    rows: list[CorpusRow] = [row(0)]
    results = asyncio.run(runner.run(0, ShardInput(corpus=to_table(rows))))
    assert [r.counts() for r in results.values()] == [{"accepted": 1}] * 3 and len(engine.prompts) == 3
