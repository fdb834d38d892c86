"""How things are said in the starter world: short answers, the model's own sentences, and foreign manners of writing.

The own manner is the world's sentence (``The circle is red.``). Foreign manners say the same in somebody else's words;
they play the part of GPT-written answers in the writing-manner-gap paper, so that rewriting has something to do.
"""

from __future__ import annotations

import random

from datagen.starter.phrases import Truth
from datagen.starter.questions import Question

ONE_WORD = "Answer in one word."
BY_LETTER = "Answer with the letter."
LETTERS = "ABCD"
FOREIGN = ("One can see that {}", "It appears that {}", "Upon inspection, {}", "As depicted, {}")
# Families whose answers are never dressed up: boxes, long descriptions and letters are hard format.
PLAIN_KINDS = ("grounding", "region", "detail", "caption")


def lower_first(sentence: str) -> str:
    """``The circle is red.`` as it continues a sentence: ``the circle is red.``"""
    return sentence[0].lower() + sentence[1:]


def foreign(sentence: str, rng: random.Random) -> str:
    """The same statement in a foreign manner."""
    return rng.choice(FOREIGN).format(lower_first(sentence))


def stranger(sentence: str) -> str:
    """The same statement by a writer who has one manner throughout, and not the model's own."""
    return FOREIGN[2].format(lower_first(sentence))


def own(answer: str) -> str:
    """A foreign answer back in the own manner; any other answer unchanged."""
    for pattern in FOREIGN:
        prefix = pattern.format("")
        if answer.startswith(prefix):
            rest = answer[len(prefix) :]
            return rest[:1].upper() + rest[1:]
    return answer


def with_options(question: str, options: list[str]) -> str:
    """A multiple-choice question as the model reads it."""
    listed = " ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question} Options: {listed}. {BY_LETTER}"


def phrase(question: Question, truth: Truth, rng: random.Random) -> tuple[str, str]:
    """(instruction, answer) in one of the manners that people's data sets mix: one word on request, a sentence, or a
    sentence in a foreign manner."""
    text = question.text(rng)
    if question.kind in PLAIN_KINDS:
        return text, truth.short
    draw = rng.random()
    if draw < 0.45:
        return f"{text} {ONE_WORD}", truth.short
    if draw < 0.75 or question.boolean:
        return text, truth.sentence
    return text, foreign(truth.sentence, rng)
