"""Yes/no questions by POPE's rule.

POPE (evaluate.py of the authors): the text before the first period, commas dropped, split at spaces: a word
``No``, ``no`` or ``not`` makes it no, everything else is yes. So "NO", "isn't" and silence count as yes; the
share of answers that name neither is reported as ``unparsed`` so that a reader can see when this flatters a
model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_PLAIN = re.compile(r"\b(?:yes|no|not)\b", re.IGNORECASE)


def read_pope(text: str) -> str:
    """``yes`` or ``no`` by POPE's rule; never anything else."""
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if any(w in ("No", "no", "not") for w in words) else "yes"


_POPE = ("tp", "fp", "tn", "fn", "unparsed", "n")


def _score_pope(answers: Sequence[Answer]) -> Scored:
    parsed = [read_pope(a.prediction) for a in answers]
    rows = []
    for answer, said in zip(answers, parsed, strict=True):
        yes, true = said == "yes", read_pope(answer.gold) == "yes"
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
    version="pope-official-1",
    columns=_POPE,
    score=_score_pope,
    metrics={
        "accuracy": ratio(_POPE, {"tp": 1, "tn": 1}, "n"),
        "precision": ratio(_POPE, "tp", {"tp": 1, "fp": 1}),
        "recall": ratio(_POPE, "tp", {"tp": 1, "fn": 1}),
        "f1": ratio(_POPE, {"tp": 2}, {"tp": 2, "fp": 1, "fn": 1}),
        "yes_ratio": ratio(_POPE, {"tp": 1, "fp": 1}, "n"),
        "unparsed": ratio(_POPE, "unparsed", "n", higher=False),
    },
    primary="accuracy",
)
