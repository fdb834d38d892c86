"""HallusionBench: right answers by question (aAcc), by question over its figures (qAcc), by figure (fAcc).

A question of a group counts once all its members are right. qAcc's groups are (category, subcategory, set,
question), fAcc's (category, subcategory, set, figure) without figure 0 of VS, which is no figure. Each answer
is correct, incorrect or unclear; unclear is wrong, except without a figure (VS, figure 0), where not knowing
is right.

``hallusion`` takes the label from a judge's text in ``Answer.meta["judgement"]``: "incorrect" anywhere, else
"correct" anywhere, else unclear; a text with none of the three words is counted in ``unparsed`` as well.
``hallusion_words`` (*ours* in its details) needs no judge: the answer's words hold yes or no, not both, and
that is compared with the gold ("1" or "yes", "0" or "no"; with any other, as where nothing can be known, both
are incorrect); anything else is unclear.
``meta`` also holds ``category`` (VD or VS), ``subcategory``, ``set_id``, ``figure_id``, ``question_id``.
Questions share figures, so a set is what errors cluster by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from eval.scorers.base import Answer, Columns, Scored, Scorer, all_right, fits, ratio, shares

_WORD = re.compile(r"[a-z]+")
_MEANING = {"1": "yes", "yes": "yes", "0": "no", "no": "no"}
_COLUMNS = ("correct", "question_right", "questions", "figure_right", "figures", "unclear", "unparsed", "n")
Label = str  # "correct", "incorrect", "unclear"; "" is unclear for want of any of these words


def label_of_judge(answer: Answer) -> Label:
    """The judge's label by the official order of looking."""
    text = str(answer.meta.get("judgement") or "").lower()
    return next((label for label in ("incorrect", "correct", "unclear") if label in text), "")


def label_of_words(answer: Answer) -> Label:
    """The label of a plain yes or no."""
    words = set(_WORD.findall(answer.prediction.lower())) & {"yes", "no"}
    if len(words) != 1:
        return ""
    return "correct" if words == {_MEANING.get(answer.gold.strip().lower(), "neither")} else "incorrect"


def _set(answer: Answer) -> tuple[str, ...]:
    return tuple(str(answer.meta.get(key, "")) for key in ("category", "subcategory", "set_id"))


def _keys(answers: Sequence[Answer], name: str) -> list[tuple[object, ...]]:
    """Groups by set and ``name``; an answer without it stands alone."""
    return [(*_set(a), str(a.meta[name]) if name in a.meta else i) for i, a in enumerate(answers)]


def _no_figure(answer: Answer) -> bool:
    return str(answer.meta.get("category")) == "VS" and str(answer.meta.get("figure_id")) == "0"


def _score(label: Callable[[Answer], Label], answers: Sequence[Answer]) -> Scored:
    labels = [label(a) for a in answers]
    right = [
        said == "correct" or (said in ("unclear", "") and _no_figure(a))
        for a, said in zip(answers, labels, strict=True)
    ]
    questions = _keys(answers, "question_id")
    figures = _keys(answers, "figure_id")
    figure = np.array([float(not _no_figure(a)) for a in answers])
    question_share, figure_share = shares(questions), shares(figures) * figure
    columns: Columns = {
        "correct": np.array(right, dtype=np.float64),
        "question_right": all_right(questions, right) * question_share,
        "questions": question_share,
        "figure_right": all_right(figures, right) * figure_share,
        "figures": figure_share,
        "unclear": [float(said in ("unclear", "")) for said in labels],
        "unparsed": [float(said == "") for said in labels],
        "n": np.ones(len(answers)),
    }
    return Scored(labels, fits(columns, _COLUMNS))


def _make(name: str, version: str, label: Callable[[Answer], Label]) -> Scorer:
    return Scorer(
        name=name,
        version=version,
        columns=_COLUMNS,
        score=lambda answers: _score(label, answers),
        metrics={
            "aAcc": ratio(_COLUMNS, "correct", "n"),
            "qAcc": ratio(_COLUMNS, "question_right", "questions"),
            "fAcc": ratio(_COLUMNS, "figure_right", "figures"),
            "unclear": ratio(_COLUMNS, "unclear", "n", higher=False),
            "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
        },
        primary="aAcc",
        cluster=lambda answer: "/".join(_set(answer)),
    )


HALLUSION = _make("hallusion", "hallusion-official-1", label_of_judge)
HALLUSION_WORDS = _make("hallusion_words", "hallusion-clean-1", label_of_words)
