"""CHAIR on COCO: objects a caption mentions that neither the annotation nor the five captions know.

An image has the objects of ``Answer.objects`` (its categories with a mask) and all that ``golds`` (its human
captions) mention. Mentions: lower case; words and marks; every word to its singular; two words that are one
name ("hot dog", "baby bear", "passenger jet") taken together; where both "toilet" and "seat" are said, seats do
not count; then each name is its category. Repeats count in CHAIR_i. Words are those of
:mod:`eval.scorers.coco_objects`.

Singular (*ours*): of the words in the table only, by the plurals that English makes of them (-s, -es after s,
x, z, ch, sh, -ies for -y after a consonant, and irregular ones). The authors use a general inflector; a test
holds that it agrees on these words, but for the misspellings below.

Quirks kept in ``chair_coco``: "motor bike", "cheesecake" and "iPhone" never match; the inflector makes "bu" of
"bus", "ty" of "ties", "cano" of "canoes", so these are never mentioned; "orange" is a fruit even as a colour.
``chair_coco_clean`` finds all of them, and takes "orange" for a fruit only in the plural, or behind an article
and the like with no noun behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from eval.scorers.base import Answer
from eval.scorers.chair import make_chair
from eval.scorers.coco_objects import (
    IRREGULAR_PLURALS,
    LOST_BY_A_CAPITAL,
    LOST_BY_A_SPACE,
    MISSPELT,
    PHRASES,
    SYNONYMS,
)

_TOKEN = re.compile(r"'s\b|[^\W_]+(?:-[^\W_]+)*|[^\w\s]")
_BEFORE_FRUIT = frozenset(
    {
        "a",
        "an",
        "the",
        "one",
        "two",
        "three",
        "half",
        "another",
        "each",
        "this",
        "that",
        "sliced",
        "peeled",
        "cut",
    }
)
_AFTER_FRUIT = frozenset(
    {"and", "or", "in", "on", "at", "with", "next", "near", "beside", "behind", "between", "by", "to", "from"}
    | {"of", "for", "is", "are", "sits", "sit", "that", "which"}
)


def _plurals(word: str) -> list[str]:
    if re.search(r"(?:s|x|z|ch|sh)$", word):
        return [f"{word}es"]
    if re.search(r"[^aeiou]y$", word):
        return [f"{word[:-1]}ies"]
    return [f"{word}s"]


def _names(*, clean: bool) -> dict[str, str]:
    """Name -> category, the category itself included."""
    lost = () if clean else (*LOST_BY_A_SPACE, *LOST_BY_A_CAPITAL)
    return {
        name: category
        for category, others in SYNONYMS.items()
        for name in [category, *filter(None, others.split(", "))]
        if name not in lost
    }


def _singulars(names: Iterable[str], *, clean: bool) -> dict[str, str]:
    words = {word for name in names for word in name.split()} - set(IRREGULAR_PLURALS)
    regular = {plural: word for word in words for plural in _plurals(word) if plural not in words}
    return regular | IRREGULAR_PLURALS | ({} if clean else MISSPELT)


def coco_mentions(*, clean: bool) -> Callable[[str], list[str]]:
    """A function from a caption to the categories it mentions, in order, repeats included."""
    every = _names(clean=True)
    names, singular = _names(clean=clean), _singulars([*every, *PHRASES], clean=clean)
    # Phrases that are not counted still bind their words: "motor bike" is no bike under the official rule.
    phrases = {name: name for name in every if " " in name} | PHRASES

    def mentions(text: str) -> list[str]:
        tokens = _TOKEN.findall(text.lower())
        words = [singular.get(token, token) for token in tokens]
        if clean:
            words = [w if w != "orange" or _is_fruit(tokens, i) else "" for i, w in enumerate(words)]
        whole = _join(words, phrases)
        if "toilet" in whole and "seat" in whole:
            whole = [w for w in whole if w != "seat"]
        return [names[w] for w in whole if w in names]

    return mentions


def _join(words: list[str], phrases: dict[str, str]) -> list[str]:
    """Words with two that make a phrase replaced by what the phrase stands for, from the left."""
    out, i = [], 0
    while i < len(words):
        pair = " ".join(words[i : i + 2])
        if pair in phrases:
            out.append(phrases[pair])
            i += 2
        else:
            out.append(words[i])
            i += 1
    return out


def _is_fruit(tokens: list[str], i: int) -> bool:
    if tokens[i] == "oranges":
        return True
    before = tokens[i - 1] if i else ""
    after = tokens[i + 1] if i + 1 < len(tokens) else "."
    return before in _BEFORE_FRUIT and (after in _AFTER_FRUIT or not after[0].isalnum())


def _truth(mentions: Callable[[str], list[str]]) -> Callable[[Answer], set[str]]:
    def truth(answer: Answer) -> set[str]:
        annotated = {_CATEGORIES.get(name, name) for name in answer.objects}
        return annotated.union(*(mentions(caption) for caption in answer.golds))

    return truth


_CATEGORIES = _names(clean=True)
_OFFICIAL, _CLEAN = coco_mentions(clean=False), coco_mentions(clean=True)
CHAIR_COCO = make_chair("chair_coco", "chair_coco-official-1", _OFFICIAL, truth=_truth(_OFFICIAL))
CHAIR_COCO_CLEAN = make_chair("chair_coco_clean", "chair_coco-clean-1", _CLEAN, truth=_truth(_CLEAN))
