"""Lessons of rating (Oasis, arXiv 2503.08741): the four scores of an instruction that nobody has answered yet.

In this world's terms (ours) a score is 5 or 1: a question can be solved if the picture answers it; it is unclear if
several things fit it; it is hallucinated if what it takes for granted is not there; it is nonsense if it is no question
of this world's grammar. The committed starter was not taught this: a judge is a starter that learned ``--gold rating``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from datagen.starter import manner
from datagen.starter import questions as q
from datagen.starter.asking import ask, ill_posed, kinds_of, wrong_answers
from datagen.starter.grammar import parse
from datagen.starter.lessons import Lesson, prompt
from datagen.starter.phrases import IllPosed
from datagen.starter.scene import Scene

SCORES = ("solvability", "clarity", "hallucination", "nonsense")
BEST, WORST = 5, 1
TRIES = 20
DESCRIPTIONS = ("detail", "caption", "region")
# What `phrases.the_one` and the chart's extremes say of nouns that fit several things, or tie.
SEVERAL = ("There are ", "There is no single ")


@dataclass(frozen=True)
class Rated:
    """A text with the four scores that it deserves and what the picture says to it."""

    text: str
    scores: dict[str, int]
    finding: str


def rate(scene: Scene, rng: random.Random, score: str) -> Lesson | None:
    """One score of one instruction, the reason first; both scores come equally often."""
    wanted = rng.choice((BEST, WORST))
    drawn = (_drawn(scene, rng) for _ in range(TRIES))
    rated = next((r for r in drawn if r is not None and r.scores[score] == wanted), None)
    if rated is None:
        return None
    sees = score != "nonsense"
    return Lesson(
        kind=f"rate_{score}",
        format="open",
        instruction=prompt(f"rate_{score}", question=rated.text),
        answer=f"{rated.finding} Score: {wanted}" if sees else f"Score: {wanted}",
        needs_image=sees,
    )


def scores_of(question: q.Question | None, scene: Scene) -> tuple[dict[str, int], str]:
    """The scores that a question deserves (None: a text that is none), and why."""
    if question is None:
        return dict(zip(SCORES, (WORST, WORST, BEST, WORST), strict=True)), "This is no question."
    try:
        truth = question.truth(scene)
    except IllPosed as error:
        several = str(error).startswith(SEVERAL)
        low = "clarity" if several else "hallucination"
        return {name: WORST if name in ("solvability", low) else BEST for name in SCORES}, str(error)
    return dict.fromkeys(SCORES, BEST), "I see it." if isinstance(
        question, q.Detail
    ) else f"I see {truth.short}."


def _drawn(scene: Scene, rng: random.Random) -> Rated | None:
    """A good question, one that this picture does not answer, or none at all."""
    kind, draw = rng.choice(kinds_of(scene)), rng.random()
    question = ill_posed(kind, scene, rng) if 0.4 < draw < 0.8 else ask(kind, scene, rng)
    if question is None:
        return None
    text = question.text(rng) if draw < 0.8 else broken(question.text(rng), rng)
    if text is None:
        return None
    # Broken texts are dressed like others, else a wish for one word would tell them apart.
    return Rated(_dressed(text, question, scene, rng), *scores_of(question if draw < 0.8 else None, scene))


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
