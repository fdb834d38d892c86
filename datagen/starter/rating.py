"""Lessons of rating (Oasis, arXiv 2503.08741): the four scores of an instruction that nobody has answered yet.

In this world's terms (ours) a score is 5 or 1: a question can be solved if the picture answers it; it is unclear if
several things fit it; it is hallucinated if what it takes for granted is not there; it is nonsense if it is no question
of this world's grammar. The committed starter was not taught this: a judge is a starter that learned ``--gold rating``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from datagen.starter import manner
from datagen.starter import questions as q
from datagen.starter.asking import OBJECT_KINDS, ask, ill_posed, kinds_of, wrong_answers
from datagen.starter.grammar import parse
from datagen.starter.lessons import Lesson, prompt
from datagen.starter.phrases import IllPosed, the_one
from datagen.starter.scene import Scene, sample_scene

SCORES = ("solvability", "clarity", "hallucination", "nonsense")
BEST, WORST = 5, 1
# What `phrases.the_one` and the chart's extremes say of nouns that fit several things, or tie.
SEVERAL = ("There are ", "There is no single ")
KINDS = (*OBJECT_KINDS, "ocr", "chart")
NAMING = ("color", "shape", "relation", "grounding")
# Families of which a picture answers some questions and not others. Both scores come equally often in each, so that the
# words of a question do not tell its score.
CAN_FAIL = {
    "solvability": (*NAMING, "region", "ocr", "chart"),
    "clarity": NAMING,
    "hallucination": (*NAMING, "region", "ocr", "chart"),
    "nonsense": KINDS,
}
CAN_BE = {
    "solvability": (BEST, WORST),
    "clarity": (BEST, WORST),
    "hallucination": (BEST, WORST),
    "nonsense": (BEST,),
}
# What a text deserves that is no question: it takes nothing for granted.
GARBAGE = {"solvability": WORST, "clarity": WORST, "hallucination": BEST, "nonsense": WORST}
DESCRIPTIONS = ("detail", "caption", "region")
# Shares: questions of any family that deserve the best, and texts that are none.
ALWAYS_GOOD = 0.1
GARBLED = {"solvability": 0.15, "clarity": 0.15, "hallucination": 0.15, "nonsense": 0.5}
TRIES = 60


@dataclass(frozen=True)
class Rated:
    """A text with the four scores that it deserves and what the picture says to it."""

    text: str
    scores: dict[str, int]
    finding: str


def rate(scene: Scene, rng: random.Random, score: str) -> Lesson | None:
    """One score of one instruction, the reason first."""
    draw = rng.random()
    if draw < ALWAYS_GOOD:
        rated = _with(score, BEST, scene, rng, rng.choice(KINDS))
    elif draw < ALWAYS_GOOD + GARBLED[score]:
        rated = _with(score, GARBAGE[score], scene, rng, rng.choice(KINDS), garbled=True)
    else:
        kind = rng.choice(CAN_FAIL[score])
        both = [_with(score, value, scene, rng, kind) for value in CAN_BE[score]]
        rated = None if None in both else rng.choice(both)
    if rated is None:
        return None
    sees, stated = score != "nonsense", f"Score: {rated.scores[score]}"
    return Lesson(
        kind=f"rate_{score}",
        format="open",
        instruction=prompt(f"rate_{score}", question=rated.text),
        answer=f"{rated.finding} {stated}" if sees else stated,
        needs_image=sees,
    )


def _with(
    score: str, value: int, scene: Scene, rng: random.Random, kind: str, garbled: bool = False
) -> Rated | None:
    """A text of a family that deserves this, where this picture has one."""
    drawn = (_drawn(scene, rng, kind, garbled) for _ in range(TRIES))
    return next((r for r in drawn if r is not None and r.scores[score] == value), None)


def scores_of(question: q.Question | None, scene: Scene) -> tuple[dict[str, int], str]:
    """The scores that a question deserves (None: a text that is none), and why."""
    if question is None:
        return GARBAGE, "This is no question."
    wrong = _wrong(question, scene)
    if not wrong:
        seen = "it" if question.kind in DESCRIPTIONS else question.truth(scene).short
        return dict.fromkeys(SCORES, BEST), f"I see {seen}."
    several = [reason.startswith(SEVERAL) for reason in wrong]
    scores = {
        "solvability": WORST,
        "clarity": WORST if any(several) else BEST,
        "hallucination": BEST if all(several) else WORST,
        "nonsense": BEST,
    }
    return scores, " ".join(wrong)


def _wrong(question: q.Question, scene: Scene) -> list[str]:
    """Everything that keeps the picture from answering: of two nouns, both may be to blame."""
    checks: list[Callable[[], object]] = [partial(question.truth, scene)]
    if isinstance(question, (q.Relates, q.RelatesBoth)):
        checks = [partial(the_one, noun, scene) for noun in (question.noun, question.noun2)]
    found = []
    for check in checks:
        try:
            check()
        except IllPosed as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _drawn(scene: Scene, rng: random.Random, kind: str, garbled: bool) -> Rated | None:
    """A question about this picture or about another one: from the words alone nobody can tell which."""
    about = rng.choice((scene, sample_scene(rng, "train")))
    if kind not in kinds_of(about):
        return None
    question = rng.choice((ask, ill_posed))(kind, about, rng)
    if question is None:
        return None
    text = broken(question.text(rng), rng) if garbled else question.text(rng)
    if text is None:
        return None
    # Broken texts are dressed like others, else a wish for one word would tell them apart.
    return Rated(_dressed(text, question, scene, rng), *scores_of(None if garbled else question, scene))


def _dressed(text: str, question: q.Question, scene: Scene, rng: random.Random) -> str:
    """With what follows a question in people's data sets: a wish for one word, or options."""
    draw = rng.random()
    if question.kind in manner.PLAIN_KINDS or draw < 0.4:
        return text
    if draw < 0.8 or question.boolean:
        return f"{text} {manner.ONE_WORD}"
    try:
        right = [question.truth(scene).short]
    except IllPosed:
        right = []
    wrong = wrong_answers(question, "".join(right))
    options = right + rng.sample(wrong, min(4 - len(right), len(wrong)))
    return manner.with_options(text, rng.sample(options, len(options)))


def broken(text: str, rng: random.Random) -> str | None:
    """The text as a model that lost the thread would write it: cut off, a word missing, repeated or moved; None where
    that happens to be a question too."""
    words = text.split(" ")
    spot = rng.randrange(1, len(words))
    match rng.randrange(4):
        case 0:
            words = words[:spot]
        case 1:
            del words[spot - 1]
        case 2:
            words[spot:spot] = words[max(0, spot - 2) : spot]
        case _:
            words.insert(rng.randrange(len(words)), words.pop(spot - 1))
    made = " ".join(words)
    return None if made == text or parse(made) else made
