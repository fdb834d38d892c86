"""Documents: average normalised Levenshtein similarity (ANLS) of DocVQA.

The best 1 - distance / length over the golds, 0 where that is below one half; exactly one half stays. Both
sides are lower case with single spaces for the distance, but the length is that of the longer *raw* text, as
in the code of Qwen-VL that lmms-eval uses: "a  b" against "a b" has length 4. ``anls_clean`` takes the
normalised length. PyPI's ``anls`` 0.0.2 drops one half, ``anls-star`` keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_COLUMNS = ("anls", "exact", "unparsed", "n")
_THRESHOLD = 0.5


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance, bit-parallel (Hyyrö 2003): a few big-integer steps per character of ``b``."""
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for i, char in enumerate(a):
        places[char] = places.get(char, 0) | 1 << i
    full, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, distance = full, 0, len(a)
    for char in b:
        same = places.get(char, 0)
        diagonal = (((same & up) + up) ^ up) | same | down
        right = down | (full & ~(diagonal | up))
        left = up & diagonal
        distance += bool(right & last) - bool(left & last)
        right, left = (right << 1 | 1) & full, (left << 1) & full
        up, down = left | (full & ~(diagonal | right)), right & diagonal
    return distance


def normalise(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def similarity(prediction: str, golds: Sequence[str], length: Callable[[str], int]) -> float:
    """The best 1 - NL over the golds, 0 below one half; ``length`` of a raw text is what NL divides by."""
    said, best = normalise(prediction), 0.0
    for gold in golds:
        longest = max(length(gold), length(prediction))
        distance = edit_distance(normalise(gold), said)
        best = max(best, 1.0 - distance / longest if longest else 1.0)
    return best if best >= _THRESHOLD else 0.0


def _make(name: str, version: str, length: Callable[[str], int]) -> Scorer:
    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            said = normalise(answer.prediction)
            near = similarity(answer.prediction, answer.golds, length)
            parsed.append(said)
            rows.append((near, float(said in {normalise(g) for g in answer.golds}), float(not said), 1.0))
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        "anls": ratio(_COLUMNS, "anls", "n"),
        "exact": ratio(_COLUMNS, "exact", "n"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    }
    return Scorer(name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="anls")


ANLS = _make("anls", "anls-official-1", len)
ANLS_CLEAN = _make("anls_clean", "anls-clean-1", lambda text: len(normalise(text)))
