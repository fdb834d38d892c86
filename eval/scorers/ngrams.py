"""BLEU and ROUGE-L on tokenised captions, as the COCO caption evaluation computes them.

Rules (pycocoevalcap): BLEU: corpus level, closest reference length, tiny 1e-15 and small 1e-9. ROUGE-L: beta
1.2, the best precision and the best recall over references taken separately. Texts are token strings from
:mod:`eval.scorers.ptb`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.scorers.base import Array

_N = 4
_TINY, _SMALL = 1e-15, 1e-9
Grams = Counter[tuple[str, ...]]


def ngrams(text: str) -> Grams:
    """Counts of all n-grams, n = 1..4."""
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, _N + 1) for i in range(len(words) - n + 1))


def bleu_counts(caption: str, references: Sequence[str]) -> tuple[float, ...]:
    """(correct_1..4, guess_1..4, length, closest reference length): they add up over a corpus."""
    counts, length = ngrams(caption), len(caption.split())
    most: Grams = Counter()
    for reference in references:
        most |= ngrams(reference)
    correct = [0.0] * _N
    for gram, count in counts.items():
        correct[len(gram) - 1] += min(most[gram], count)
    guess = [float(max(0, length - n + 1)) for n in range(1, _N + 1)]
    closest = min((abs(len(r.split()) - length), len(r.split())) for r in references)[1] if references else 0
    return (*correct, *guess, float(length), float(closest))


def bleu(stats: Array, n: int = 4) -> Array:
    """BLEU-n in [0, 1] from summed counts of shape (..., 10)."""
    correct, guess = stats[..., :n], stats[..., _N : _N + n]
    precision = np.prod((correct + _TINY) / (guess + _SMALL), axis=-1) ** (1.0 / n)
    brevity = (stats[..., 2 * _N] + _TINY) / (stats[..., 2 * _N + 1] + _SMALL)
    penalty = np.where(brevity < 1, np.exp(1 - 1 / np.minimum(brevity, 1.0)), 1.0)
    return np.asarray(precision * penalty)


def rouge_l(caption: str, references: Sequence[str]) -> float:
    """ROUGE-L in [0, 1]."""
    # split(" ") as the reference: an empty text is one empty token, never a division by zero.
    words, beta = caption.split(" "), 1.2
    precision = recall = 0.0
    for reference in references:
        other = reference.split(" ")
        common = lcs(words, other)
        precision, recall = max(precision, common / len(words)), max(recall, common / len(other))
    if not precision or not recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def lcs(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004): one big-integer step per word of
    ``a``.
    """
    positions: dict[str, int] = {}
    for i, word in enumerate(b):
        positions[word] = positions.get(word, 0) | 1 << i
    full = (1 << len(b)) - 1
    row = full
    for word in a:
        matched = row & positions.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(b) - row.bit_count()
