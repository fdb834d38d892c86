"""MMMU: the official readers of multiple-choice and open answers, without their random guess.

Multiple choice: punctuation off both ends; options named as "(A)", else as " A "; in answers of more than five
words, else, the text of an option. Of several the last one named counts. Where nothing is found the official
code draws an option at random; here that is wrong and counted in ``unparsed``, and ``accuracy_expected`` adds
1/k for it, what the draw is worth on average. ``mmmu_lmms`` looks for "A " (so the "A" of "DNA " counts) and
then for "A." as well.

Open: the answer is cut into sentences, each keeps what stands behind its last "is ", "answer " and the like
(behind "=" in the last sentence); these texts and all numbers in them are candidates. A number is right when
equal at two decimals, a text when the gold is inside it. Numbers of more than 300 digits are cut: *ours*, so
that an endless answer costs no minutes.
``Answer.meta["question_type"]`` is ``multiple-choice`` or ``open``; without it, options make a choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_EDGES = (",", ".", "!", "?", ";", ":", "'")
_KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset({":", ",", ".", "!", "?", ";", "'"})
# The sentence rule looks for capitals after the text was lower-cased, so only line breaks ever split. Kept.
_SENTENCES = re.compile(r"\.\s(?=[A-Z])|\n")
_D = r"\d{1,300}"
_NUMBERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        rf"-?{_D}(?:\.{_D})?[eE][+-]?{_D}",
        rf"-?(?:{_D}\.{_D}|\.{_D}|{_D}\b)(?![eE][+-]?\d)(?![,\d])",
    )
)
Value = str | float


def read_choice(text: str, options: Sequence[str], *, lmms: bool = False) -> str:
    """The letter of the chosen option, '' where the official code would draw one."""
    for mark in _EDGES:
        text = text.strip(mark)
    text = f" {text} "
    letters = [chr(ord("A") + i) for i in range(len(options))]
    patterns = ["({})", "{} ", "{}."] if lmms else ["({})", " {} "]
    for pattern in patterns:
        named = [x for x in letters if pattern.format(x) in text]
        if named:
            # Which came last is looked up as "(A)" or " A ", whatever the letters were found by.
            last = "({})" if pattern == "({})" else " {} "
            return max(named, key=lambda x: text.rfind(last.format(x)))
    if len(text.split()) > 5:
        lower = text.lower()
        told = {
            x: lower.rfind(o.lower()) for x, o in zip(letters, options, strict=True) if o.lower() in lower
        }
        if told:
            return max(told, key=lambda x: told[x])
    return ""


def normalise(text: str) -> list[Value]:
    """A number rounded to two decimals, or a lower-case text; a single character with a space on one side."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        lower = text.lower()
        return [f" {lower}", f"{lower} "] if len(lower) == 1 else [lower]


def read_open(text: str) -> list[Value]:
    """All candidates in an open answer."""
    text = text.strip().strip(".").lower()
    sentences = _SENTENCES.split(text)
    keys = []
    for i, sentence in enumerate(sentences):
        marks = (*_KEYS, "=") if i == len(sentences) - 1 else _KEYS
        shortest = ""
        for mark in marks:
            if mark in sentence:
                tail = sentence.rsplit(mark, 1)[1].strip()
                shortest = tail if not shortest or len(tail) < len(shortest) else shortest
        if shortest and shortest not in _TRIVIAL:
            keys.append(shortest)
    keys = keys or [text]
    found = [*keys, *(number for key in keys for pattern in _NUMBERS for number in pattern.findall(key))]
    return list(dict.fromkeys(value for one in found for value in normalise(one)))


def open_right(candidates: Sequence[Value], golds: Sequence[str]) -> bool:
    """Whether any candidate equals a gold number or holds a gold text."""
    true = [value for gold in golds for value in normalise(gold)]
    texts = [t for t in true if isinstance(t, str) and t]
    return any(any(t in c for t in texts) if isinstance(c, str) else c in true for c in candidates)


_COLUMNS = ("correct", "expected", "choice_correct", "choice", "open_correct", "open", "unparsed", "n")


def _is_choice(answer: Answer) -> bool:
    told = answer.meta.get("question_type")
    return told == "multiple-choice" if told else bool(answer.options)


def _make(name: str, version: str, read: Callable[[str, Sequence[str]], str]) -> Scorer:
    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            choice = _is_choice(answer)
            if choice:
                said = read(answer.prediction, answer.options)
                right, lost = said != "" and said in answer.golds, said == ""
            else:
                candidates = read_open(answer.prediction)
                said = ", ".join(map(str, candidates))
                right, lost = open_right(candidates, answer.golds), not answer.prediction.strip()
            guess = 1 / len(answer.options) if choice and lost and answer.options else 0.0
            parsed.append(said)
            rows.append(
                (
                    float(right),
                    float(right) + guess,
                    float(right and choice),
                    float(choice),
                    float(right and not choice),
                    float(not choice),
                    float(lost),
                    1.0,
                )
            )
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        "accuracy": ratio(_COLUMNS, "correct", "n"),
        "accuracy_expected": ratio(_COLUMNS, "expected", "n"),
        "accuracy_choice": ratio(_COLUMNS, "choice_correct", "choice"),
        "accuracy_open": ratio(_COLUMNS, "open_correct", "open"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    }
    return Scorer(
        name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="accuracy"
    )


MMMU = _make("mmmu", "mmmu-official-1", read_choice)
MMMU_LMMS = _make("mmmu_lmms", "mmmu-lmms-1", lambda text, options: read_choice(text, options, lmms=True))
