"""What was said before: from the gates of rewritten records, and from another instruction set."""

from __future__ import annotations

import pytest

from cluster.errors import UserError
from datagen.manner.pairs import by_id, own_pairs, paired
from datagen.manner.survey import hash_of_answer, in_sample, merged, survey_shard
from datagen.records import GateResult, Record, Turn


def record(name: str, *texts: str, gates: tuple[str, ...] = (), **more: object) -> Record:
    turns = tuple(Turn(role=("user", "assistant")[i % 2], text=text) for i, text in enumerate(texts))
    values: dict[str, object] = {
        "image_ids": ("img",), "kind": "k", "format": "open", "conversation": turns, "state": "accepted",
        "gates": (
            GateResult(name="preserve", passed=True),
            *(GateResult(name="original_answer", passed=True, detail=g) for g in gates),
        ),
    }  # fmt: skip
    return Record(id=name, **{**values, **more})  # type: ignore[arg-type]


LONG = "It is a large red circle on the left."


def test_the_original_of_a_single_answer() -> None:
    (answer,) = own_pairs(record("r", "What is it?", LONG, gates=("There is\ta red circle to be seen.",)))
    assert (answer.before, answer.after, answer.turn) == ("There is\ta red circle to be seen.", LONG, 1)
    assert answer.question == "What is it?" and answer.image == "img" and not answer.hard


def test_originals_of_a_conversation() -> None:
    found = list(own_pairs(record("r", "One?", "a", "Two?", "b", "Three?", "c", gates=("3\tB", "5\tC"))))
    assert [(a.turn, a.before, a.after) for a in found] == [(1, "a", "a"), (3, "B", "b"), (5, "C", "c")]
    assert [t.text for t in found[1].context] == ["One?", "a", "Two?"]
    twice = list(own_pairs(record("r", "One?", "a", "Two?", "b", gates=("3\toldest", "3\tlater"))))
    assert twice[1].before == "oldest"


@pytest.mark.parametrize("detail", ["2\tB", "9\tB", "B", "x\tB", "-1\tB"])
def test_an_original_of_nothing(detail: str) -> None:
    with pytest.raises(UserError, match=r"record r: .*original_answer.*--before"):
        list(own_pairs(record("r", "One?", "a", "Two?", "b", gates=(detail,))))


def test_pairs_of_two_sets() -> None:
    earlier = by_id([record("a", "One?", "old a"), record("p", "Two?", "old p")])
    found = [
        *paired(record("a", " One? ", "new a"), earlier),
        *paired(record("c", "Two?", "new c", parents=("x", "p")), earlier),
        *paired(record("d", "Three?", "new d"), earlier),
        *paired(record("a", "Another?", "new a"), earlier),
        *paired(record("a", "One?", "new a", "More?", "more"), earlier),
    ]
    assert [a.before for a in found] == ["old a", "old p", None, None, "old a", None]


def test_images_and_none() -> None:
    several = next(own_pairs(record("r", "?", LONG, image_ids=("one", "two"))))
    alone = next(own_pairs(record("r", "?", LONG, image_ids=())))
    assert (several.image, alone.image) == ("one two", "r")


def test_the_survey_is_one_of_all_shards() -> None:
    records = [record(f"r{i}", "What is it?", LONG if i % 3 else "red") for i in range(60)]
    answers = [a for r in records for a in own_pairs(r)]
    whole = merged([survey_shard(answers, rows=10, seed=1)], rows=10, where="x")
    parts = [survey_shard(answers[i::7], rows=10, seed=1) for i in range(7)]
    assert merged(reversed(parts), rows=10, where="x") == whole, "shards and their order do not matter"
    assert (whole.answers, whole.hard, whole.soft, whole.measured) == (60, 20, 40, 10)
    taken = [a for a in answers if in_sample(a, seed=1, cutoff=whole.cutoff)]
    assert len(taken) == 10 and not any(a.hard for a in taken)
    other = merged([survey_shard(answers, rows=10, seed=2)], rows=10, where="x")
    assert other.cutoff != whole.cutoff, "another seed, other answers"
    every = merged([survey_shard(answers, rows=999, seed=1)], rows=999, where="x")
    assert every.measured == 40 and all(
        in_sample(a, seed=1, cutoff=every.cutoff) for a in answers if not a.hard
    )
    assert len({hash_of_answer(a, 1) for a in answers}) == 60


def test_nothing_to_measure() -> None:
    def message(*records: Record, earlier: dict[str, Record] | None = None) -> str:
        answers = [a for r in records for a in (own_pairs(r) if earlier is None else paired(r, earlier))]
        with pytest.raises(UserError) as caught:
            merged([survey_shard(answers, rows=5, seed=0)], rows=5, where="some/set")
        return str(caught.value)

    assert "some/set" in message() and "no answers" in message()
    assert "hard format" in message(record("r", "Which?", "red"))
    assert "--before" in message(record("r", "Which?", LONG), earlier={})
