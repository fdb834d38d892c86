"""ROUGE-L at summary level as the package ``rouge-score`` computes it, without stemming.

Lin 2004, section 3.2: lines are sentences, words are runs of a-z and 0-9. Each reference sentence takes the
union of its longest common subsequences with all sentences of the prediction; a word counts no more often
than both texts hold it. Texts of other scripts have no words here and score 0, as in the package.
"""

from __future__ import annotations

import re
from collections import Counter

from eval.scorers.ngrams import lcs

_WORD = re.compile(r"[a-z0-9]+")


def rouge_lsum(reference: str, prediction: str) -> float:
    """F1 in [0, 1]. " . " is a line break first, as in the T5 and lm-evaluation-harness metrics."""
    true, said = _sentences(reference), _sentences(prediction)
    total_true, total_said = sum(map(len, true)), sum(map(len, said))
    if not total_true or not total_said:
        return 0.0
    hits = lcs(true[0], said[0]) if len(true) == len(said) == 1 else _union_hits(true, said)
    # The harmonic mean of hits / total_said and hits / total_true.
    return 2.0 * hits / (total_true + total_said)


def _sentences(text: str) -> list[list[str]]:
    lines = text.replace(" . ", ".\n").split("\n")
    return [words for line in lines if (words := _WORD.findall(line.lower()))]


def _union_hits(true: list[list[str]], said: list[list[str]]) -> int:
    left_true = Counter(word for sentence in true for word in sentence)
    left_said = Counter(word for sentence in said for word in sentence)
    hits = 0
    for sentence in true:
        for i in sorted(set().union(*(_common_places(sentence, other) for other in said))):
            word = sentence[i]
            if left_true[word] > 0 and left_said[word] > 0:
                hits += 1
                left_true[word] -= 1
                left_said[word] -= 1
    return hits


def _common_places(a: list[str], b: list[str]) -> set[int]:
    """Places in ``a`` of the common subsequence that the package's way back through the table finds."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    i, j, places = len(a), len(b), set()
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            places.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places
