"""CIDEr-D, BLEU and ROUGE-L on tokenised captions, as the COCO caption evaluation computes them.

Rules (pycocoevalcap): CIDEr-D: n = 1..4, raw counts times (log N - log max(1, df)), clipped minimum, Gaussian
length penalty with sigma 6 on the difference of *bigram* counts, times 10; N is the number of images in this
evaluation, so a subset's CIDEr differs from the full set's and one image alone scores 0. BLEU: corpus level,
closest reference length, tiny 1e-15 and small 1e-9. ROUGE-L: beta 1.2, the best precision and the best recall
over references taken separately. Texts are token strings from :mod:`eval.scorers.ptb`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.scorers.base import Array

_N = 4
_SIGMA = 6.0
_TINY, _SMALL = 1e-15, 1e-9
Grams = Counter[tuple[str, ...]]


def ngrams(text: str) -> Grams:
    """Counts of all n-grams, n = 1..4."""
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, _N + 1) for i in range(len(words) - n + 1))


class Cider:
    """CIDEr-D against one set of references; idf and reference vectors are computed once and serve many
    models.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        grams = [[ngrams(r) for r in refs] for refs in references]
        df = Counter(g for refs in grams for g in set().union(*refs))
        self._log_n = math.log(len(grams)) if grams else 0.0
        self._log_df = {g: math.log(c) for g, c in df.items()}
        self._references = [[self._vector(r) for r in refs] for refs in grams]

    def score(self, image: int, caption: str) -> float:
        """CIDEr-D of one caption against the references of image ``image``, in [0, 10]."""
        hypothesis, references = self._vector(ngrams(caption)), self._references[image]
        return (
            10.0 * sum(_similarity(hypothesis, r) for r in references) / len(references)
            if references
            else 0.0
        )

    def _vector(self, counts: Grams) -> tuple[dict[tuple[str, ...], float], list[float], int]:
        weights = {g: c * (self._log_n - self._log_df.get(g, 0.0)) for g, c in counts.items()}
        squares = [0.0] * _N
        for gram, weight in weights.items():
            squares[len(gram) - 1] += weight * weight
        bigrams = sum(c for g, c in counts.items() if len(g) == 2)
        return weights, [math.sqrt(s) for s in squares], bigrams


def _similarity(
    hypothesis: tuple[dict[tuple[str, ...], float], list[float], int],
    reference: tuple[dict[tuple[str, ...], float], list[float], int],
) -> float:
    (hyp, hyp_norm, hyp_len), (ref, ref_norm, ref_len) = hypothesis, reference
    dots = [0.0] * _N
    for gram, weight in hyp.items():
        other = ref.get(gram)
        if other is not None:
            dots[len(gram) - 1] += min(weight, other) * other
    cosines = [d / (a * b) if a and b else d for d, a, b in zip(dots, hyp_norm, ref_norm, strict=True)]
    return sum(cosines) / _N * math.exp(-((hyp_len - ref_len) ** 2) / (2 * _SIGMA**2))


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
        common = _lcs(words, other)
        precision, recall = max(precision, common / len(words)), max(recall, common / len(other))
    if not precision or not recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _lcs(a: list[str], b: list[str]) -> int:
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
