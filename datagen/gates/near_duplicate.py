"""Rows that say nearly the same: MinHash of word shingles (Broder 1997), found by bands (LSH).

Rows are compared when they ask about the same picture, by its bytes: "What color is the ball?" about a thousand
pictures is a thousand questions. Rows without a picture, and all rows when asked so, are compared across the set.
Short answers must be equal: "Is the large ball left of the box? yes" and "… no" share nearly every word and
contradict each other.

The sketch keeps one byte of each of the 128 minima (b-bit minwise hashing, Li and König 2010), a quarter of the
traffic, and the share of chance hits (1/256) is taken out of the estimate; a hash of the exact words follows. Ours
instead of `datasketch`, which hashes shingle by shingle in Python: `tests/bench/bench_dedup.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from datagen.gates.shingles import conversation_words, ngram_hashes, stable_hash, words
from datagen.records import GateResult, Turn

NAME = "near_duplicate"
# Three, not the five of web pages: instructions are short, and one changed word should not change every shingle.
SHINGLE_WORDS = 3
PERMUTATIONS = 128
EXACT = 8
# Answers up to this many words are facts; two different ones are never the same row.
SHORT_ANSWER_WORDS = 4
# Of two rows exactly as similar as the threshold this share must meet in a bucket.
RECALL = 0.98

_CHANCE = 1 / 256
# What can be said at most of two texts that are not the same.
_ALMOST = 0.999
_COEFFICIENTS = np.random.Generator(np.random.PCG64(20231101)).integers(
    1 << 63, size=(2, PERMUTATIONS), dtype=np.uint64
)
_A, _B = _COEFFICIENTS[0] * np.uint64(2) + np.uint64(1), _COEFFICIENTS[1]


def sketches(conversations: Sequence[Iterable[Turn]]) -> np.ndarray:
    """Sketches of conversations: uint8 of shape (rows, PERMUTATIONS + EXACT).

    A conversation without a single word (emoji only) is sketched by its raw text, so that only equal ones meet.
    """
    texts = [conversation_words(c) or ["\x1f".join(t.text for t in c)] for c in conversations]
    hashes, starts = ngram_hashes(texts, SHINGLE_WORDS)
    found = np.empty((len(texts), PERMUTATIONS + EXACT), dtype=np.uint8)
    if not texts:
        return found
    for k in range(PERMUTATIONS):
        # Multiply-shift: the upper half of a*x+b. The minimum decides on 32 bits, a mixed byte of it is kept.
        minima = np.minimum.reduceat((hashes * _A[k] + _B[k]) >> np.uint64(32), starts[:-1])
        found[:, k] = (minima * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56)
    exact = np.array([stable_hash(*text) for text in texts], dtype="<u8")
    found[:, PERMUTATIONS:] = exact.view(np.uint8).reshape(-1, EXACT)
    return found


def similarity(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Estimated Jaccard similarity of the shingles of one sketch (columns,) with others (n, columns), float64 (n,).

    Standard error about sqrt(s * (1 - s) / 128): 0.035 at 0.8. Exactly 1 for the same words in the same order, and
    for nothing else.
    """
    equal = one == others
    estimate = (equal[:, :PERMUTATIONS].mean(axis=1) - _CHANCE) / (1 - _CHANCE)
    return np.where(equal[:, PERMUTATIONS:].all(axis=1), 1.0, np.minimum(estimate, _ALMOST))


def bands(threshold: float) -> tuple[int, int]:
    """``(bands, rows per band)``: the longest bands in which a pair of similarity ``threshold`` still meets with
    probability RECALL. Longer bands mean fewer pairs to look at in vain; each pair that meets is then compared."""
    for rows in range(PERMUTATIONS, 1, -1):
        number = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** number >= RECALL:
            return number, rows
    return PERMUTATIONS, 1


def band_keys(sketch: np.ndarray, groups: np.ndarray, threshold: float) -> np.ndarray:
    """Bucket keys, uint64 of shape (rows, bands): rows of one group with an equal band share a key.

    Args:
        sketch: from `sketches`.
        groups: uint64 (rows,), from `group`.
    """
    number, rows = bands(threshold)
    keys = np.empty((len(sketch), number), dtype=np.uint64)
    for band in range(number):
        key = groups + np.uint64((band + 1) * 0xD6E8FEB86659FD93 % 2**64)
        for column in range(band * rows, (band + 1) * rows):
            key = (key ^ sketch[:, column]) * np.uint64(0x100000001B3)
            key ^= key >> np.uint64(29)
        keys[:, band] = key
    return keys


def group(turns: Iterable[Turn], pictures: Sequence[str]) -> int:
    """Rows are compared within a group only: same pictures (names of their content), same short answers."""
    answers = [words(t.text) for t in turns if t.role == "assistant"]
    short = [" ".join(a) if len(a) <= SHORT_ANSWER_WORDS else "*" for a in answers]
    return stable_hash(*sorted(pictures), "\x1e", *short)


def result(kept: str, nearest: str, similar: float) -> GateResult:
    """What a dropped row collided with: ``nearest`` is the row it resembles, ``kept`` the one that stays for the
    whole cluster (they differ where resemblance goes from row to row)."""
    how = "same words as" if similar >= 1 else f"similarity {similar:.2f} with"
    more = "" if kept == nearest else f"; {kept} stays for all rows like it"
    return GateResult(name=NAME, passed=False, detail=f"{how} {nearest}{more}")
