"""Step time of mode l2t ÷ mode vit on the same rows, by ratio of instruction to response (L2T, Table 11).

    python tests/bench/bench_train_ratio.py
    python tests/bench/bench_train_ratio.py --steps 4 --rounds 2 --ratios 1     # does it work

Five synthetic sets of equally long rows (a picture and ``--words`` words, each a token), which differ in how many of
the words are the instruction: a twentieth of the response's, a tenth, as many, ten and twenty times as many. One
worker of each mode (`train.loop.Trainer`), from the same weights, takes the same steps on batches that are ready, a
step of one and a step of the other in turn, with the order changed every round; a ratio is the median over rounds of
the quotient of their times, given with the quartiles, and beside it the same of CPU time, which other work on the
machine moves less. The mask itself is made by the data path, whose time per row is
compared likewise.

L2T sends more rows through the LM head: at ratio 20 all words instead of a twentieth. What that costs depends on the
share of the head in the model, so the ratio of the arithmetic (train/flops.py) is printed for the model that ran, and
for the sizes of TinyLLaVA-0.5B and LLaVA-1.5-7B with frozen towers on the same words and their own number of image
tokens. ``--shape starter`` has 16 image tokens before 126 words; ``--shape llava`` gives a model of the same width 576
of them, as LLaVA has.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from machine import REPO, machine

RATIOS = (0.05, 0.1, 1.0, 10.0, 20.0)
MODES = ("vit", "l2t")
# pictures (pixels, patch), heads and widths as in train/starter; llava: as many image tokens as LLaVA-1.5.
SHAPES = {"starter": {}, "llava": {"image_size": 192, "patch_size": 8}}
# Hidden, intermediate, layers, key-value share, vocabulary, image tokens, weights of the tower of well-known models.
LARGE = {
    "TinyLLaVA-0.5B": (896, 4864, 24, 1 / 7, 151_936, 729, 396e6),
    "LLaVA-1.5-7B": (4096, 11008, 32, 1.0, 32_064, 576, 290e6),
}
NAMES = "red blue green small large left right round old new dark light thin flat warm cold near far up down"
WORDS = NAMES.split()


def write_rows(root: Path, ratio: float, rows: int, words: int, side: int) -> dict[str, str]:
    """A published set of rows with one picture each; of their words ``ratio`` times as many ask as answer."""
    from mixed_talks import draw_picture, draw_scene, publish

    from datagen import corpus, records
    from datagen.corpus import CorpusRow
    from datagen.records import Record, Turn

    rng = random.Random(11)
    asked = max(1, min(words - 1, round(words * ratio / (1 + ratio))))
    pictures, talks = [], []
    for index in range(rows):
        data, name = draw_picture(draw_scene(rng), (side, side)), f"p{index}"
        pictures.append(
            CorpusRow(image_id=name, image=data, width=side, height=side, sha256=corpus.sha256(data))
        )
        said = rng.choices(WORDS, k=words)
        turns = (
            Turn(role="user", text=" ".join(said[:asked])),
            Turn(role="assistant", text=" ".join(said[asked:])),
        )
        talks.append(
            Record(
                id=name, image_ids=(name,), kind="words", format="open", conversation=turns, state="accepted"
            )
        )
    uris = {kind: str(root / f"{kind}-{ratio}" / "words") for kind in ("corpus", "instructions")}
    publish(uris, "corpus", [corpus.to_table(pictures)])
    publish(uris, "instructions", [records.to_table(talks)])
    return uris


class Side:
    """A worker of one mode with its batches ready."""

    def __init__(self, cfg: Any, steps: int) -> None:
        from train.build import open_data
        from train.loop import Trainer
        from train.prepare import prepare
        from train.workers import Workers

        prepare(cfg)
        self.trainer = Trainer(cfg, Workers())
        sums = self.trainer.ledger.arithmetic
        assert sums is not None
        data = open_data(cfg)
        self.ready = list(islice(data.steps(0), steps))
        began = time.process_time()
        count = sum(batch.stats["samples"] for batch in islice(data.steps(steps), 2 * steps))
        self.data_ms = 1000 * (time.process_time() - began) / count
        self.stats: dict[str, int] = {}
        for batch in self.ready:
            for key, value in batch.stats.items():
                self.stats[key] = self.stats.get(key, 0) + value
        self.flops = sums.flops(self.stats)

    def step(self, number: int) -> tuple[float, float]:
        """Seconds of one step, by the clock and of CPU."""
        batch = self.ready[number % len(self.ready)]
        began, cpu = time.perf_counter(), time.process_time()
        self.trainer._step(batch, waited=0.0)
        return time.perf_counter() - began, time.process_time() - cpu


def compare(sides: dict[str, Side], rounds: int) -> tuple[list[float], list[float]]:
    """The quotients of step times, l2t by vit: by the clock and of CPU."""
    for number in range(4):
        for side in sides.values():
            side.step(number)
    quotients: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order = MODES if number % 2 else MODES[::-1]
        seconds = {mode: sides[mode].step(number) for mode in order}
        for found, l2t, vit in zip(quotients, seconds["l2t"], seconds["vit"], strict=True):
            found.append(l2t / vit)
    return quotients


def large(name: str, words: int, learned: dict[str, float]) -> float:
    """The ratio of the arithmetic of products with weights at a well-known size, the tower only forward; ``learned``:
    tokens of a row that go through the head, by mode."""
    hidden, intermediate, layers, shared, vocabulary, image, tower = LARGE[name]
    body = layers * (hidden * hidden * (2 + 2 * shared) + 3 * hidden * intermediate) * (words + image)
    vit, l2t = (body + tower * image / 3 + hidden * vocabulary * learned[mode] for mode in MODES)
    return l2t / vit


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, first and third quartile."""
    if len(values) < 3:
        return statistics.median(values), min(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


def main() -> None:
    """Each ratio in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS))
    parser.add_argument("--words", type=int, default=126, help="of a row, instruction and response together")
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--steps", type=int, default=8, help="different batches")
    parser.add_argument("--rounds", type=int, default=40, help="steps of each mode that are compared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shape", choices=SHAPES, default="starter")
    parser.add_argument("--json", help="keep all numbers in this file")
    args = parser.parse_args()

    import torch
    from mixed_talks import SHAPE, config

    torch.set_num_threads(args.threads)
    print(f"on {machine('torch', 'transformers')}; shape {args.shape}, {args.threads} threads", flush=True)
    shape = {**SHAPE, **SHAPES[args.shape]}
    found: dict[str, Any] = {}
    print(f"{'ratio':>6} {'head rows vit/l2t':>18} {'step l2t ÷ vit (quartiles), CPU time of it':>46} "
          f"{'data path':>10} {'arithmetic':>11} {'0.5B':>7} {'7B':>7}")  # fmt: skip
    for ratio in args.ratios:
        with tempfile.TemporaryDirectory() as folder:
            data = write_rows(
                Path(folder), ratio, args.batch * args.steps, args.words, shape.get("image_size", 64)
            )
            sides: dict[str, Side] = {}
            for mode in MODES:
                start = {"model": str(Path(folder) / "vit" / "init")} if sides else {"shape": shape}
                cfg = config(
                    data,
                    Path(folder) / mode,
                    mode=mode,
                    steps=10**6,
                    global_batch=args.batch,
                    microbatch=args.batch,
                    max_length=1024,
                    threads=args.threads,
                    **start,
                )
                sides[mode] = Side(cfg, args.steps)
            quotients = compare(sides, args.rounds)
        rows = {mode: side.stats["learned"] / side.stats["samples"] for mode, side in sides.items()}
        work = {mode: side.flops for mode, side in sides.items()}
        shown = " ".join(
            f"{middle:.3f} ({low:.3f} … {high:.3f})" for middle, low, high in map(quartiles, quotients)
        )
        made = sides["l2t"].data_ms / sides["vit"].data_ms
        sizes = [large(name, args.words, rows) for name in LARGE]
        print(
            f"{ratio:>6g} {rows['vit']:>8.0f} /{rows['l2t']:>8.0f} {shown:>46} "
            f"{made:>10.3f} {work['l2t'] / work['vit']:>11.3f} {sizes[0]:>7.3f} {sizes[1]:>7.3f}",
            flush=True,
        )
        found[str(ratio)] = {
            "clock": quotients[0],
            "cpu": quotients[1],
            "data_ms": {mode: side.data_ms for mode, side in sides.items()},
            "head_rows": rows,
            "arithmetic": work["l2t"] / work["vit"],
            "larger": dict(zip(LARGE, sizes, strict=True)),
        }
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": machine(), "ratios": found}, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
