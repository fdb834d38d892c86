"""Every benchmark that can be imported, by name."""

from __future__ import annotations

from cluster.errors import UserError, did_you_mean
from eval.benchmarks.benchmark import Benchmark
from eval.benchmarks.captions import CHAIR, COCO2017, COCO_KARPATHY, FLICKR30K, NOCAPS, TEXTCAPS
from eval.benchmarks.choices import AI2D, MMMU, MMSTAR, SCIENCEQA
from eval.benchmarks.documents import CHARTQA, DOCVQA, OCRBENCH
from eval.benchmarks.gqa import GQA
from eval.benchmarks.knowledge import AGIEVAL, MMLU
from eval.benchmarks.regions import REFCOCO, REFCOCO_G, REFCOCO_PLUS
from eval.benchmarks.talks import MMHAL, MT_BENCH
from eval.benchmarks.values import ETHICS, TRUTHFULQA
from eval.benchmarks.vqa import TEXTVQA, VIZWIZ, VQAV2
from eval.benchmarks.yesno import HALLUSION, MME, POPE, VSR

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        VQAV2, GQA, SCIENCEQA, VIZWIZ, MME, MMMU, MMSTAR, CHARTQA, TEXTVQA, DOCVQA, OCRBENCH,
        COCO2017, COCO_KARPATHY, FLICKR30K, NOCAPS, TEXTCAPS, REFCOCO, REFCOCO_PLUS, REFCOCO_G,
        POPE, CHAIR, HALLUSION, MMHAL, VSR, AI2D, TRUTHFULQA, ETHICS, MMLU, AGIEVAL, MT_BENCH,
    )
}  # fmt: skip


def benchmark_of(name: str) -> Benchmark:
    """The benchmark of a name. Raises UserError for an unknown one."""
    if name not in BENCHMARKS:
        raise UserError(f"no benchmark {name!r}{did_you_mean(name, BENCHMARKS)} `l2t eval tasks` lists them.")
    return BENCHMARKS[name]
