"""What a rewrite must keep: facts as far as they can be compared mechanically (ours; the paper's review
prompt was not found). An LLM review follows; this gate is cheap and never tires.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from datagen.records import GateResult

LENGTH_RATIO = (0.5, 2.0)
# Below this many words a ratio says nothing: "Red." to "The ball is red." is four times as long and fine.
SHORT_WORDS = 8
_COLORS = frozenset(
    {
        *("red", "green", "blue", "yellow", "purple", "orange", "black", "white", "gray", "grey", "brown"),
        *("pink", "gold", "silver", "beige", "turquoise", "violet"),
    }
)
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
NUMBERS = {word: str(value) for value, word in enumerate((*_WORDS, "twelve"))}
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|without|cannot)\b|n't\b", re.IGNORECASE
)
_BOX = re.compile(r"\[[\d.,\s]+\]")
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)\b[A-Z][\w-]+")


def _numbers(text: str) -> Counter[str]:
    digits = Counter(re.findall(r"\d+(?:[.,]\d+)?", _BOX.sub(" ", text)))
    # "one" is mostly a pronoun ("one can see"), so it is not held against a rewrite that drops it.
    words = (w for w in re.findall(r"[a-z]+", text.lower()) if w in NUMBERS and w != "one")
    return digits + Counter(NUMBERS[w] for w in words)


def _colors(text: str) -> Counter[str]:
    words = (w for w in re.findall(r"[a-z]+", text.lower()) if w in _COLORS)
    return Counter("gray" if w == "grey" else w for w in words)


def _negated(text: str) -> Counter[str]:
    return Counter({"a negation": 1} if _NEGATION.search(text) else {})


def _boxes(text: str) -> Counter[str]:
    return Counter(re.sub(r"\s", "", b) for b in _BOX.findall(text))


def _names(text: str) -> set[str]:
    return {
        w.lower() for w in _NAME.findall(text) if w not in ("I", "It", "There", "The", "A", "An", "Yes", "No")
    }


# Counted, not only collected: "1 blue squares and circles" once became "1 blue squares and blue circles".
_KEPT: dict[str, Callable[[str], Counter[str]]] = {
    "numbers": _numbers,
    "colours": _colors,
    "negation": _negated,
    "boxes": _boxes,
}


def differing_facts(before: str, after: str, *, counted: bool = True) -> str:
    """The first kind of fact (numbers, colours, negation, boxes) that two texts do not share, in words; "" where
    all agree. With ``counted`` each is also named equally often."""
    for what, facts in _KEPT.items():
        old, new = facts(before), facts(after)
        if not counted:
            old, new = Counter(set(old)), Counter(set(new))
        if old != new:
            named = (("lost", sorted(old - new)), ("added", sorted(new - old)))
            return f"{what}: " + "; ".join(f"{verb} {', '.join(found)}" for verb, found in named if found)
    return ""


def preserve(original: str, rewritten: str) -> GateResult:
    """Same numbers, colours, negation and boxes in both; no name lost; length ratio within LENGTH_RATIO."""

    def failed(detail: str) -> GateResult:
        return GateResult(name="preserve", passed=False, detail=detail)

    if different := differing_facts(original, rewritten):
        return failed(different)
    words = set(re.findall(r"[\w-]+", rewritten.lower()))
    if missing := sorted(n for n in _names(original) if n not in words):
        return failed(f"names lost: {', '.join(missing)}")
    ratio = len(rewritten.split()) / max(1, len(original.split()))
    long_enough = max(len(rewritten.split()), len(original.split())) > SHORT_WORDS
    if long_enough and not LENGTH_RATIO[0] <= ratio <= LENGTH_RATIO[1]:
        return failed(f"{ratio:.2f} times as long")
    return GateResult(name="preserve", passed=True)
