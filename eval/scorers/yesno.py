"""Yes/no questions: POPE's rule and MME's.

POPE (evaluate.py of the authors): the text before the first period, commas dropped, split at spaces: a word
``No``, ``no`` or ``not`` makes it no, everything else is yes. So "NO", "isn't" and silence count as yes; the
share of answers that name neither is reported as ``off_format`` so that a reader can see when this flatters a
model.
MME: the first four characters of the lower-cased answer, yes looked for first ("know" is a no).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.scorers.base import Answer, Metric, Scored, Scorer, ratio, table

_PLAIN = re.compile(r"\b(?:yes|no|not)\b", re.IGNORECASE)


def read_pope(text: str) -> str:
    """``yes`` or ``no`` by POPE's rule; never anything else."""
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if any(w in ("No", "no", "not") for w in words) else "yes"


def read_mme(text: str) -> str:
    """``yes``, ``no`` or ``other`` by MME's rule."""
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


_POPE = ("tp", "fp", "tn", "fn", "off_format", "n")


def _score_pope(answers: Sequence[Answer]) -> Scored:
    parsed = [read_pope(a.prediction) for a in answers]
    rows = []
    for answer, said in zip(answers, parsed, strict=True):
        yes, true = said == "yes", read_pope(answer.golds[0]) == "yes"
        off = not _PLAIN.search(answer.prediction)
        rows.append(
            (
                float(yes and true),
                float(yes and not true),
                float(not yes and not true),
                float(not yes and true),
                float(off),
                1.0,
            )
        )
    return Scored(parsed, table(rows, _POPE))


POPE = Scorer(
    name="pope",
    version="pope/official/1",
    columns=_POPE,
    score=_score_pope,
    metrics={
        "accuracy": ratio(_POPE, {"tp": 1, "tn": 1}, "n"),
        "precision": ratio(_POPE, "tp", {"tp": 1, "fp": 1}),
        "recall": ratio(_POPE, "tp", {"tp": 1, "fn": 1}),
        "f1": ratio(_POPE, {"tp": 2}, {"tp": 2, "fp": 1, "fn": 1}),
        "yes_ratio": ratio(_POPE, {"tp": 1, "fp": 1}, "n"),
        "off_format": ratio(_POPE, "off_format", "n", higher=False),
    },
    primary="accuracy",
)

_MME = ("correct", "both", "other", "n", "images")


def _score_mme(answers: Sequence[Answer]) -> Scored:
    """acc+ belongs to an image (``group``): booked on the image's first question, so sums stay right."""
    parsed = [read_mme(a.prediction) for a in answers]
    correct = [p == read_mme(a.golds[0]) for a, p in zip(answers, parsed, strict=True)]
    members: dict[str, list[bool]] = {}
    for answer, right in zip(answers, correct, strict=True):
        members.setdefault(answer.group, []).append(right)
    rows, seen = [], set()
    for answer, right, said in zip(answers, correct, parsed, strict=True):
        first = answer.group not in seen
        seen.add(answer.group)
        both = float(all(members[answer.group])) if first else 0.0
        rows.append((float(right), both, float(said == "other"), 1.0, float(first)))
    return Scored(parsed, table(rows, _MME))


_ACCURACY, _BOTH = ratio(_MME, "correct", "n"), ratio(_MME, "both", "images")

MME = Scorer(
    name="mme",
    version="mme/official/1",
    columns=_MME,
    score=_score_mme,
    metrics={
        "score": Metric(value=lambda stats: _ACCURACY.value(stats) + _BOTH.value(stats)),
        "accuracy": _ACCURACY,
        "accuracy_plus": _BOTH,
        "off_format": ratio(_MME, "other", "n", higher=False),
    },
    primary="score",
)
