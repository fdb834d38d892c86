"""CHAIR: objects that a caption mentions and the image does not have.

CHAIR_i = hallucinated mentions / all mentions (repeats count); CHAIR_s = captions with at least one / all
captions. What is a mention is data of the corpus: a ``Mentions`` turns text into canonical names. For COCO
that is the synonym list of the CHAIR authors; for the starter an object is its colour and shape, and a sign
or chart its noun.
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


_COLUMNS = ("hallucinated", "mentions", "bad_caption", "recalled", "objects", "n")


def make_chair(name: str, version: str, mentions: Mentions) -> Scorer:
    """A CHAIR scorer for one vocabulary; ``Answer.objects`` holds canonical names of what is in the image."""

    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            said, true = mentions(answer.prediction), set(answer.objects)
            wrong = [m for m in said if not _present(m, true)]
            parsed.append(", ".join(said))
            recalled = len(true & set(said))
            rows.append(
                (
                    float(len(wrong)),
                    float(len(said)),
                    float(bool(wrong)),
                    float(recalled),
                    float(len(true)),
                    1.0,
                )
            )
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        "chair_i": ratio(_COLUMNS, "hallucinated", "mentions", higher=False),
        "chair_s": ratio(_COLUMNS, "bad_caption", "n", higher=False),
        "recall": ratio(_COLUMNS, "recalled", "objects"),
    }
    return Scorer(
        name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="chair_i"
    )


def _present(mention: str, true: set[str]) -> bool:
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
    "chair_starter", "chair/starter/1", attribute_mentions(COLORS, (*SHAPES, "sign", "bar"))
)
