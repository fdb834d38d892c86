"""Words and n-grams of two sets of answers against the inner LLM's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.manner.divergence import jensen_shannon, keyness
from datagen.manner.estimates import Bootstrap
from datagen.manner.result import Divergence, Word, Words
from datagen.manner.wordlist import function_words
from datagen.manner.words import Grams, Tokens, chosen, encode, grams

ORDERS = {1: "words", 2: "word pairs", 3: "word triples"}
FUNCTION_WORDS = "function words"
LISTED = 15
# Words whose use differs by less are not listed: chance does as much to one word in 370.
STRIKING = 3.0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Divergences from the reference, and the words behind them."""

    divergences: tuple[Divergence, ...]
    words: Words
    function_words: Words | None


def compare(
    before: Sequence[str], after: Sequence[str], own: Sequence[str], draws: Bootstrap, *, seed: int
) -> Compared | None:
    """Three sets of answers to the same questions, in the same order; None where a set has no words at all."""
    vocabulary, sides = encode(before, after, own)
    if not all(len(side.ids) for side in sides):
        return None
    function = [chosen(side, vocabulary, function_words()) for side in sides]
    found = [_divergence(name, grams(sides, n, len(vocabulary)), draws, seed) for n, name in ORDERS.items()]
    found.append(_divergence(FUNCTION_WORDS, function, draws, seed))
    return Compared(
        divergences=tuple(d for d in found if d is not None),
        words=_striking(vocabulary, [_counts(side, len(vocabulary)) for side in sides], sides),
        function_words=_striking(function_words(), [side.counts() for side in function], sides),
    )


def _counts(side: Tokens, vocabulary: int) -> np.ndarray:
    return np.bincount(side.ids, minlength=vocabulary).astype(np.float64)


def _divergence(name: str, sides: Sequence[Grams], draws: Bootstrap, seed: int) -> Divergence | None:
    """None where a set has none of these (answers shorter than n words, no function word)."""
    if not all(len(side.index) for side in sides):
        return None

    def distances(drawn: np.ndarray) -> list[float]:
        before, after, own = (side.counts(drawn) for side in sides)
        found = [_or_nan(jensen_shannon, before, own), _or_nan(jensen_shannon, after, own)]
        return [*found, found[1] - found[0]]

    before, after, difference = draws.estimate(distances)
    return Divergence(
        name=name, before=before, after=after, difference=difference, floor=_floor(sides[2], draws, seed)
    )


def _or_nan(of: Callable[[np.ndarray, np.ndarray], float], p: np.ndarray, q: np.ndarray) -> float:
    """A draw may happen to hold nothing; that replicate does not count."""
    return of(p, q) if p.any() and q.any() else float("nan")


def _floor(own: Grams, draws: Bootstrap, seed: int) -> float | None:
    """The reference against itself: images split in two halves at random."""
    clusters = int(draws.clusters.max()) + 1
    half = np.zeros(clusters)
    half[np.random.default_rng(seed).permutation(clusters)[: clusters // 2]] = 1
    first = half[draws.clusters]
    value = _or_nan(jensen_shannon, own.counts(first), own.counts(1 - first))
    return value if np.isfinite(value) else None


def _striking(names: Sequence[str], counts: Sequence[np.ndarray], sides: Sequence[Tokens]) -> Words:
    """Words by how strikingly the first set uses them more, or less, than the last."""
    z = keyness(counts[0], counts[2])
    per_thousand = [1000 * c / max(1, len(side.ids)) for c, side in zip(counts, sides, strict=True)]

    def entry(i: int) -> Word:
        rates = [float(rate[i]) for rate in per_thousand]
        return Word(word=names[i], before=rates[0], after=rates[1], own=rates[2], z=float(z[i]))

    order = np.argsort(-z, kind="stable")
    return Words(
        over=tuple(entry(i) for i in order[:LISTED] if z[i] >= STRIKING),
        under=tuple(entry(i) for i in order[::-1][:LISTED] if z[i] <= -STRIKING),
    )
