"""Every scorer by name. One file per family; a rule's version is part of every result."""

from __future__ import annotations

from eval.scorers.ai2d import AI2D
from eval.scorers.anls import ANLS, ANLS_CLEAN
from eval.scorers.base import Answer, Metric, Scored, Scorer
from eval.scorers.captions import CAPTIONS
from eval.scorers.chair import CHAIR_STARTER
from eval.scorers.chair_coco import CHAIR_COCO, CHAIR_COCO_CLEAN
from eval.scorers.chart import CHART, CHART_CLEAN
from eval.scorers.choice import CHOICE
from eval.scorers.cloze import CLOZE
from eval.scorers.ethics import ETHICS
from eval.scorers.gqa import GQA, GQA_OFFICIAL
from eval.scorers.grounding import GROUNDING
from eval.scorers.hallusion import HALLUSION, HALLUSION_WORDS
from eval.scorers.judged import MMHAL, MMHAL_CLEAN, MT_BENCH, MT_BENCH_CLEAN
from eval.scorers.mme import MME, MME_LMMS
from eval.scorers.mmmu import MMMU, MMMU_LMMS
from eval.scorers.mmstar import MMSTAR
from eval.scorers.ocrbench import OCRBENCH, OCRBENCH_LMMS
from eval.scorers.options import AGIEVAL, MMLU
from eval.scorers.scienceqa import SCIENCEQA, SCIENCEQA_CLEAN, SCIENCEQA_LMMS
from eval.scorers.stated import STATED
from eval.scorers.truthfulqa import TRUTHFULQA_GEN, TRUTHFULQA_MC, TRUTHFULQA_MC1
from eval.scorers.vqa import VQA, VQA_M4C, VQA_STRICT
from eval.scorers.vsr import VSR
from eval.scorers.yesno import POPE

SCORERS: dict[str, Scorer] = {
    scorer.name: scorer
    for scorer in (
        VQA, VQA_M4C, VQA_STRICT, STATED, GQA, GQA_OFFICIAL, POPE, MME, MME_LMMS, VSR, CHOICE,
        SCIENCEQA, SCIENCEQA_LMMS, SCIENCEQA_CLEAN, MMSTAR, MMMU, MMMU_LMMS, AI2D, GROUNDING, CHART,
        CHART_CLEAN, ANLS, ANLS_CLEAN, OCRBENCH, OCRBENCH_LMMS, CAPTIONS, CHAIR_STARTER, CHAIR_COCO,
        CHAIR_COCO_CLEAN, HALLUSION, HALLUSION_WORDS, MMHAL, MMHAL_CLEAN, MT_BENCH, MT_BENCH_CLEAN,
        TRUTHFULQA_MC, TRUTHFULQA_MC1, TRUTHFULQA_GEN, ETHICS, MMLU, AGIEVAL,
        CLOZE,
    )
}  # fmt: skip

__all__ = ["SCORERS", "Answer", "Metric", "Scored", "Scorer"]
