"""The verifier's measure on a confusion table worked by hand, and on records against the world's oracle."""

from __future__ import annotations

import math

import pytest

from datagen.records import Record, Turn, Verdict
from datagen.starter.scene import Scene, Thing
from eval.verifier import by_kind, measure, measure_records, starter_truth


def test_counts_and_shares() -> None:
    pairs = [("yes", True)] * 6 + [("yes", False)] * 2 + [("no", False)] * 3 + [("no", True), ("what", True)]
    found = measure([*pairs, ("yes", None)])
    assert found.precision[0] == 6 / 8 and found.recall[0] == 6 / 8
    assert found.accuracy[0] == pytest.approx(9 / 13) and found.f1 == 0.75
    assert (found.unparsed, found.unjudgeable, found.n) == (1, 1, 13)
    assert found.precision[1] < found.precision[0] < found.precision[2]
    assert "precision 0.750" in str(found)


def test_nothing_to_judge() -> None:
    found = measure([])
    assert math.isnan(found.precision[0]) and "precision -" in str(found)


def test_records_against_the_oracle() -> None:
    scene = Scene(things=(Thing(row=0, column=0, shape="circle", color="red", size="large"),))

    def record(answer: str, verdict: str | None) -> Record:
        return Record(
            id=answer, image_ids=("i",), kind="color", format="open", state="rejected",
            conversation=(Turn(role="user", text="What color is the circle?"), Turn(role="assistant", text=answer)),
            verdict=Verdict(result=verdict) if verdict else None,
        )  # fmt: skip

    rows = [record("The circle is red.", "yes"), record("The circle is blue.", "yes"), record("red", None)]
    truth = starter_truth({"i": scene.to_json()})
    found = measure_records(rows, truth)
    assert (found.true_yes, found.false_yes, found.n) == (1, 1, 2)
    assert by_kind(rows, truth)["color"] == found
    assert measure_records(rows, starter_truth({})).unjudgeable == 2
