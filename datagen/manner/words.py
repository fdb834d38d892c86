"""Texts as numbers: words, and n-grams of words, as flat integer arrays with the text that each stands in.

English, or any language that puts spaces between words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words(text: str) -> list[str]:
    """Letters and digits, lower case; an apostrophe inside belongs to the word (``it's``), a hyphen divides."""
    return [word.replace("’", "'").lower() for word in _WORD.findall(text)]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A list of texts: ``ids`` int64 [N] of all their words in order, ``text`` int64 [N] the index of the text that
    each is in, ``texts`` how many there are (a text may be empty)."""

    ids: np.ndarray
    text: np.ndarray
    texts: int

    def lengths(self) -> np.ndarray:
        """Words by text, int64 [texts]."""
        return np.bincount(self.text, minlength=self.texts)


def encode(*groups: Sequence[str]) -> tuple[list[str], list[Tokens]]:
    """One vocabulary over several lists of texts, in order of first occurrence, and each list in its ids."""
    known: dict[str, int] = {}
    encoded = []
    for group in groups:
        split = [words(text) for text in group]
        encoded.append(
            Tokens(
                ids=np.array([known.setdefault(w, len(known)) for ws in split for w in ws], dtype=np.int64),
                text=np.repeat(np.arange(len(split)), [len(ws) for ws in split]).astype(np.int64),
                texts=len(split),
            )
        )
    return list(known), encoded


@dataclass(frozen=True, kw_only=True)
class Grams:
    """Occurrences of n-grams in a list of texts: ``index`` int64 [N] into a support of ``size``, ``text`` int64 [N]."""

    index: np.ndarray
    text: np.ndarray
    size: int

    def counts(self, weights: np.ndarray | None = None) -> np.ndarray:
        """How often each n-gram occurs, float64 [size]; ``weights`` [texts] says how often each text is taken."""
        taken = None if weights is None else weights[self.text]
        return np.bincount(self.index, weights=taken, minlength=self.size).astype(np.float64)


def grams(groups: Sequence[Tokens], n: int, vocabulary: int) -> list[Grams]:
    """The n-grams of several lists of texts over their common support; none spans two texts.

    Raises:
        ValueError: the vocabulary is too large to number its n-grams in 63 bits.
    """
    if vocabulary and n * np.log2(vocabulary) >= 63:
        raise ValueError(f"{vocabulary} words are too many for {n}-grams")
    keys, texts = zip(*(_windows(group, n, vocabulary) for group in groups), strict=True)
    support, index = np.unique(np.concatenate(keys), return_inverse=True)
    ends = np.cumsum([len(k) for k in keys])[:-1]
    return [
        Grams(index=part, text=text, size=len(support))
        for part, text in zip(np.split(index, ends), texts, strict=True)
    ]


def _windows(tokens: Tokens, n: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """(key of each n-gram, its text); the key is the number whose digits are the ids."""
    starts = max(0, len(tokens.ids) - n + 1)
    whole = tokens.text[:starts] == tokens.text[n - 1 : n - 1 + starts]
    key = np.zeros(starts, dtype=np.int64)
    for place in range(n):
        key = key * vocabulary + tokens.ids[place : place + starts]
    return key[whole], tokens.text[:starts][whole]


def chosen(tokens: Tokens, vocabulary: Sequence[str], words: Sequence[str]) -> Grams:
    """Occurrences of given words only; the support is the list of words, in its order."""
    place = {word: i for i, word in enumerate(words)}
    where = np.array([place.get(word, -1) for word in vocabulary], dtype=np.int64)
    index = where[tokens.ids] if len(vocabulary) else tokens.ids
    return Grams(index=index[index >= 0], text=tokens.text[index >= 0], size=len(words))
