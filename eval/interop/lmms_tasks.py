"""lmms-eval's names beside ours: which of our tasks a task of theirs is, and where its number stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class LmmsTask:
    """A task of lmms-eval.

    Attributes:
        tasks: ours; several where theirs holds all parts (POPE).
        metric: key of the number that our first metric stands for.
        scale: from their unit to the one that papers print.
        parts: further metrics of ours and their keys.
        total: whether our first metric is the sum of ``parts``.
    """

    name: str
    tasks: tuple[str, ...]
    metric: str
    scale: float = 100.0
    parts: Mapping[str, str] = field(default_factory=dict)
    total: bool = False


_ALL = (
    LmmsTask(name="vqav2_val", tasks=("vqav2",), metric="exact_match"),
    LmmsTask(name="gqa", tasks=("gqa",), metric="exact_match"),
    LmmsTask(name="scienceqa_img", tasks=("scienceqa_img",), metric="exact_match"),
    LmmsTask(name="scienceqa", tasks=("scienceqa",), metric="exact_match"),
    LmmsTask(name="vizwiz_vqa_val", tasks=("vizwiz",), metric="exact_match"),
    LmmsTask(
        name="mme",
        tasks=("mme",),
        metric="mme_perception_score",
        scale=1.0,
        parts={"perception": "mme_perception_score", "cognition": "mme_cognition_score"},
        total=True,
    ),
    LmmsTask(name="mmmu_val", tasks=("mmmu",), metric="mmmu_acc"),
    LmmsTask(name="mmstar", tasks=("mmstar",), metric="average"),
    LmmsTask(name="ai2d", tasks=("ai2d",), metric="exact_match"),
    LmmsTask(name="chartqa", tasks=("chartqa",), metric="relaxed_overall"),
    LmmsTask(name="textvqa_val", tasks=("textvqa",), metric="exact_match"),
    LmmsTask(name="docvqa_val", tasks=("docvqa",), metric="anls"),
    LmmsTask(name="ocrbench", tasks=("ocrbench",), metric="ocrbench_accuracy", scale=1000.0),
    LmmsTask(name="coco2017_cap_val", tasks=("coco2017",), metric="coco_CIDEr"),
    LmmsTask(name="coco_karpathy_test", tasks=("coco_karpathy",), metric="coco_CIDEr"),
    LmmsTask(name="flickr30k_test", tasks=("flickr30k",), metric="flickr_CIDEr"),
    LmmsTask(name="nocaps_val", tasks=("nocaps",), metric="nocaps_CIDEr"),
    LmmsTask(name="textcaps_val", tasks=("textcaps",), metric="textcaps_CIDEr"),
    LmmsTask(name="refcoco_bbox_val", tasks=("refcoco",), metric="refcoco_CIDEr"),
    LmmsTask(name="refcoco+_bbox_val", tasks=("refcoco_plus",), metric="refcoco_CIDEr"),
    LmmsTask(name="refcocog_bbox_val", tasks=("refcoco_g",), metric="refcoco_CIDEr"),
    LmmsTask(name="pope", tasks=("pope_random", "pope_popular", "pope_adversarial"), metric="pope_accuracy"),
    LmmsTask(name="pope_random", tasks=("pope_random",), metric="pope_accuracy"),
    LmmsTask(name="pope_pop", tasks=("pope_popular",), metric="pope_accuracy"),
    LmmsTask(name="pope_adv", tasks=("pope_adversarial",), metric="pope_accuracy"),
    LmmsTask(name="hallusion_bench_image", tasks=("hallusionbench",), metric="aAcc", scale=1.0),
)
BY_NAME: Mapping[str, LmmsTask] = {task.name: task for task in _ALL}
# The task of theirs that is just this one of ours.
BY_OURS: Mapping[str, LmmsTask] = {task.tasks[0]: task for task in _ALL if len(task.tasks) == 1}
