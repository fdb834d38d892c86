"""Boxes: intersection over union, right where it is at least 0.5 (RefCOCO's rule).

The first "[x1, y1, x2, y2]" (or "(...)") in the answer counts, integers or decimals, in whatever unit the
gold uses. A missing, reversed or empty box is IoU 0 and counted in ``unparsed``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

Box = tuple[float, float, float, float]
# At most 9 digits before and after the point: long runs of digits would otherwise become inf.
_NUMBER = r"\s*(-?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}))\s*"
_BOX = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]", re.ASCII)


def read_box(text: str) -> Box | None:
    """The first box in the text, None where there is none."""
    match = _BOX.search(text)
    if match is None:
        return None
    x1, y1, x2, y2 = (float(g) for g in match.groups())
    return (x1, y1, x2, y2)


def iou(a: Box, b: Box) -> float:
    """Intersection over union in [0, 1]; 0 where either box is empty or reversed."""
    area_a, area_b = _area(a), _area(b)
    if area_a <= 0 or area_b <= 0:
        return 0.0
    overlap = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    return min(1.0, overlap / (area_a + area_b - overlap))


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


_COLUMNS = ("hit", "iou", "unparsed", "n")


def _score(answers: Sequence[Answer]) -> Scored:
    parsed, rows = [], []
    for answer in answers:
        said, gold = read_box(answer.prediction), read_box(answer.gold)
        overlap = iou(said, gold) if said and gold else 0.0
        parsed.append("" if said is None else "[" + ", ".join(f"{v:g}" for v in said) + "]")
        rows.append((float(overlap >= 0.5), overlap, float(said is None), 1.0))
    return Scored(parsed, table(rows, _COLUMNS))


GROUNDING = Scorer(
    name="grounding",
    version="grounding-clean-1",
    columns=_COLUMNS,
    score=_score,
    metrics={
        "accuracy@0.5": ratio(_COLUMNS, "hit", "n"),
        "mean_iou": ratio(_COLUMNS, "iou", "n"),
        "unparsed": ratio(_COLUMNS, "unparsed", "n", higher=False),
    },
    primary="accuracy@0.5",
)
