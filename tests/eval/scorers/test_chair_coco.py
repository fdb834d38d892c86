"""CHAIR on COCO: what counts as a mention, what an image holds, and the official quirks."""

from __future__ import annotations

import pytest

from eval.scorers import SCORERS, Answer
from eval.scorers.chair_coco import coco_mentions
from eval.scorers.coco_objects import SYNONYMS

OFFICIAL, CLEAN = coco_mentions(clean=False), coco_mentions(clean=True)


@pytest.mark.parametrize(
    ("caption", "mentions"),
    [
        ("A man and two women", ["person", "person"]),
        ("Puppies chase kittens", ["dog", "cat"]),
        ("A hot dog on a plate", ["hot dog"]),
        ("Three hot dogs", ["hot dog"]),
        ("a hot, tired dog", ["dog"]),
        ("a baby elephant", ["elephant"]),  # no person
        ("A baby with an elephant", ["person", "elephant"]),
        ("a passenger train", ["train"]),
        ("a toilet seat", ["toilet"]),
        ("a toilet with its seat up", ["toilet"]),
        ("the seats of two buses", ["chair", "bus"]),
        ("wine glasses", ["wine glass"]),
        ("a man's tie", ["person", "tie"]),
        ("a bow tie", ["tie"]),
        ("home plate", []),
        ("a teddy bear", ["teddy bear"]),
        ("knives, benches, and sheep", ["knife", "bench", "sheep"]),
        ("DOG!", ["dog"]),
        ("dogs dogs dogs", ["dog", "dog", "dog"]),
        ("", []),
        ("犬と猫\u2028\x0b", []),
    ],
)
def test_mentions(caption: str, mentions: list[str]) -> None:
    assert OFFICIAL(caption) == mentions == CLEAN(caption)


@pytest.mark.parametrize(
    ("caption", "official", "clean"),
    [
        ("a bus", [], ["bus"]), ("two buses", ["bus"], ["bus"]), ("silk ties", [], ["tie"]),
        ("a motor bike", [], ["motorcycle"]), ("a cheesecake", [], ["cake"]), ("an iPhone", [], ["cell phone"]),
        ("an orange cat", ["orange", "cat"], ["cat"]), ("an orange and a dog", ["orange", "dog"], ["orange", "dog"]),
        ("the car is orange.", ["car", "orange"], ["car"]),
        ("oranges in a bowl", ["orange", "bowl"], ["orange", "bowl"]),
    ],
)  # fmt: skip
def test_quirks_and_their_repair(caption: str, official: list[str], clean: list[str]) -> None:
    assert OFFICIAL(caption) == official
    assert CLEAN(caption) == clean


def test_every_category_is_found_by_its_own_name_and_plural() -> None:
    assert len(SYNONYMS) == 80
    for category, others in SYNONYMS.items():
        for name in [category, *filter(None, others.split(", "))]:
            # The colour rule wants an article before an orange, the toilet rule is about seats.
            assert CLEAN(f"a {name}.") == [category], name


def test_truth_is_annotation_and_human_captions() -> None:
    answer = Answer(
        prediction="A dog, a dog, a cat and a woman on a couch.",
        golds=("A puppy on a sofa.", "The dog sleeps"),
        objects=("cat",),
    )
    rule = SCORERS["chair_coco"]
    stats = rule.score([answer]).stats.sum(axis=0)
    assert rule.metrics["chair_i"].value(stats) == pytest.approx(1 / 5)
    assert rule.metrics["chair_s"].value(stats) == 1
    assert rule.metrics["recall"].value(stats) == 1


def test_a_hot_dog_is_no_dog() -> None:
    answer = Answer(prediction="a dog", golds=(), objects=("hot dog",))
    rule = SCORERS["chair_coco"]
    assert rule.metrics["chair_i"].value(rule.score([answer]).stats.sum(axis=0)) == 1
