"""How much the answers of a set repeat one another."""

from __future__ import annotations

import math

import numpy as np

from datagen.manner.words import Tokens, grams

ORDER = 4


def distinct(tokens: Tokens, n: int, vocabulary: int) -> float | None:
    """Different n-grams per n-gram (distinct-n, Li et al. 2016); None without any. Falls with the size of the set."""
    found = grams([tokens], n, vocabulary)[0]
    return found.size / len(found.index) if len(found.index) else None


def self_bleu(tokens: Tokens, vocabulary: int) -> float | None:
    """Mean BLEU-4 of each text against all others as references (Zhu et al. 2018), between 0 and 1; 1: all alike.

    Texts of fewer than four words are passed over; exponential smoothing of orders without a match, as sacrebleu has
    by default. The best and second best count of every n-gram say what the others hold, so the time is linear in the
    number of texts; comparing every pair is quadratic.
    """
    lengths = tokens.lengths()
    long = np.flatnonzero(lengths >= ORDER)
    if len(long) < 2:
        return None
    kept = np.isin(tokens.text, long)
    renumbered = np.searchsorted(long, tokens.text[kept])
    tokens = Tokens(ids=tokens.ids[kept], text=renumbered, texts=len(long))
    lengths = lengths[long]
    matched = np.stack([_matches(tokens, n, vocabulary) for n in range(1, ORDER + 1)])
    possible = lengths[None, :] - np.arange(ORDER)[:, None]
    brevity = np.minimum(1.0, np.exp(1 - _closest_other(lengths) / lengths))
    return float(np.mean(brevity * np.exp(_log_precisions(matched, possible).mean(axis=0))))


def _matches(tokens: Tokens, n: int, vocabulary: int) -> np.ndarray:
    """n-grams of each text that another text holds, each at most as often as it holds it; [texts]."""
    found = grams([tokens], n, vocabulary)[0]
    pairs, count = np.unique(found.index * tokens.texts + found.text, return_counts=True)
    gram, text = np.divmod(pairs, tokens.texts)
    order = np.lexsort((-count, gram))
    gram, text, count = gram[order], text[order], count[order]
    first = np.flatnonzero(np.diff(gram, prepend=-1))
    second = first + 1
    exists = second < len(gram)
    exists[exists] = gram[second[exists]] == gram[first[exists]]
    best = np.zeros(found.size, dtype=np.int64)
    best[gram[first]] = count[first]
    runner_up = np.zeros(found.size, dtype=np.int64)
    runner_up[gram[first[exists]]] = count[second[exists]]
    owner = np.zeros(found.size, dtype=np.int64)
    owner[gram[first]] = text[first]
    elsewhere = np.where(owner[gram] == text, runner_up[gram], best[gram])
    return np.bincount(text, weights=np.minimum(count, elsewhere), minlength=tokens.texts)


def _log_precisions(matched: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """log of matched / possible, [orders, texts]; the k-th order without a match counts as 1 / 2^k."""
    none = matched == 0
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=0), matched)
    smoothed[:, none[0]] = 0  # without a single word in common BLEU is 0, not small
    with np.errstate(divide="ignore"):
        return np.log(smoothed) - np.log(possible)


def _closest_other(lengths: np.ndarray) -> np.ndarray:
    """For each text the length of another that is closest to its own, the shorter of two; [texts]."""
    order = np.argsort(lengths, kind="stable")
    inside = lengths[order].astype(np.float64)
    below = np.concatenate([[-math.inf], inside[:-1]])
    above = np.concatenate([inside[1:], [math.inf]])
    closest = np.where(inside - below <= above - inside, below, above)
    out = np.empty(len(lengths))
    out[order] = closest
    return out
