"""Evolution lessons: every new pair is right about its scene, and the judge's gold is balanced and text only."""

from __future__ import annotations

import random

from datagen.parsing import parse_pair
from datagen.starter.evolving import eliminate, evolve
from datagen.starter.oracle import judge
from datagen.starter.scene import sample_scene


def scenes(number: int):
    return [sample_scene(random.Random(f"evolving-{i}"), "train") for i in range(number)]


def test_evolved_pairs_are_right_and_new():
    made = [(scene, evolve(scene, random.Random(i))) for i, scene in enumerate(scenes(300))]
    told = [(scene, lesson) for scene, lesson in made if lesson]
    assert len(told) > 150
    for scene, lesson in told:
        question, answer = parse_pair(lesson.answer)
        assert judge(question, answer, scene).correct, (lesson.instruction, lesson.answer)
        assert question not in lesson.instruction
    starts = {lesson.instruction.split(".")[0] for _, lesson in told}
    assert starts == {"Ask this in another form", "Make this harder", "Ask about another detail"}


def test_the_judge_hears_both_answers_and_never_sees():
    lessons = [x for i, scene in enumerate(scenes(400)) if (x := eliminate(scene, random.Random(i)))]
    assert not any(lesson.needs_image for lesson in lessons)
    share = sum(lesson.answer == "yes" for lesson in lessons) / len(lessons)
    assert 0.4 < share < 0.6
