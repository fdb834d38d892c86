"""Corpus to instructions on real Ray Data and real vLLM, with a random tiny model: the books balance, bad
input ends as rejects or in one message, and a killed run continues to the same data set.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.datasets import iter_tables, pending_shards, read_manifest
from datagen.config import DatagenConfig
from datagen.corpus import CorpusRow
from datagen.prompts import load_prompts
from datagen.records import from_table
from datagen.shard import ShardInput, ShardRunner
from tests.datagen.conftest import row
from tests.datagen.scripted import ScriptedEngine

REPO = Path(__file__).parents[2]
WriteCorpus = Callable[[list[list[CorpusRow]]], str]
DRAFTS = 2


def command(corpus: str, output: str, model: str, *more: str) -> list[str]:
    """The run under test, as a user types it."""
    settings = [
        f"corpus={corpus}",
        f"output={output}",
        f"engines.generator.model={model}",
        "engines.generator.max_model_len=512",
        "engines.generator.max_num_seqs=8",
        f"drafts_per_image={DRAFTS}",
        "program=bootstrap",
        "verify=false",
        "rewrite.share=0",
        # A random model never says when it is done; a letter that comes up now and then does it.
        "sampling.instruct={temperature: 2, top_k: 0, max_tokens: 40, stop: [e, a, r]}",
        "sampling.respond={temperature: 2, max_tokens: 40, stop: [e, a, r]}",
        "gates=[duplicate]",
    ]
    return [sys.executable, "-m", "datagen", *settings, *more]


def environment() -> dict[str, str]:
    # A cluster of the developer's own must not be joined, and one thread is enough for a toy.
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def shards() -> list[list[CorpusRow]]:
    """Three shards; one picture is damaged."""
    rows = [[row(k * 6 + i) for i in range(6)] for k in range(3)]
    rows[1][2] = row(100, b"\x89PNG damaged")
    return rows


def expected_ids(corpus: str) -> list[str]:
    """Ids follow from the corpus and the seed alone, so the program on a scripted model gives the same."""
    engine = ScriptedEngine(lambda prompt: "anything")
    runner = ShardRunner(
        arms=DatagenConfig(corpus=corpus, output="", program="bootstrap", drafts_per_image=DRAFTS).variants(),
        prompts=load_prompts("starter"),
        engines={"generator": engine, "verifier": engine, "inner": engine},
        revision="",
        admission=asyncio.Semaphore(4),
    )

    async def ids() -> list[str]:
        shards = [ShardInput(corpus=table) for table in iter_tables(corpus)]
        results = [await runner.run(k, shard) for k, shard in enumerate(shards)]
        return [record.id for result in results for record in result[""].records]

    return asyncio.run(ids())


def test_end_to_end_through_a_kill(tmp_path: Path, tiny_model: str, write_corpus: WriteCorpus) -> None:
    corpus, output = write_corpus(shards()), str(tmp_path / "instructions")
    process = subprocess.Popen(
        command(corpus, output, tiny_model, "in_flight=1"),
        cwd=REPO,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not list(Path(output).glob("commits/*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(pending_shards(output)) < 3, "killed in the middle"
    commits = {path: path.read_bytes() for path in Path(output).glob("commits/*.json")}

    again = subprocess.run(
        command(corpus, output, tiny_model),
        cwd=REPO,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert "failed:image" in again.stdout and "tokens" in again.stdout
    assert all(path.read_bytes() == data for path, data in commits.items()), (
        "finished shards stay as they are"
    )

    records = [
        r for stream in ("rows", "rejects") for t in iter_tables(output, stream) for r in from_table(t)
    ]
    assert sorted(r.id for r in records) == sorted(expected_ids(corpus)), "no row lost, no row twice"
    assert [r.reason for r in records if r.state == "failed"] == ["image"] * DRAFTS
    manifest = read_manifest(output)
    assert sum(manifest.totals.counts.values()) == len(records) == 18 * DRAFTS
    assert manifest.totals.counts["accepted"] > 0, "a random model still ends some sentences"
    assert manifest.totals.tokens["calls"] > 17 * DRAFTS and manifest.totals.tokens["prompt"] > 0
    assert manifest.models["generator"].startswith("sha256:")

    done = subprocess.run(
        command(corpus, output, tiny_model, "rounds=3"),
        cwd=REPO,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "rounds" in done.stderr and "another run" in done.stderr, (
        "another run is refused, not mixed in"
    )


def engine_core(driver: int) -> int | None:
    """Process id of the vLLM engine that descends from ``driver``."""
    parents, engines = {}, []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # gone between listing and reading
        parents[int(fields["Pid"])] = int(fields["PPid"])
        if fields["Name"].strip() == "VLLM::EngineCor":
            engines.append(int(fields["Pid"]))
    for engine in engines:
        above = engine
        while above > 1:
            above = parents.get(above, 0)
            if above == driver:
                return engine
    return None


@pytest.mark.slow
def test_a_dead_engine_is_replaced(tmp_path: Path, tiny_model: str, write_corpus: WriteCorpus) -> None:
    corpus, output = write_corpus(shards()), str(tmp_path / "instructions")
    process = subprocess.Popen(
        command(corpus, output, tiny_model, "in_flight=1"),
        cwd=REPO,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 400
    while not list(Path(output).glob("commits/*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    engine = engine_core(process.pid)
    assert engine is not None
    os.kill(engine, signal.SIGKILL)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said[-3000:]
    assert "engine replaced 1x" in said
    assert read_manifest(output).totals.counts["failed:image"] == DRAFTS


def fails(*arguments: str) -> str:
    """The one message of a command that must end with exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "datagen", *arguments],
        cwd=REPO,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr


def test_bad_input_is_one_message(tmp_path: Path, write_corpus: WriteCorpus) -> None:
    corpus = write_corpus([[row(0)]])
    output = f"output={tmp_path / 'out'}"
    assert "not a published dataset" in fails(f"corpus={tmp_path / 'nowhere'}", output)
    assert "drafts_per_image" in fails(f"corpus={corpus}", output, "draft_per_image=2")
    assert "unknown preset" in fails("demoo", f"corpus={corpus}", output)
    assert "unknown kind 'colour'" in fails(f"corpus={corpus}", output, "kinds=[colour]")
    assert "unknown prompt set" in fails(f"corpus={corpus}", output, "prompt_set=starterr")
    assert "no model folder" in fails(f"corpus={corpus}", output, "engines.generator.model=/nowhere/model")
    hub = fails(f"corpus={corpus}", output, "engines.generator.model=nobody/no-such-model")
    assert "no such folder here" in hub
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_dry_run_says_what_would_happen(
    tmp_path: Path, write_corpus: WriteCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    from datagen.cli import main

    corpus = write_corpus([[row(0), row(1)], [row(2)]])
    output = tmp_path / "out"
    assert main(["demo", f"corpus={corpus}", f"output={output}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert (
        "2 of 2 shards" in said
        and "3 images" in said
        and "12 drafts" in said
        and "prompt_set: starter" in said
    )
    assert not output.exists()
