"""Blind pairwise judgement with position swap: each pair is shown in both orders, and what counts is agreement.

Models prefer a position; a verdict that turns with the order says nothing about the answers and is a tie. What cannot
be read is counted as such and never guessed.
"""

from __future__ import annotations

import re
from typing import Literal

Choice = Literal["A", "B", "tie", "unparsed"]
Verdict = Literal["after", "before", "tie", "inconsistent", "unparsed"]

_MARKED = re.compile(r"\[\[\s*(A|B|tie)\s*\]\]", re.IGNORECASE)
# A bare letter counts only where it is all that was said: "A red circle" is not a verdict.
_BARE = re.compile(r"\W*(?:(?:answer|verdict)\W+)?(A|B|tie)\W*", re.IGNORECASE)


def parse_choice(text: str) -> Choice:
    """``[[A]]``, ``[[B]]`` or ``[[tie]]``, the same every time it occurs, or nothing but the letter."""
    marked = {found.upper() for found in _MARKED.findall(text)}
    bare = _BARE.fullmatch(text)
    if len(marked) == 1:
        said = marked.pop()
    elif not marked and bare:
        said = bare[1].upper()
    else:
        return "unparsed"
    return "tie" if said == "TIE" else "A" if said == "A" else "B"


def combine(after_second: Choice, after_first: Choice) -> Verdict:
    """Both orders as one verdict.

    Args:
        after_second: what was said with the old answer as A and the new one as B.
        after_first: what was said with the new answer as A.
    """
    if "unparsed" in (after_second, after_first):
        return "unparsed"
    first: Verdict = {"A": "before", "B": "after", "tie": "tie"}[after_second]  # type: ignore[assignment]
    second: Verdict = {"A": "after", "B": "before", "tie": "tie"}[after_first]  # type: ignore[assignment]
    return first if first == second else "inconsistent"
