"""Loops and gibberish: what a sampler falls into when a model has nothing to say."""

from __future__ import annotations

import re
from collections import Counter

from datagen.records import GateResult

MAX_RUN = 3
MAX_REPEATED_TRIGRAM_SHARE = 0.5
MIN_WORDS_FOR_TRIGRAMS = 12
MIN_LETTER_SHARE = 0.4
_RUN = re.compile(rf"\b(\w+)(?:\W+\1\b){{{MAX_RUN},}}", re.IGNORECASE)
_REPLACEMENT = "�"


def degenerate(question: str, answer: str) -> GateResult:
    """A word more than MAX_RUN times in a row, most trigrams repeated, replacement characters, or a question
    that is mostly not letters. Thresholds are ours.
    """
    for name, text in (("question", question), ("answer", answer)):
        if found := _problem(text, letters=name == "question"):
            return GateResult(name="degenerate", passed=False, detail=f"{name}: {found}")
    return GateResult(name="degenerate", passed=True)


def _problem(text: str, letters: bool) -> str:
    if _REPLACEMENT in text:
        return "bytes that are no text"
    if run := _RUN.search(text):
        return f"{run[1]!r} again and again"
    words = text.lower().split()
    if len(words) >= MIN_WORDS_FOR_TRIGRAMS:
        trigrams = Counter(zip(words, words[1:], words[2:], strict=False))
        share = 1 - len(trigrams) / trigrams.total()
        if share > MAX_REPEATED_TRIGRAM_SHARE:
            return f"{share:.0%} of its trigrams are repeats"
    compact = re.sub(r"\s|\[[\d,. ]+\]", "", text)
    if letters and compact and sum(c.isalpha() for c in compact) / len(compact) < MIN_LETTER_SHARE:
        return "hardly any letters"
    return ""
