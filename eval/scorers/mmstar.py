"""MMStar: the option letter where the benchmark's own rule looks for it.

Lower-cased and stripped, the answer is its first character, or the one after "(", "option " or "the answer
is ". So "a cat" is option A: the rule does not tell the article. ``average`` is lmms-eval's, the mean of the
means of the categories in ``Answer.category`` (the 18 second-level ones); ``accuracy`` is the plain one over
all questions that VLMEvalKit prints. They differ because the categories differ in size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.scorers.base import Answer, Columns, Scored, Scorer, fits, ratio, shares

_BEFORE = ("", "(", "option ", "the answer is ")
_COLUMNS = ("correct", "balanced", "weight", "unparsed", "n")


def read_letter(text: str, options: int) -> str:
    """The chosen letter in lower case, '' where the rule finds none of the first ``options`` letters."""
    text = text.lower().strip().replace("\n", " ")
    letters = {chr(ord("a") + i) for i in range(options)}
    for start in _BEFORE:
        said = text[len(start) : len(start) + 1]
        if text.startswith(start) and said in letters:
            return said
    return ""


def _score(answers: Sequence[Answer]) -> Scored:
    parsed = [read_letter(a.prediction, len(a.options) or 4) for a in answers]
    golds = [a.gold.lower().strip() for a in answers]
    right = np.array([float(said != "" and said == g) for said, g in zip(parsed, golds, strict=True)])
    weight = shares([a.category for a in answers])
    columns: Columns = {
        "correct": right,
        "balanced": right * weight,
        "weight": weight,
        "unparsed": [float(said == "") for said in parsed],
        "n": np.ones(len(answers)),
    }
    return Scored(parsed, fits(columns, _COLUMNS))


MMSTAR = Scorer(
    name="mmstar",
    version="mmstar-lmms-1",
    columns=_COLUMNS,
    score=_score,
    metrics={
        "average": ratio(_COLUMNS, "balanced", "weight"),
        "accuracy": ratio(_COLUMNS, "correct", "n"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    },
    primary="average",
)
