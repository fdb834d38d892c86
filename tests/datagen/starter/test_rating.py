"""Rating lessons: scores follow from the scene, are balanced, and the reason says why."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.parsing import parse_score
from datagen.starter import questions as q
from datagen.starter.grammar import parse
from datagen.starter.manner import ONE_WORD
from datagen.starter.rating import CAN_FAIL, SCORES, broken, rate, scores_of
from datagen.starter.scene import Scene, Thing, sample_scene

RED = Thing(row=0, column=0, size="small", shape="circle", color="red")
BLUE = Thing(row=1, column=2, size="big", shape="circle", color="blue")
CIRCLES = Scene(things=(RED, BLUE))


def scenes(number: int) -> list[Scene]:
    return [sample_scene(random.Random(f"rating-{i}"), "train") for i in range(number)]


@pytest.mark.parametrize(
    ("question", "low", "why"),
    [
        (q.Color("small circle"), set(), "I see red."),
        (q.Color("circle"), {"solvability", "clarity"}, "There are 2 circles."),
        (q.Color("square"), {"solvability", "hallucination"}, "There is no square."),
        (
            q.Relates("square", "above", "circle"),
            {"solvability", "clarity", "hallucination"},
            "There is no square. There are 2 circles.",
        ),
        (q.RegionCaption("[1, 1, 9, 9]"), {"solvability", "hallucination"}, "There is nothing there."),
        (q.Word(), {"solvability", "hallucination"}, "There is no sign."),
        (None, {"solvability", "clarity", "nonsense"}, "This is no question."),
    ],
)
def test_what_a_question_deserves(question: q.Question | None, low: set[str], why: str) -> None:
    scores, finding = scores_of(question, CIRCLES)
    assert {name for name, score in scores.items() if score == 1} == low and finding == why
    assert set(scores) == set(SCORES) and set(scores.values()) <= {1, 5}


@pytest.mark.parametrize("score", SCORES)
def test_lessons_of_a_score_are_read_and_balanced(score: str) -> None:
    made = [x for i, scene in enumerate(scenes(600)) if (x := rate(scene, random.Random(i), score))]
    given_scores = Counter(parse_score(lesson.answer)[0] for lesson in made)
    assert set(given_scores) == {1, 5} and 0.25 < given_scores[1] / len(made) < 0.6 and len(made) > 200
    assert {lesson.needs_image for lesson in made} == {score != "nonsense"}
    assert {lesson.kind for lesson in made} == {f"rate_{score}"}


@pytest.mark.parametrize("score", SCORES[:3])
def test_the_words_of_a_question_hardly_tell_its_score(score: str) -> None:
    """The share of lessons that the best guess from the family of the question gets right, broken texts apart."""
    seen: dict[str, Counter[str]] = {}
    for i, scene in enumerate(scenes(1500)):
        lesson = rate(scene, random.Random(i), score)
        text = lesson.instruction.split("Question: ")[1].split(" Options")[0] if lesson else ""
        asked = parse(text.removesuffix(f" {ONE_WORD}"))
        if lesson is not None and asked is not None and asked.kind in CAN_FAIL[score]:
            seen.setdefault(asked.kind, Counter())[lesson.answer[-1]] += 1
    guessed = sum(max(counts.values()) for counts in seen.values())
    assert guessed / sum(counts.total() for counts in seen.values()) < 0.65


def test_a_wish_for_one_word_says_nothing_about_the_score() -> None:
    made = [x for i, scene in enumerate(scenes(1500)) if (x := rate(scene, random.Random(i), "nonsense"))]
    wishes = {
        score: [ONE_WORD in x.instruction for x in made if x.answer == f"Score: {score}"] for score in (1, 5)
    }
    shares = [sum(found) / len(found) for found in wishes.values()]
    assert min(shares) > 0.15 and max(shares) < 2 * min(shares)


@given(st.integers())
def test_what_is_broken_is_no_question(seed: int) -> None:
    text = broken("What color is the small circle?", random.Random(seed))
    assert text is None or (parse(text) is None and text != "What color is the small circle?")
