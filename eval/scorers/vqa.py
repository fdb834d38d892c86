"""VQA accuracy with the official answer normaliser, its quirks included.

Rules as in the VQA v2 evaluation (GT-Vision-Lab/VQA, vqaEval.py) and the m4c variant that LLaVA and lmms-eval
use for TextVQA and VizWiz. Quirks kept on purpose, because published numbers contain them:

* a punctuation mark is removed (joining words) when it touches a space *anywhere* in the text, or when the
  text holds a comma between digits; otherwise it becomes a space;
* the period rule ``(?!<=\\d)(\\.)(?!\\d)`` has a typo (``?!<=`` for ``?<!``): it strips every period that no
  digit follows, at most 32 of them, because a regex flag is passed where the count belongs;
* contractions with a capital (Im, Ive) never match, since the text is lower case by then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_PUNCTUATION = (
    ";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!",
)  # fmt: skip
_PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")
_PERIOD_COUNT = int(re.UNICODE)  # 32: the official code passes the flag as the count
_COMMA = re.compile(r"\d,\d")
_NUMBERS = {"none": "0"} | {
    word: str(n)
    for n, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
}
_ARTICLES = frozenset({"a", "an", "the"})

# The official table maps every contraction written without one of its apostrophes to the full form.
_CONTRACTED = [
    "ain't",
    "aren't",
    "can't",
    "could've",
    "couldn't",
    "couldn't've",
    "didn't",
    "doesn't",
    "don't",
    "hadn't",
    "hadn't've",
    "hasn't",
    "haven't",
    "he'd",
    "he'd've",
    "he's",
    "how'd",
    "how'll",
    "how's",
    "isn't",
    "it'd",
    "it'd've",
    "it'll",
    "ma'am",
    "mightn't",
    "mightn't've",
    "might've",
    "mustn't",
    "must've",
    "needn't",
    "not've",
    "o'clock",
    "oughtn't",
    "shan't",
    "she'd've",
    "should've",
    "shouldn't",
    "shouldn't've",
    "somebody'd've",
    "somebody'll",
    "somebody's",
    "someone'd",
    "someone'd've",
    "someone'll",
    "someone's",
    "something'd",
    "something'd've",
    "something'll",
    "that's",
    "there'd",
    "there'd've",
    "there're",
    "there's",
    "they'd",
    "they'd've",
    "they'll",
    "they're",
    "they've",
    "'twas",
    "wasn't",
    "we'd've",
    "we've",
    "weren't",
    "what'll",
    "what're",
    "what's",
    "what've",
    "when's",
    "where'd",
    "where's",
    "where've",
    "who'd",
    "who'd've",
    "who'll",
    "who's",
    "who've",
    "why'll",
    "why're",
    "why's",
    "won't",
    "would've",
    "wouldn't",
    "wouldn't've",
    "y'all",
    "y'all'll",
    "y'all'd've",
    "you'd",
    "you'd've",
    "you'll",
    "you're",
    "you've",
]
_IRREGULAR = {"somebody'd": "somebodyd", "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at"}


def _contractions() -> dict[str, str]:
    full = [(c[:i] + c[i + 1 :], c) for c in _CONTRACTED for i, letter in enumerate(c) if letter == "'"]
    return dict(full) | _IRREGULAR


_CONTRACTIONS = _contractions()


def strip_punctuation(text: str) -> str:
    """The official punctuation rule (see the module's quirks)."""
    remove_all = _COMMA.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        touches_space = mark + " " in text or " " + mark in text
        out = out.replace(mark, "" if touches_space or remove_all else " ")
    return _PERIOD.sub("", out, count=_PERIOD_COUNT)


def digits_and_articles(text: str) -> str:
    """Lower case; number words to digits; articles dropped; contractions repaired; single spaces."""
    words = (_NUMBERS.get(w, w) for w in text.lower().split())
    return " ".join(_CONTRACTIONS.get(w, w) for w in words if w not in _ARTICLES)


@lru_cache(maxsize=100_000)
def normalise(text: str) -> str:
    """The VQA v2 normaliser, always applied (as LLaVA's submission converter and lmms-eval do)."""
    return digits_and_articles(strip_punctuation(_spaces(text)))


def normalise_m4c(text: str) -> str:
    """The TextVQA/VizWiz variant: commas and question marks go first, and ``'s`` is split off."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalise(text)


def _spaces(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def agreement(prediction: str, golds: Sequence[str]) -> float:
    """Mean over annotators i of min(1, matches among the others / 3); for a single gold, plain equality."""
    if not golds:
        return 0.0
    if len(golds) == 1:
        return float(prediction == golds[0])
    matches = sum(g == prediction for g in golds)
    without = [min(1.0, (matches - (g == prediction)) / 3) for g in golds]
    return sum(without) / len(golds)


def accuracy_strict_official(prediction: str, golds: Sequence[str]) -> float:
    """As the official script: texts are normalised only where the annotators disagree."""
    prediction, cleaned = _spaces(prediction), [_spaces(g) for g in golds]
    if len(set(cleaned)) == 1:
        return agreement(prediction, cleaned)
    return agreement(normalise(prediction), [normalise(g) for g in cleaned])


_COLUMNS = ("accuracy", "unparsed", "n")


def make(
    name: str, version: str, judge: Callable[[str, tuple[str, ...]], float], read: Callable[[str], str]
) -> Scorer:
    """A rule that judges a prediction against its golds; ``read`` is what is stored as understood of it."""

    def score(answers: Sequence[Answer]) -> Scored:
        parsed = [read(a.prediction) for a in answers]
        rows = [
            (judge(a.prediction, a.golds), float(not said), 1.0)
            for a, said in zip(answers, parsed, strict=True)
        ]
        return Scored(parsed, table(rows, _COLUMNS))

    metrics = {
        "accuracy": ratio(_COLUMNS, "accuracy", "n"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    }
    return Scorer(
        name=name, version=version, columns=_COLUMNS, score=score, metrics=metrics, primary="accuracy"
    )


def _soft(read: Callable[[str], str]) -> Callable[[str, tuple[str, ...]], float]:
    return lambda prediction, golds: agreement(read(prediction), [read(g) for g in golds])


def any_gold(read: Callable[[str], str]) -> Callable[[str, tuple[str, ...]], float]:
    """1 where prediction and any gold read the same."""
    return lambda prediction, golds: float(read(prediction) in {read(g) for g in golds})


VQA = make("vqa", "vqa-lmms-1", _soft(normalise), normalise)
VQA_M4C = make("vqa_m4c", "vqa_m4c-lmms-1", _soft(normalise_m4c), normalise_m4c)
VQA_STRICT = make("vqa_strict", "vqa-official-1", accuracy_strict_official, _spaces)
