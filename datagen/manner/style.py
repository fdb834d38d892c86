"""Sentences and words of an answer in numbers."""

from __future__ import annotations

import re

from datagen.manner.words import words

# A point after these ends no sentence; single letters (initials) are covered by the pattern.
ABBREVIATIONS = {
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "e.g", "i.e", "cf", "fig",
    "approx", "inc", "ltd", "co", "dept", "est", "u.s", "u.k", "a.m", "p.m",
}  # fmt: skip
# The end of a sentence: its mark, closing quotes or brackets, and white space before whatever comes next.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)")
_LAST_WORD = re.compile(r"([^\s(\[\"'“]+)$")
STATISTICS = {
    "words_per_sentence": "words per sentence",
    "sentences_per_answer": "sentences per answer",
    "words_per_answer": "words per answer",
    "letters_per_word": "letters per word",
    "type_token_ratio": "different words per word",
}


def sentences(text: str) -> list[str]:
    """The sentences of a text; a line of its own (a heading, a list item) is one. Pieces without a word are dropped."""
    found = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if _is_end(line[start : end.start()], end[0]):
                found.append(line[start : end.end()])
                start = end.end()
        found.append(line[start:])
    return [s.strip() for s in found if words(s)]


def _is_end(before: str, mark: str) -> bool:
    if mark[0] != ".":
        return True
    last = _LAST_WORD.search(before)
    # "1." at the start of an item, "J." in a name, "Dr." and "e.g." end nothing.
    if last is None:
        return False
    word = last[1].lower()
    numbers_item = word.isdigit() and not before[: last.start()].strip()
    initial = len(word) == 1 and word.isalpha() and word != "i"
    return not (numbers_item or initial or word in ABBREVIATIONS)


def statistics(text: str) -> dict[str, float]:
    """The entries of STATISTICS for one answer, 0 throughout for a text without words. The type-token ratio falls
    with length: compare it for answers of about equal length."""
    said, parts = words(text), sentences(text)
    if not said:
        return dict.fromkeys(STATISTICS, 0.0)
    return {
        "words_per_sentence": len(said) / len(parts),
        "sentences_per_answer": float(len(parts)),
        "words_per_answer": float(len(said)),
        "letters_per_word": sum(map(len, said)) / len(said),
        "type_token_ratio": len(set(said)) / len(said),
    }


def sentence_lengths(texts: list[str]) -> list[int]:
    """Words in each sentence of each text, in order."""
    return [len(words(sentence)) for text in texts for sentence in sentences(text)]
