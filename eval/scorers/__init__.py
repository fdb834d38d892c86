"""Every scorer by name. One file per family; a rule's version is part of every result."""

from __future__ import annotations

from eval.scorers.base import Answer, Metric, Scored, Scorer
from eval.scorers.captions import CAPTIONS
from eval.scorers.chair import CHAIR_STARTER
from eval.scorers.chart import CHART, CHART_CLEAN
from eval.scorers.choice import CHOICE, CHOICE_LLAVA
from eval.scorers.grounding import GROUNDING
from eval.scorers.vqa import EXACT, VQA, VQA_M4C, VQA_STRICT
from eval.scorers.yesno import MME, POPE

SCORERS: dict[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        VQA, VQA_M4C, VQA_STRICT, EXACT, POPE, MME, CHOICE, CHOICE_LLAVA, GROUNDING, CHART, CHART_CLEAN,
        CAPTIONS, CHAIR_STARTER,
    )
}  # fmt: skip

__all__ = ["SCORERS", "Answer", "Metric", "Scored", "Scorer"]
