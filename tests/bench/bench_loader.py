"""Data path: samples/s that it can feed, divided by samples/s that training steps consume; and a real run's data wait.

    python tests/bench/bench_loader.py
    python tests/bench/bench_loader.py --images 60 --steps 8 --rounds 1      # does it work

Rows are read from published shards, rendered, tokenised, masked, packed (or padded), and their JPEGs decoded, resized
and normalised; the consumer is a LLaVA of 1.3 million parameters (train/starter's shape) in fp32, thousands of times
faster than a real one, so that feeding it is hard. Measured in one process, in turn, ``--rounds`` times:

- feed: `train.feed.loader.load_steps` emptied and nothing trained, by the thread that a worker has (loaders: 0), and
  once by one process of its own (loaders: 1; its start is not counted). ``cold`` decodes every picture, as the first
  epoch does; ``warm`` finds them in the cache of `image_cache_mb`.
- step: forward, backward and optimizer on batches that are ready, with ``--threads`` threads and nothing else running.

Then runs from start to end (`train.launch.launch`), whose logs say what share of the time their steps waited for data;
the first ``--warmup`` steps are left out, since nothing can be ready before the first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from machine import REPO, machine, spread

LAYOUTS = {"packed": {"microbatch_tokens": 4096}, "padded": {}}
# Name, `loaders`, `image_cache_mb`.
FEEDS = (("thread, cold", 0, 0), ("thread, warm", 0, 512), ("process, cold", 1, 0))


def rate(batches: Iterator[Any], skip: int, count: int) -> float:
    """Samples/s of ``count`` steps after the first ``skip``."""
    for _ in islice(batches, skip):
        pass
    began = time.perf_counter()
    samples = sum(batch.stats["samples"] for batch in islice(batches, count))
    return samples / (time.perf_counter() - began)


def feeding(cfg: Any, skip: int, count: int) -> float:
    """Samples/s that the loader of a config gives when nobody computes, after the first ``skip`` steps."""
    from train.build import open_data
    from train.feed.loader import load_steps

    data = open_data(cfg) if cfg.loaders == 0 else None
    # The loader is closed at its end; a few steps more than are counted keep it working to the end of the clock.
    batches = load_steps(cfg, data, 0, skip + count + 8, rank=0, world=1, pin=False)
    found = rate(batches, skip, count)
    for _ in batches:
        pass
    return found


class Consumer:
    """A worker whose steps get batches that are ready."""

    def __init__(self, cfg: Any, count: int) -> None:
        from train.loop import Trainer
        from train.workers import Workers

        self.trainer = Trainer(cfg, Workers())
        self.ready = list(islice(self.trainer.task.data.steps(0), count))
        for batch in self.ready[:4]:
            self.trainer._step(batch, waited=0.0)

    def rate(self) -> float:
        """Samples/s of all batches."""
        began = time.perf_counter()
        for batch in self.ready:
            self.trainer._step(batch, waited=0.0)
        return sum(batch.stats["samples"] for batch in self.ready) / (time.perf_counter() - began)


def waiting(cfg: Any, warmup: int) -> tuple[float, float]:
    """(share of the time that steps waited for data, samples/s) of a whole run by its log, without its begin."""
    from train.launch import launch

    launch(cfg)
    lines = [json.loads(line) for line in (Path(cfg.output) / "log.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["step"] >= warmup)
    counted = [line for line in lines if line["step"] > first["step"]]
    starts = [first["seconds"], *(line["seconds"] for line in counted)]
    seconds = [after - before for before, after in pairwise(starts)]
    waited = sum(line["data_wait_share"] * s for line, s in zip(counted, seconds, strict=True))
    return waited / sum(seconds), (counted[-1]["used"] - first["used"]) / sum(seconds)


def main() -> None:
    """Measure feed and step in turn, then a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=300, help="pictures, with four conversations each")
    parser.add_argument("--steps", type=int, default=40, help="of 32 conversations, that are counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=10, help="steps of a run that are not counted")
    parser.add_argument("--threads", type=int, default=2, help="of the consumer")
    parser.add_argument("--layout", choices=LAYOUTS, default="packed")
    parser.add_argument("--json", help="keep all numbers in this file")
    args = parser.parse_args()

    import torch
    from mixed_talks import config, write_set

    from train.prepare import prepare

    print(f"on {machine('torch', 'transformers')}", flush=True)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_set(root, images=args.images)

        def settings(name: str, **more: Any) -> Any:
            made = config(data, root / name, **{"steps": 10**6, **LAYOUTS[args.layout], **more})
            return made.model_copy(update={"threads": args.threads})

        base = settings("base")
        epoch = prepare(base).steps_per_epoch
        model = str(root / "base" / "init")
        consumer = Consumer(base, args.steps)
        for number in range(args.rounds):
            torch.set_num_threads(args.threads)
            rates.setdefault("step", []).append(consumer.rate())
            torch.set_num_threads(1)
            for name, loaders, cache in FEEDS[: None if number == 0 else 2]:
                cfg = settings(name, model=model, loaders=loaders, image_cache_mb=cache)
                prepare(cfg)
                rates.setdefault(name, []).append(feeding(cfg, epoch if cache else 8, args.steps))
        runs = {}
        steps = args.warmup + 2 * args.steps
        for loaders in (0, 1):
            cfg = settings(f"run {loaders}", model=model, loaders=loaders, steps=steps)
            runs["process" if loaders else "thread"] = waiting(cfg, args.warmup)
    step = rates.pop("step")
    print(f"{args.layout}; step: {spread(step, 0)} samples/s with {args.threads} threads")
    for name, found in rates.items():
        ratio = spread([feed / eaten for feed, eaten in zip(found, step, strict=False)], 2)
        print(f"feed by {name:<14} {spread(found, 0):>24} samples/s   ÷ step {ratio}")
    for name, (share, speed) in runs.items():
        print(
            f"run of {steps} steps, loader {name}: waits for data {share:.2%} of the time, {speed:,.0f} samples/s"
        )
    if args.json:
        Path(args.json).write_text(
            json.dumps({"machine": machine(), "step": step, "feed": rates, "runs": runs}, indent=1)
        )


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
