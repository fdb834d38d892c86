"""MMLU and AGIEval: the option with the largest log likelihood.

``mmlu`` compares " A" to " D" after the question (5 examples before it); ``accuracy`` is over all questions, as
the authors print it. ``agieval`` compares whole options, and ``accuracy_norm`` divides each log likelihood by
the option's length in characters first (lm-evaluation-harness); several options may be true, any counts.
``average`` is the mean over subjects (``Answer.category``). Of equal options the first is chosen. Likelihoods
and golds are read as in :mod:`eval.scorers.likelihoods`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.scorers.base import Answer, Columns, Scored, Scorer, fits, ratio, shares
from eval.scorers.likelihoods import letter_of, loglikelihoods, true_options

_COLUMNS = ("correct", "correct_norm", "balanced", "weight", "unparsed", "n")


def _score(answers: Sequence[Answer]) -> Scored:
    chosen: list[int | None] = []
    right, norm = np.zeros(len(answers)), np.zeros(len(answers))
    for i, answer in enumerate(answers):
        found, true = loglikelihoods(answer), true_options(answer)
        chosen.append(None if found is None else int(found.argmax()))
        if found is None:
            continue
        lengths = np.array([max(1, len(option)) for option in answer.options] or [1] * len(found))
        right[i] = float(chosen[i] in true)
        norm[i] = float(int((found / lengths).argmax()) in true)
    weight = shares([a.category for a in answers])
    columns: Columns = {
        "correct": right,
        "correct_norm": norm,
        "balanced": right * weight,
        "weight": weight,
        "unparsed": [float(c is None) for c in chosen],
        "n": np.ones(len(answers)),
    }
    parsed = [letter_of(a, c) for a, c in zip(answers, chosen, strict=True)]
    return Scored(parsed, fits(columns, _COLUMNS))


_METRICS = {
    "accuracy": ratio(_COLUMNS, "correct", "n"),
    "average": ratio(_COLUMNS, "balanced", "weight"),
    "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
}

MMLU = Scorer(
    name="mmlu",
    version="mmlu-official-1",
    columns=_COLUMNS,
    score=_score,
    metrics=_METRICS,
    primary="accuracy",
)
AGIEVAL = Scorer(
    name="agieval",
    version="agieval-harness-1",
    columns=_COLUMNS,
    score=_score,
    metrics={**_METRICS, "accuracy_norm": ratio(_COLUMNS, "correct_norm", "n")},
    primary="accuracy",
)
