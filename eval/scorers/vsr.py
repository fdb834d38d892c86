"""VSR: is the statement true of the picture? Accuracy of the words, and area under the ROC curve.

The answer is true or false (or yes, no) where its words hold one kind and not the other; anything else is
wrong and counted in ``unparsed``. Golds are "True"/"False" or "1"/"0". The area needs a number that is larger
the surer the model is of "true": ``Answer.meta["p_true"]`` (a probability or a difference of logits), or else
the difference of ``meta["loglikelihoods"]`` where the options are true and false; samples without stay out.

The area is a mean over pairs. A sample's row is its influence (DeLong 1988): a true statement's is the share
of false ones ranked below it, a false one's the share of true ones above it less the area. They sum to the
area, and their residuals give DeLong's variance, clustered like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.scorers.base import Answer, Array, Columns, Scored, Scorer, fits, ratio
from eval.scorers.likelihoods import loglikelihoods

_WORD = re.compile(r"[^\W\d_]+|[01]")
_MEANING = {"true": "true", "yes": "true", "1": "true", "false": "false", "no": "false", "0": "false"}
_COLUMNS = ("correct", "above", "ranked", "unparsed", "n")


def read_truth(text: str) -> str:
    """``true``, ``false``, or '' where the words say neither or both."""
    said = {_MEANING[w] for w in _WORD.findall(text.lower()) if w in _MEANING}
    return said.pop() if len(said) == 1 else ""


def influence(sure: Array, true: NDArray[np.bool_]) -> tuple[Array, Array]:
    """(top, bottom) per sample, shapes (n,): sum(top) / sum(bottom) is the area, ties count one half.

    Both are 0 where there is only one kind of statement.
    """
    top, bottom = np.zeros(len(sure)), np.zeros(len(sure))
    positive, negative = sure[true], sure[~true]
    if len(positive) == 0 or len(negative) == 0:
        return top, bottom
    below = _below(positive, negative)
    area = float(below.mean())
    top[true], bottom[true] = below / len(positive), 1.0 / len(positive)
    top[~true] = (1.0 - _below(negative, positive) - area) / len(negative)
    return top, bottom


def _below(values: Array, others: Array) -> Array:
    """Share of ``others`` below each value, ties one half."""
    order = np.sort(others)
    left, right = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return np.asarray((left + right) / (2.0 * len(others)))


def _score(answers: Sequence[Answer]) -> Scored:
    parsed = [read_truth(a.prediction) for a in answers]
    golds = [read_truth(a.gold) for a in answers]
    sure = np.array([_sureness(a) for a in answers], dtype=np.float64)
    usable = np.isfinite(sure) & np.array([g != "" for g in golds], dtype=bool)
    above, ranked = np.zeros(len(answers)), np.zeros(len(answers))
    above[usable], ranked[usable] = influence(
        sure[usable], np.array([g == "true" for g in golds], dtype=bool)[usable]
    )
    columns: Columns = {
        "correct": [float(said != "" and said == g) for said, g in zip(parsed, golds, strict=True)],
        "above": above,
        "ranked": ranked,
        "unparsed": [float(said == "") for said in parsed],
        "n": np.ones(len(answers)),
    }
    return Scored(parsed, fits(columns, _COLUMNS))


def _sureness(answer: Answer) -> float:
    """The number that statements are ranked by, NaN where there is none."""
    told = answer.meta.get("p_true")
    if isinstance(told, int | float):
        return float(told)
    found, meanings = loglikelihoods(answer), [read_truth(option) for option in answer.options]
    if found is None or sorted(meanings) != ["false", "true"]:
        return float("nan")
    return float(found[meanings.index("true")] - found[meanings.index("false")])


VSR = Scorer(
    name="vsr",
    version="vsr-clean-1",
    columns=_COLUMNS,
    score=_score,
    metrics={
        "accuracy": ratio(_COLUMNS, "correct", "n"),
        "auc": ratio(_COLUMNS, "above", "ranked"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    },
    primary="accuracy",
)
