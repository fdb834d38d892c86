"""CIDEr-D of a whole evaluation at once, in NumPy.

Rule (pycocoevalcap): n = 1..4, raw counts times (log N - log max(1, df)), clipped minimum, Gaussian length
penalty with sigma 6 on the difference of *bigram* counts, mean over n and over references, times 10. N is the
number of images in this evaluation, so a subset's CIDEr differs from the full set's and one image alone
scores 0. Texts are token strings from :mod:`eval.scorers.ptb`.

An n-gram is a number here: words are numbered, and an n-gram is its first n - 1 words' number joined with its
last word's, numbered again. Counting, idf and dot products are then sorts and sums over arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.scorers.base import Array

_N = 4
_SIGMA = 6.0
Ints = NDArray[np.int64]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    """CIDEr-D of each caption against its image's references, in [0, 10]; shape (n,).

    A caption without references scores 0.
    """
    n = len(captions)
    if n == 0:
        return np.zeros(0)
    # One list of texts: the n captions, then every reference, each with the image it belongs to.
    image = np.array([*range(n), *(i for i, refs in enumerate(references) for _ in refs)], dtype=np.int64)
    ids, owner = _words([*captions, *(r for refs in references for r in refs)])
    texts = len(image)
    bigrams = np.maximum(np.bincount(owner, minlength=texts) - 1, 0)
    similarity = np.zeros(texts)
    grams = ids.copy()
    for size in range(1, _N + 1):
        if size > 1:
            grams, owner, ids = _extend(grams, owner, ids, size)
        similarity += _cosines(_weigh(grams, owner, image, n, texts), image, n)
    away = bigrams - bigrams[image]
    similarity *= np.exp(-(away.astype(np.float64) ** 2) / (2 * _SIGMA**2)) / _N
    count = np.bincount(image[n:], minlength=n)
    total = np.bincount(image[n:], weights=similarity[n:], minlength=n)
    return np.asarray(10.0 * total / np.maximum(count, 1))


def _words(texts: Sequence[str]) -> tuple[Ints, Ints]:
    """(word numbers of all texts in a row, the text each word stands in)."""
    numbers: dict[str, int] = {}
    split = [text.split() for text in texts]
    ids = [numbers.setdefault(word, len(numbers)) for words in split for word in words]
    owner = np.repeat(np.arange(len(texts)), [len(words) for words in split])
    return np.array(ids, dtype=np.int64), owner


def _extend(grams: Ints, owner: Ints, last: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    """n-grams one word longer. ``last[i]`` is the last word of gram i; gram i + 1 begins one word later."""
    if len(grams) < 2:
        return grams[:0], owner[:0], last[:0]
    inside = owner[1:] == owner[:-1]
    width = int(last.max()) + 1
    joined = grams[:-1][inside] * width + last[1:][inside]
    return np.unique(joined, return_inverse=True)[1].astype(np.int64), owner[1:][inside], last[1:][inside]


@dataclass(frozen=True)
class _Vectors:
    """Sparse tf-idf: entry k says that text ``text[k]`` holds n-gram ``gram[k]`` with ``weight[k]``; sorted
    by text.
    """

    text: Ints
    gram: Ints
    weight: Array
    norm: Array
    width: int


def _weigh(grams: Ints, owner: Ints, image: Ints, n: int, texts: int) -> _Vectors:
    width = int(grams.max()) + 1 if len(grams) else 1
    entries, counts = np.unique(owner * width + grams, return_counts=True)
    text, gram = entries // width, entries % width
    told = text >= n
    df = np.bincount(_distinct(image[text[told]] * width + gram[told]) % width, minlength=width)
    weight = counts * (np.log(n) - np.log(np.maximum(df, 1)))[gram]
    norm = np.sqrt(np.bincount(text, weights=weight**2, minlength=texts))
    return _Vectors(text, gram, weight, norm, width)


def _distinct(values: Ints) -> Ints:
    """Sorted distinct values. np.unique hashes since NumPy 2.3, which takes 15 times as long on these."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _cosines(vectors: _Vectors, image: Ints, n: int) -> Array:
    """Similarity of every reference to its image's caption, shape (texts,); 0 for captions."""
    captions = vectors.text < n
    keys = vectors.text[captions] * vectors.width + vectors.gram[captions]
    text, weight = vectors.text[~captions], vectors.weight[~captions]
    wanted = image[text] * vectors.width + vectors.gram[~captions]
    if len(keys) == 0 or len(wanted) == 0:
        return np.zeros(len(image))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    other = np.where(keys[at] == wanted, vectors.weight[captions][at], 0.0)
    dots = np.bincount(text, weights=np.minimum(other, weight) * weight, minlength=len(image))
    lengths = vectors.norm * vectors.norm[image]
    return np.divide(dots, lengths, out=dots, where=lengths > 0)
