"""Whether two answers to one question say the same, decided without a model (*ours*).

Exact enough to compare a model's own answers with each other; not a scorer of benchmarks (those are in ``eval``).
"""

from __future__ import annotations

import re
from collections import Counter

from datagen.gates.preserve import NUMBERS, differing_facts
from datagen.parsing import normalise

SHORT_WORDS = 3
MIN_F1 = 0.8


def agrees(said: str, answer: str, options: tuple[str, ...] = ()) -> bool:
    """Whether a text that a model said agrees with the answer of a record; of a multiple choice (whose answer is a
    letter) it must name the letter or say the option."""
    if not options:
        return agree(said, answer)
    # Not the article that begins "A dog".
    named = re.match(r"\W*([A-H])\b(?!\s+\w)", said)
    if named:
        return named[1] == answer
    return agree(said, options["ABCDEFGH".index(answer)])


def agree(one: str, other: str) -> bool:
    """Equal after normalising; or no differing number, colour, negation or box, and either the shorter one's at most
    SHORT_WORDS words all stand in the longer ("red", "The ball is red.") or the words overlap with F1 of MIN_F1."""
    a, b = _words(one), _words(other)
    if a == b:
        return True
    if not a or not b or differing_facts(one, other, counted=False):
        return False
    for word in ("yes", "no"):
        if (a[0] == word) != (b[0] == word):
            return False
    shorter, longer = sorted((a, b), key=len)
    if len(shorter) <= SHORT_WORDS:
        return set(shorter) <= set(longer)
    shared = (Counter(a) & Counter(b)).total()
    return 2 * shared / (len(a) + len(b)) >= MIN_F1


def _words(text: str) -> list[str]:
    return [NUMBERS.get(word, word) for word in normalise(text).split()]
