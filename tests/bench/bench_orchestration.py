"""What orchestration costs: CPU time per call and memory, with an engine that answers at once.

    python tests/bench/bench_orchestration.py --rows 1000 10000 100000

Programs, prompts, chat template, calls, gates, records and Parquet are the real ones, in one process; the engine
answers in no time, so all CPU time is ours. Each size runs in a process of its own. Prints CPU per call (aim: 0.3 ms)
and peak memory, which must not grow with the rows (a run over shards of a constant size), and the ratio of both to the
smallest size.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).parents[2]
SHARD_ROWS = 500
PICTURES = 64


def measure(rows: int) -> dict[str, float]:
    """Run ``rows`` images through ComVint shard by shard, committing each; CPU seconds, calls, peak RSS."""
    from PIL import Image

    from cluster.datasets import commit_shard, freeze, plan_dataset
    from datagen import corpus
    from datagen.config import DatagenConfig
    from datagen.corpus import CorpusRow
    from datagen.prompts import load_prompts
    from datagen.shard import ShardInput, ShardRunner

    pictures = []
    for number in range(PICTURES):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (number, 2 * number, 3 * number)).save(buffer, "PNG")
        pictures.append(buffer.getvalue())

    def shard(index: int) -> ShardInput:
        made = [
            CorpusRow(
                image_id=f"{index}-{i}",
                image=pictures[i % PICTURES],
                width=64,
                height=64,
                sha256=corpus.sha256(pictures[i % PICTURES]),
                captions=("A plain picture.",),
                ocr=("cat",),
            )
            for i in range(min(SHARD_ROWS, rows - index * SHARD_ROWS))
        ]
        return ShardInput(corpus=corpus.to_table(made))

    rng = random.Random(0)
    said = {
        "Write a": lambda: (
            f"Question: What color is thing {rng.random()}? Answer: One can see that the thing is red."
        ),
        "Make this harder": lambda: f"Question: What color is the other thing {rng.random()}? Answer: red",
        "Check this": lambda: (
            f"Evidence: I see red, the answer says red. Verdict: {rng.choice(('yes', 'yes', 'no'))}"
        ),
        "Make a yes": lambda: "Question: Is the thing red? Answer: yes",
        "Make a no": lambda: "Question: Is the thing blue? Answer: no",
        "Make wrong": lambda: "Options: blue, green, black",
        "Rewrite the": lambda: "The thing is red.",
        "Same meaning": lambda: "yes",
    }

    def answer(prompt: str) -> str:
        return next((say() for start, say in said.items() if start in prompt), "A thing.")

    engine = InstantEngine(answer)
    config = DatagenConfig(corpus="-", output="-")
    runner = ShardRunner(
        arms=config.variants(),
        prompts=load_prompts("starter"),
        engines={"generator": engine, "verifier": engine, "inner": engine},
        revision="bench",
        admission=asyncio.Semaphore(32),
    )
    shards = -(-rows // SHARD_ROWS)
    cost = {"build": 0.0, "commit": 0.0, "calls": 0.0}

    async def work(root: str) -> None:
        for index in range(shards):
            start = time.process_time()
            made = shard(index)
            cost["build"] += time.process_time() - start
            result = (await runner.run(index, made))[""]
            cost["calls"] += result.tokens()["calls"]
            start = time.process_time()
            commit_shard(root, index, result.tables(), counts=result.counts(), inputs=result.started)
            cost["commit"] += time.process_time() - start

    with tempfile.TemporaryDirectory() as root:
        plan_dataset(root, kind="instructions", name="bench", shards=shards, config={})
        begun, wall = time.process_time(), time.monotonic()
        asyncio.run(work(root))
        cpu, wall = time.process_time() - begun - cost["build"], time.monotonic() - wall
        start = time.process_time()
        freeze(root)
        frozen = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "calls": cost["calls"],
        "cpu_s": cpu,
        "commit_s": cost["commit"],
        "freeze_s": frozen,
        "wall_s": wall,
        "peak_mib": peak,
        "ms_per_call": 1000 * cpu / cost["calls"],
    }


class InstantEngine:
    """Real chat template and tokenizer of the starter; the model alone is left out."""

    def __init__(self, answer) -> None:
        from cluster.models import resolve_model
        from datagen.chat import ChatTemplate

        self.template = ChatTemplate.load(resolve_model("starter"))
        self.answer = answer
        self.running, self.slots = 0, 64

    def render_chat(self, turns, *, has_image, cut_after_image=False):
        return self.template.render(turns, has_image=has_image, cut_after_image=cut_after_image)

    async def complete(self, prompt, image, image_id, sampling, logprobs=False, regex=""):
        from datagen.engine import Completion

        tokens = self.template.encode(prompt)
        await asyncio.sleep(0)
        return Completion(text=self.answer(prompt), tokens_prompt=len(tokens), tokens_completion=8)


def main() -> None:
    """Measure each size in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    cpu = next(
        (
            x.split(":")[1].strip()
            for x in Path("/proc/cpuinfo").read_text().splitlines()
            if x.startswith("model name")
        ),
        "?",
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
    print(f"on {cpu}, Python {platform.python_version()}, commit {commit.stdout.strip()}, one process")
    print(
        f"{'rows':>9} {'calls':>9} {'CPU s':>8} {'ms/call':>8} {'commit s':>8} {'peak MiB':>9} {'x memory':>8}"
    )
    first = None
    for rows in args.rows:
        command = [sys.executable, __file__, "--one", str(rows)]
        found = json.loads(
            subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
        )
        first = first or found
        print(
            f"{rows:>9} {found['calls']:>9.0f} {found['cpu_s']:>8.1f} {found['ms_per_call']:>8.3f} "
            f"{found['commit_s']:>8.1f} {found['peak_mib']:>9.0f} {found['peak_mib'] / first['peak_mib']:>8.2f}"
        )


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
