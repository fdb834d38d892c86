"""Lessons of evolution (MMEvol, arXiv 2409.05840): the three directions and the judge that eliminates.

In this world's terms (ours): another form is the yes/no question of the same fact, deeper reasoning is ComVint's
complication, finer perception asks about another property of what the picture holds.
"""

from __future__ import annotations

import random

from datagen.starter import manner
from datagen.starter import questions as q
from datagen.starter.asking import as_bool, ask, harder, kinds_of
from datagen.starter.lessons import WRITABLE, Lesson, prompt, question_answer
from datagen.starter.scene import Scene

DIRECTIONS = ("interaction", "reasoning", "perception")


def _old(scene: Scene, rng: random.Random) -> q.Question | None:
    return ask(rng.choice([k for k in kinds_of(scene) if k in WRITABLE]), scene, rng)


def _evolved(old: q.Question, direction: str, scene: Scene, rng: random.Random) -> q.Question | None:
    match direction:
        case "interaction":
            return as_bool(old, old.truth(scene).short, rng.random() < 0.5, scene, rng)
        case "reasoning":
            return harder(old, scene, rng)
    others = [k for k in kinds_of(scene) if k in WRITABLE and k not in (old.kind, "detail")]
    return ask(rng.choice(others), scene, rng) if others else None


def evolve(scene: Scene, rng: random.Random) -> Lesson | None:
    """Take a pair further in one of the directions."""
    old, direction = _old(scene, rng), rng.choice(DIRECTIONS)
    new = old and _evolved(old, direction, scene, rng)
    if old is None or new is None:
        return None
    text, answer = manner.phrase(old, old.truth(scene), rng)
    return Lesson(
        kind="evolve",
        format="open",
        instruction=prompt(f"evolve_{direction}", question=text, answer=answer),
        answer=question_answer(*manner.phrase(new, new.truth(scene), rng)),
    )


def eliminate(scene: Scene, rng: random.Random) -> Lesson | None:
    """Is the new pair an improvement? Half are: the others say the same again or took the way back. Text only."""
    old, direction, improved = _old(scene, rng), rng.choice(DIRECTIONS), rng.random() < 0.5
    if old is None:
        return None
    new = _evolved(old, direction, scene, rng)
    if new is None:
        return None
    if not improved:
        # Perception has no way back: the other question may well be the better one.
        old, new = (old, old) if direction == "perception" or rng.random() < 0.5 else (new, old)
    before, answer_before = manner.phrase(old, old.truth(scene), rng)
    text, answer = manner.phrase(new, new.truth(scene), rng)
    return Lesson(
        kind="eliminate",
        format="open",
        instruction=prompt(
            "eliminate", old_question=before, old_answer=answer_before, question=text, answer=answer
        ),
        answer="yes" if improved else "no",
        needs_image=False,
    )
