"""ScienceQA: the option letter, by LLaVA's rule and by lmms-eval's narrower one; all questions, and those
with an image.

``scienceqa`` (LLaVA): exactly a letter A to E; or a letter, a period and a space at the start; or exactly one
"The answer is X" with one more character behind it. That character may be anything, since the rule's period
is not escaped: "The answer is Apple" is an A, and "The answer is B" at the very end is nothing. A letter
beyond the choices is wrong.
``scienceqa_lmms``: exactly the letter, or any capital and a period at the start.
``scienceqa_clean`` (*ours*): LLaVA's with the period meant as one, or the end of the text.
``Answer.meta["image"]`` False marks a question without an image; it stays out of ``accuracy_image``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_LETTERS = "ABCDE"
_SENTENCE = re.compile(r"The answer is ([A-Z]).")
_SENTENCE_CLEAN = re.compile(r"The answer is ([A-Z])(?:\.|\s*$)")
_COLUMNS = ("correct", "correct_image", "image", "unparsed", "n")


def _read(sentence: re.Pattern[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if len(text) == 1 and text in _LETTERS:
            return text
        if text[1:3] == ". " and text[0] in _LETTERS:
            return text[0]
        found = sentence.findall(text)
        return str(found[0]) if len(found) == 1 else ""

    return read


read_llava = _read(_SENTENCE)
read_clean = _read(_SENTENCE_CLEAN)


def read_lmms(text: str) -> str:
    """The letter lmms-eval compares: any single capital, or a capital before a period."""
    return text[0] if text and text[0].isupper() and text[1:2] in ("", ".") else ""


def _make(name: str, version: str, read: Callable[[str], str]) -> Scorer:
    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            said = read(answer.prediction)
            if answer.options and said not in _LETTERS[: len(answer.options)]:
                said = ""
            right, image = (
                float(said != "" and said == answer.gold),
                float(bool(answer.meta.get("image", True))),
            )
            parsed.append(said)
            rows.append((right, right * image, image, float(said == ""), 1.0))
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        "accuracy": ratio(_COLUMNS, "correct", "n"),
        "accuracy_image": ratio(_COLUMNS, "correct_image", "image"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    }
    return Scorer(
        name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="accuracy"
    )


SCIENCEQA = _make("scienceqa", "scienceqa-official-1", read_llava)
SCIENCEQA_LMMS = _make("scienceqa_lmms", "scienceqa-lmms-1", read_lmms)
SCIENCEQA_CLEAN = _make("scienceqa_clean", "scienceqa-clean-1", read_clean)
