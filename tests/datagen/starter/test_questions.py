"""Questions: text and question are two forms of one thing, answers are exact, the oracle agrees with the truth."""

import random
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datagen.starter import lessons, manner
from datagen.starter import questions as q
from datagen.starter.asking import as_bool, ask, harder, ill_posed, kinds_of, well_posed, wrong_answers
from datagen.starter.grammar import parse
from datagen.starter.oracle import judge
from datagen.starter.phrases import IllPosed, captions
from datagen.starter.scene import Bar, Scene, Thing, sample_scene

seeds = st.integers(0, 10**9)

SCENE = Scene(
    things=(
        Thing(row=0, column=0, shape="circle", color="red", size="large"),
        Thing(row=1, column=2, shape="circle", color="blue", size="small"),
        Thing(row=3, column=1, shape="cross", color="blue", size="large"),
        Thing(row=3, column=3, shape="sign", color="white", size="large", word="cat"),
    )
)
CHART = Scene(bars=(Bar(column=0, color="red", value=3), Bar(column=2, color="green", value=1)))


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Is there a red circle?", "yes"),
        ("Do you see a blue star?", "no"),
        ("Is there a sign and a large cross?", "yes"),
        ("How many circles are there?", "2"),
        ("Count the blue objects.", "2"),
        ("How many crosses are there?", "1"),
        ("How many circles and blue objects are there?", "3"),
        ("What color is the cross?", "blue"),
        ("What color is the lowest object?", "blue"),
        ("What shape is the red object?", "circle"),
        ("Is the red circle left of the cross?", "yes"),
        ("Is the cross above the sign?", "no"),
        ("Is the red circle left of and above the sign?", "yes"),
        ("Read the sign.", "cat"),
        ("What is the first letter on the sign?", "c"),
        ("Give the box of the red circle.", "[1, 1, 15, 15]"),
        ("Describe the region [36, 20, 44, 28].", "small blue circle"),
        ("Is the cross blue?", "yes"),
        ("Is the number of crosses 2?", "no"),
        ("Does the sign say dog?", "no"),
    ],
)
def test_truth_of_a_known_scene(text, short):
    question = parse(text)
    assert question is not None
    assert question.truth(SCENE).short == short
    assert judge(text, short, SCENE).correct
    assert judge(f"{text} {manner.ONE_WORD}", short, SCENE).correct
    assert judge(text, question.truth(SCENE).sentence, SCENE).correct


def test_truth_of_a_known_chart():
    assert q.BarDifference("red", "green").truth(CHART).short == "2"
    assert q.BarExtreme("shortest").truth(CHART).short == "green"
    with pytest.raises(IllPosed, match="no blue bar"):
        q.BarValue("blue").truth(CHART)


@pytest.mark.parametrize(
    "text", ["What color is the circle?", "What color is the star?", "How tall is the red bar?"]
)
def test_ill_posed_questions_are_judged_wrong_whatever_the_answer(text):
    verdict = judge(text, "red", SCENE)
    assert verdict.correct is False and verdict.reason.startswith("ill-posed")


def test_unreadable_is_not_called_wrong():
    assert judge("Why is the sky blue?", "Rayleigh", SCENE).correct is None


@given(seeds)
def test_text_and_question_round_trip(seed):
    rng = random.Random(seed)
    scene = sample_scene(rng, "train")
    for kind in kinds_of(scene):
        question = ask(kind, scene, rng)
        if question is None:
            continue
        assert question.kind == kind and well_posed(question, scene)
        assert parse(question.text(rng)) == question
        new = harder(question, scene, rng)
        if new is not None:
            assert parse(new.text(rng)) == new != question and well_posed(new, scene)
        short = question.truth(scene).short
        for positive in (True, False):
            form = as_bool(question, short, positive, scene, rng)
            if form is not None:
                assert form.truth(scene).short == ("yes" if positive else "no")
        bad = ill_posed(kind, scene, rng)
        assert bad is None or not well_posed(bad, scene)
        assert short not in wrong_answers(question, short)


@given(seeds)
def test_wrong_truths_are_wrong(seed):
    rng = random.Random(seed)
    scene = sample_scene(rng, "train")
    kind = rng.choice([k for k in kinds_of(scene) if k in lessons.WRITABLE])
    question = ask(kind, scene, rng)
    assume(question is not None)
    truth = question.truth(scene)
    wrong = lessons.wrong_truth(question, truth, scene, rng)
    text = question.text(rng)
    assert judge(text, truth.sentence, scene).correct
    assert not judge(text, wrong.short, scene).correct
    assert not judge(text, wrong.sentence, scene).correct


@given(seeds)
def test_lessons_agree_with_the_oracle(seed):
    rng = random.Random(seed)
    scene = sample_scene(rng, "train")
    for lesson in (lessons.answering(scene, rng), lessons.choice(scene, rng)):
        if lesson is not None:
            assert judge(lesson.instruction, lesson.answer, scene).correct, lesson
    for role in ("synthesize", "complicate"):
        lesson = lessons.ROLES[role](scene, rng)
        if lesson is not None:
            pair = re.fullmatch(r"Question: (.*) Answer: (.*)", lesson.answer)
            assert judge(pair[1], pair[2], scene).correct, lesson
    lesson = lessons.verify(scene, rng)
    if lesson is not None:
        pair = re.fullmatch(r"Check this\. Question: (.*) Answer: (.*)", lesson.instruction)
        assert judge(pair[1], pair[2], scene).correct == lesson.answer.endswith("Verdict: yes"), lesson


@given(seeds)
def test_foreign_manner_is_undone(seed):
    rng = random.Random(seed)
    assert manner.own(manner.foreign("The circle is red.", rng)) == "The circle is red."
    assert manner.own("red") == "red"


def test_yes_and_no_are_balanced():
    rng = random.Random(0)
    answers = []
    for _ in range(600):
        scene = sample_scene(rng, "train")
        question = ask("existence", scene, rng) if scene.things else None
        if question is not None:
            answers.append(question.truth(scene).short)
    assert 0.42 < answers.count("yes") / len(answers) < 0.58


def test_captions_are_five_and_true_to_the_scene():
    for scene in (SCENE, CHART):
        assert len(set(captions(scene))) == 5
    assert all("red circle" in c for c in captions(SCENE)[:2])
