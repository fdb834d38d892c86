"""Samples/s of our trainer, against transformers' Trainer and TRL's SFTTrainer on the same model and data.

    python tests/bench/bench_trainers.py --out runs/trainers.html
    python tests/bench/bench_trainers.py --steps 12 --warmup 4 --images 40    # does it work
    python tests/bench/bench_trainers.py --one-turn --sides packed trl       # TRL with its own collator

A LLaVA of 1.3 million parameters (train/starter's shape, random weights, made once) learns the answers of a
mixed-length set: 300 pictures, four conversations each, from a question with one word (41 tokens) to dialogues and
descriptions of 490; half have less than 50 tokens, the mean is 107. Everybody: the same start, as many steps of as many
conversations, fp32, AdamW with one learning rate, clipping at 1, all modules trained, the loss a mean over the answers'
tokens of a batch. Ours runs as a user runs it (`train.launch.launch`, workers: 0), packed into rows of at most 4,096
tokens, and padded, ``--microbatch`` conversations of similar length a pass. The peers are set up in trainer_peers.py;
their batches are random or, with ``--sampling group_by_length``, sorted by length, which is fast and learns less.

Each side is a process of its own, in turn, ``--rounds`` times. Counted from the end of step ``--warmup`` to the end of
the last: no start, no loading, no storing; beside the rate stands the CPU time of the process, which other work on the
machine moves less (loader processes are not in it). Samples are drawn in each trainer's own order. Afterwards the same
code measures every final model's loss on the answers about 60 other pictures, and ``--out`` gets a page with the
losses of all over each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import REPO, machine, spread

SIDES = {
    "packed": "ours, packed",
    "padded": "ours, padded",
    "trainer": "transformers Trainer",
    "trl": "TRL SFTTrainer",
}
HELD_OUT = "held-out"


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What all sides are told."""
    names = (
        "steps",
        "batch",
        "microbatch",
        "lr",
        "warmup",
        "log_every",
        "threads",
        "workers",
        "sampling",
        "seed",
    )
    return {name: getattr(args, name) for name in (*names, "one_turn")}


def make(folder: Path, images: int, *, one_turn: bool) -> None:
    """The data, those held out, and the model to start from."""
    from mixed_talks import config, write_set

    from train.prepare import prepare

    data = write_set(folder / "data", images=images, one_turn=one_turn)
    held_out = write_set(folder / HELD_OUT, images=60, seed=1, one_turn=one_turn)
    (folder / "data.json").write_text(json.dumps({"data": data, HELD_OUT: held_out}))
    prepare(config(data, folder / "start", steps=1))


def train(side: str, folder: Path, out: Path, settings: dict[str, Any]) -> None:
    """One trainer, in this process."""
    data = json.loads((folder / "data.json").read_text())["data"]
    model = str(folder / "start" / "init")
    if side in ("trainer", "trl"):
        from trainer_peers import train as train_peer

        ends, trained = train_peer(side, model, data, out, settings)
        (out / "result.json").write_text(json.dumps({**rate_of(ends, settings), **trained}))
        return
    import torch
    from mixed_talks import config

    from train.loop import Alone, run_worker
    from train.prepare import prepare

    marks: dict[int, tuple[float, float]] = {}

    class Clock(Alone):
        """When each log line was due."""

        def report(self, line: dict[str, Any]) -> None:
            marks[line["step"]] = time.perf_counter(), time.process_time()

    rates = dict.fromkeys(("vision_tower", "connector", "language_model"), settings["lr"])
    cfg = config(
        data,
        out,
        model=model,
        steps=settings["steps"],
        global_batch=settings["batch"],
        microbatch=settings["microbatch"],
        group_rows=settings["microbatch"],
        microbatch_tokens=4096 if side == "packed" else None,
        loaders=settings["workers"],
        lr=rates,
        log_every=settings["log_every"],
        threads=settings["threads"],
        seed=settings["seed"],
    )
    prepare(cfg)
    run_worker(cfg, torch.device("cpu"), Clock())
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = {
        **rate_of(marks, settings),
        "curve": [(line["step"], line["loss"]) for line in lines],
        "learned": sum(line["tokens_response"] for line in lines),
        "padding_share": sum(line["padding_share"] for line in lines) / len(lines),
        "data_wait_share": max(line["data_wait_share"] for line in lines[2:]),
        "rejected": lines[-1]["rejected"],
    }
    (out / "result.json").write_text(json.dumps(found))


def rate_of(marks: dict[int, tuple[float, float]], settings: dict[str, Any]) -> dict[str, float]:
    """Samples/s and CPU milliseconds per sample of the steps that are counted.

    Args:
        marks: clock and CPU time of this process at the end of steps.
    """
    first, last = marks[settings["warmup"]], marks[settings["steps"]]
    samples = (settings["steps"] - settings["warmup"]) * settings["batch"]
    return {
        "samples_per_s": samples / (last[0] - first[0]),
        "cpu_ms": 1000 * (last[1] - first[1]) / samples,
    }


def held_out_loss(model: Path, folder: Path, out: Path) -> float:
    """Nats per answer token on the pictures nobody has trained on."""
    import torch
    from mixed_talks import config

    from train.build import build_task
    from train.prepare import prepare

    data = json.loads((folder / "data.json").read_text())[HELD_OUT]
    cfg = config(data, out, model=str(model), epochs=1)
    the_plan = prepare(cfg)
    task = build_task(cfg)
    task.module.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for _, batch in zip(range(the_plan.steps), task.data.steps(0), strict=False):
            for microbatch in batch.microbatches:
                total += float(task.module(microbatch)[1])
                tokens += int(microbatch.counts[1])
    return total / tokens


def in_a_process(args: argparse.Namespace, *command: str) -> None:
    """This script again, for one thing; what it prints is shown only where it fails."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(Path(command[1]) / "cache"),
        "OMP_NUM_THREADS": str(args.threads),
        "TOKENIZERS_PARALLELISM": "true",
    }
    done = subprocess.run(
        [sys.executable, __file__, "--one", *command, "--told", json.dumps(settings_of(args))],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def one(what: str, folder: Path, out: Path, settings: dict[str, Any]) -> None:
    """What a process of its own does."""
    out.mkdir(parents=True, exist_ok=True)
    if what == "make":
        make(folder, settings["images"], one_turn=settings["one_turn"])
    elif what == HELD_OUT:
        losses = {
            str(model.relative_to(folder)): held_out_loss(model, folder, out / f"{number}")
            for number, model in enumerate(sorted(folder.glob("round*/*/model")))
        }
        losses["start"] = held_out_loss(folder / "start" / "init", folder, out / "start")
        (out / "result.json").write_text(json.dumps(losses))
    else:
        train(what, folder, out, settings)


def page(curves: dict[str, Sequence[tuple[int, float]]], lines: Sequence[str]) -> str:
    """The losses of all sides over each other."""
    from train.pages.curves import TONES, Curve, plot

    drawn = [
        Curve(name=name, tone=tone % TONES, points=[(float(x), y) for x, y in points])
        for tone, (name, points) in enumerate(curves.items())
    ]
    svg = plot(drawn, label="Losses while training", x_label="optimizer step")
    colors = ("#0b62a4", "#d95f02", "#1b9e77", "#7b3294")
    style = "".join(f".c{i}{{stroke:{color};color:{color}}}" for i, color in enumerate(colors))
    names = "".join(f'<li style="color:{colors[i]}">{name}</li>' for i, name in enumerate(curves))
    return (
        "<!doctype html><meta charset=utf-8><title>Trainers</title><style>body{font:14px sans-serif;max-width:60em}"
        "polyline{fill:none;stroke-width:1.2}.raw{opacity:.3}.dot{fill:currentColor}.grid,.axis{stroke:#ccc}"
        f".tick{{font-size:9px;fill:#555}}.cross{{display:none}}{style}</style><h1>Answers' loss by step</h1>{svg}"
        f"<ul>{names}</ul><pre>{chr(10).join(lines)}</pre>"
    )


def main() -> None:
    """Make the data, let every side train, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--warmup", type=int, default=20, help="steps that are not counted")
    parser.add_argument("--batch", type=int, default=32, help="conversations per step")
    parser.add_argument(
        "--microbatch", type=int, default=8, help="of them a forward pass, where they are padded"
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--images", type=int, default=300, help="pictures, with four conversations each")
    parser.add_argument("--log-every", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="loader processes of every side; 0: none")
    parser.add_argument(
        "--sampling", choices=("group_by_length", "random"), default="random", help="of the peers"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--one-turn", action="store_true", help="dialogues are one question; TRL's own collator"
    )
    parser.add_argument("--out", help="page with the losses over each other")
    parser.add_argument("--json", help="keep all numbers in this file")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--told", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, folder, out = args.one
        one(what, Path(folder), Path(out), {**json.loads(args.told), "images": args.images})
        return
    if args.warmup % args.log_every or args.steps % args.log_every or not 0 < args.warmup < args.steps:
        parser.error("--warmup and --steps: multiples of --log-every, the first above 0 and below the second")
    print(f"on {machine('torch', 'transformers', 'trl', 'accelerate')}", flush=True)
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_a_process(args, "make", name, f"{name}/made", "--images", str(args.images))
        for number in range(args.rounds):
            for side in args.sides:
                out = folder / f"round{number}" / side
                in_a_process(args, side, name, str(out))
                results[side].append(json.loads((out / "result.json").read_text()))
                print(f"  {SIDES[side]}: {results[side][-1]['samples_per_s']:.1f} samples/s", flush=True)
        in_a_process(args, HELD_OUT, name, f"{name}/measured")
        losses = json.loads((folder / "measured" / "result.json").read_text())
    lines = report(args, results, losses)
    print("\n".join(lines))
    if args.out:
        curves = {SIDES[side]: found[0]["curve"] for side, found in results.items()}
        Path(args.out).write_text(page(curves, lines))
    if args.json:
        kept = {"machine": machine(), "settings": settings_of(args), "results": results, "held_out": losses}
        Path(args.json).write_text(json.dumps(kept, indent=1))


def report(
    args: argparse.Namespace, results: dict[str, list[dict[str, Any]]], losses: dict[str, float]
) -> list[str]:
    """The table and the ratios."""
    lines = [
        f"{args.steps} steps of {args.batch} conversations, {args.threads} threads, loader processes: {args.workers}, "
        f"peers' batches: {args.sampling}; held-out answers' loss before: {losses['start']:.3f}"
    ]
    for side, found in results.items():
        rates = spread([one["samples_per_s"] for one in found], 1)
        held = spread([losses[f"round{i}/{side}/model"] for i in range(len(found))], 3)
        cpu = spread([one["cpu_ms"] for one in found], 2)
        lines.append(f"{SIDES[side]:<22}{rates:>26} samples/s {cpu:>22} CPU ms each   held-out loss {held}")
    for ours in ("packed", "padded"):
        for peer in ("trainer", "trl"):
            if ours in results and peer in results:
                pairs = list(zip(results[ours], results[peer], strict=True))
                ratio = spread([a["samples_per_s"] / b["samples_per_s"] for a, b in pairs], 2)
                cpu = spread([b["cpu_ms"] / a["cpu_ms"] for a, b in pairs], 2)
                lines.append(
                    f"{SIDES[ours]} ÷ {SIDES[peer]}: samples/s {ratio}, samples per CPU second {cpu}"
                )
    return lines


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
