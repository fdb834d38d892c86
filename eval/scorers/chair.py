"""CHAIR: objects that a caption mentions and the image does not have.

CHAIR_i = hallucinated mentions / all mentions (repeats count); CHAIR_s = captions with at least one / all
captions. What is a mention is data of the corpus: a ``Mentions`` turns text into canonical names. COCO's is in
:mod:`eval.scorers.chair_coco`; for the starter an object is its colour and shape, and a sign or chart its
noun. A caption that mentions nothing counts in ``silent``: it hallucinates nothing and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from datagen.starter.scene import COLORS, SHAPES
from eval.scorers.base import Answer, Scored, Scorer, ratio, table

Mentions = Callable[[str], list[str]]


def synonym_mentions(synonyms: Mapping[str, str]) -> Mentions:
    """Mentions by a table synonym -> canonical name; longest synonym first, whole words, a plural s or es
    allowed.
    """
    words = sorted(synonyms, key=lambda w: (-len(w), w))
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})(?:e?s)?\b") if words else None

    def mentions(text: str) -> list[str]:
        found = pattern.findall(text.lower()) if pattern else []
        return [synonyms[_singular(w, synonyms)] for w in found]

    return mentions


def _singular(word: str, known: Mapping[str, str]) -> str:
    return next(w for w in (word, word[:-1], word[:-2]) if w in known)


def attribute_mentions(attributes: Iterable[str], nouns: Iterable[str]) -> Mentions:
    """Mentions of ``attribute noun`` pairs ("red circle"), and of bare nouns where no attribute stands
    before.
    """
    attribute, noun = "|".join(map(re.escape, attributes)), "|".join(map(re.escape, nouns))
    pattern = re.compile(rf"\b(?:({attribute}) )?({noun})(?:e?s)?\b")

    def mentions(text: str) -> list[str]:
        return [f"{a} {n}".strip() for a, n in pattern.findall(text.lower())]

    return mentions


_COLUMNS = ("hallucinated", "mentions", "bad_caption", "recalled", "objects", "silent", "n")


def _annotated(answer: Answer) -> set[str]:
    return set(answer.objects)


def _same(mention: str, true: set[str]) -> bool:
    return mention in true


def make_chair(
    name: str,
    version: str,
    mentions: Mentions,
    *,
    truth: Callable[[Answer], set[str]] = _annotated,
    present: Callable[[str, set[str]], bool] = _same,
) -> Scorer:
    """A CHAIR scorer for one vocabulary.

    Args:
        truth: canonical names of what is in an answer's image; ``Answer.objects`` by default.
        present: whether a mention is among them.
    """

    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            said, true = mentions(answer.prediction), truth(answer)
            wrong = sum(not present(m, true) for m in said)
            parsed.append(", ".join(said))
            counts = (wrong, len(said), wrong > 0, len(true & set(said)), len(true), not said, 1)
            rows.append(tuple(map(float, counts)))
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        "chair_i": ratio(_COLUMNS, "hallucinated", "mentions", higher=False),
        "chair_s": ratio(_COLUMNS, "bad_caption", "n", higher=False),
        "recall": ratio(_COLUMNS, "recalled", "objects"),
        "silent": ratio(_COLUMNS, "silent", "n", higher=False),
    }
    return Scorer(
        name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="chair_i"
    )


def _same_or_noun(mention: str, true: set[str]) -> bool:
    """A bare noun is present where any object of that noun is."""
    return mention in true or any(o.endswith(" " + mention) for o in true)


def object_names(objects: Iterable[tuple[str, Sequence[str]]], attributes: Iterable[str]) -> tuple[str, ...]:
    """Canonical names of annotated (name, attributes) objects: "red circle", or the bare name without an
    attribute.
    """
    known = set(attributes)
    named = {" ".join([*(a for a in of if a in known), name]) for name, of in objects}
    return tuple(sorted(named))


CHAIR_STARTER = make_chair(
    "chair_starter",
    "chair_starter-clean-1",
    attribute_mentions(COLORS, (*SHAPES, "sign", "bar")),
    present=_same_or_noun,
)
