"""Cost of visual contribution: rows of VC per sample ÷ one batched forward pass over the same samples.

    python tests/bench/bench_vc.py
    python tests/bench/bench_vc.py --images 8 --rounds 1     # does it work

A VC needs two passes (the picture, and noise of its size), so two is the least; what lies above is rendering, drawing
the noise and the rows. The pass beside it is a plain loop: the texts as they are, tokens and pictures prepared by the
processor, `model(**inputs)` up to the last hidden state and the head at the response's tokens. Both take the same
batches; rounds alternate. Model: the starter, in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import REPO, machine, spread

AIM = 2.3


def main() -> int:
    """Time both sides by turns and print the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24, help="pictures of the starter world (default 24)")
    parser.add_argument("--batch", type=int, default=16, help="samples in a pass (default 16)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides (default 5)")
    parser.add_argument("--model", default="starter", help="checkpoint (default starter)")
    parser.add_argument("--json", metavar="PATH", help="also write all numbers here")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    print(machine("torch", "transformers"))
    with tempfile.TemporaryDirectory(prefix="bench-vc-") as folder:
        result = compare(args, Path(folder))
    print(
        f"{result['samples']} samples, batches of {args.batch}: VC {spread(result['vc_ms'], 1)} ms a sample, one pass "
        f"{spread(result['pass_ms'], 1)} ms: ratio {spread(result['ratios'], 2)}, in CPU time "
        f"{spread(result['cpu_ratios'], 2)} (two passes are 2; aim at most {AIM})"
    )
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))
    return 0


def compare(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Seconds of both sides on the same samples, and their quotients by round."""
    from cluster.models import local_folder
    from datagen.starter.world import WorldConfig, write_world
    from eval.config import GoldSet
    from eval.likelihood import Forcer, LikelihoodJob, rows_of
    from eval.samples import load, select
    from eval.tasks import SUITES, TASKS

    world = write_world(str(root), WorldConfig(images=args.images, split="test", shard_images=args.images))
    gold = GoldSet(corpus=world.corpus, instructions=world.gold["questions"])
    tasks = [TASKS[name] for name in SUITES["starter"]]
    items = [item for chunk in select(gold, tasks, None, 96, pictured=True) for item in load(gold, chunk)]
    job = LikelihoodJob(
        uri="", name="m", revision="r", model=local_folder(args.model), set="test", gold=gold, batch=args.batch,
        noise_draws=1, dtype="float32", use_gpu=False,
    )  # fmt: skip
    forcer = Forcer(job.model)
    rendered = sorted(
        ((*forcer.render(item.sample.question, item.answer), item.image) for item in items),
        key=lambda one: len(one[0]),
    )

    def one_pass() -> None:
        for start in range(0, len(rendered), args.batch):
            texts, counts, images = zip(*rendered[start : start + args.batch], strict=True)
            forcer.log_likelihoods(texts, counts, images)

    def contribution() -> None:
        rows = rows_of(forcer, job, items)
        assert all(row["state"] == "accepted" for row in rows)

    one_pass()  # warms up what is made once
    taken: dict[str, list[tuple[float, float]]] = {"vc": [], "pass": []}
    sides = (("vc", contribution), ("pass", one_pass))
    for number in range(args.rounds):
        for name, side in sides if number % 2 == 0 else sides[::-1]:
            began = time.perf_counter(), time.process_time()
            side()
            taken[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    quotients = [
        [vc[clock] / one[clock] for vc, one in zip(taken["vc"], taken["pass"], strict=True)]
        for clock in (0, 1)
    ]
    each = {f"{name}_ms": [1000 * wall / len(items) for wall, _ in times] for name, times in taken.items()}
    return {
        "samples": len(items),
        **each,
        "ratios": quotients[0],
        "cpu_ratios": quotients[1],
        "median": statistics.median(quotients[0]),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    os.environ["PYTHONPATH"] = str(REPO)
    raise SystemExit(main())
