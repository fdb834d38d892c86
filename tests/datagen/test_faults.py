"""Faults on the real machine (Ray Data, worker actors, the commit protocol): rows that kill engines, and kills of
every process at random instants. The ids of the result are always those of an undisturbed run.

The engine is a server of the test's own behind the OpenAI client where many engine deaths must be quick, and real
vLLM where the engine itself is killed.
"""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from cluster import storage
from cluster.datasets import iter_tables, pending_shards, read_manifest
from cluster.live import read_live
from datagen.corpus import CorpusRow
from datagen.records import Record, from_table
from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from tests.datagen.conftest import png, row
from tests.datagen.http_engine import POISON, PoisonedEngine, settings
from tests.datagen.test_pipeline import DRAFTS, command, environment, expected_ids
from tests.local_http import answering

REPO = Path(__file__).parents[2]
WriteCorpus = Callable[[list[list[CorpusRow]]], str]


@pytest.fixture
def address() -> Iterator[str]:
    with answering(PoisonedEngine) as address:
        yield f"{address}/v1"


def records_of(uri: str) -> list[Record]:
    return [r for stream in ("rows", "rejects") for t in iter_tables(uri, stream) for r in from_table(t)]


def served(address: str, corpus: str, output: str, *more: str) -> subprocess.CompletedProcess[str]:
    """A run of the starter's prompts against the server, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "datagen", *settings(address, corpus, output, *more)],
        cwd=REPO, env=environment(), capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_a_row_that_kills_engines_is_found_and_set_aside(
    tmp_path: Path, address: str, write_corpus: WriteCorpus
) -> None:
    poison = io.BytesIO()
    Image.new("RGB", (8, 8), POISON).save(poison, "PNG")
    rows = [[row(k * 5 + i) for i in range(5)] for k in range(2)]
    rows[1][3] = row(103, poison.getvalue())
    corpus = write_corpus(rows)
    done = served(address, corpus, str(tmp_path / "out"), "verify=false", "engine_deaths=1")
    assert "1 rows quarantined" in done.stderr
    records = records_of(str(tmp_path / "out"))
    assert len({r.id for r in records}) == len(records) == 20
    failed = [r for r in records if r.reason == "engine"]
    assert [r.image_ids for r in failed] == [("img-0103",)] * 2, "the others are untouched"
    assert read_manifest(str(tmp_path / "out")).totals.counts["failed:engine"] == 2


def test_arms_are_data_sets_of_their_own(tmp_path: Path, address: str, write_corpus: WriteCorpus) -> None:
    corpus = write_corpus([[row(k * 4 + i) for i in range(4)] for k in range(2)])
    arms = "arms={judged: {}, unjudged: {verify: false}}"
    said = served(address, corpus, str(tmp_path / "out"), "gates=[]", arms).stdout
    judged, unjudged = (read_manifest(str(tmp_path / "out" / name)) for name in ("judged", "unjudged"))
    assert 0 < judged.totals.counts["accepted"] < unjudged.totals.counts["accepted"] == 16
    assert judged.totals.counts["rejected:unverified"] + judged.totals.counts["accepted"] == 16
    assert {r.id for r in records_of(str(tmp_path / "out/judged"))} == {
        r.id for r in records_of(str(tmp_path / "out/unjudged"))
    }
    assert "judged" in said and "calls alone" in said
    alone = served(address, corpus, str(tmp_path / "alone"), "gates=[]")
    assert str(tmp_path / "alone") in alone.stdout
    assert records_of(str(tmp_path / "alone")) == records_of(str(tmp_path / "out/judged")), "as if run alone"


def test_on_object_storage_as_on_disk(
    tmp_path: Path, address: str, write_corpus: WriteCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corpus, arms, live state and books on an S3 store: the same records as on disk."""
    corpus = write_corpus([[row(k * 3 + i) for i in range(3)] for k in range(2)])
    served(address, corpus, str(tmp_path / "local"), "gates=[]")
    with s3_servers.moto() as server:
        bucket = enter(server, "datagen", monkeypatch)
        storage.upload_dir(Path(corpus), f"{bucket}/corpora/c")
        served(address, f"{bucket}/corpora/c", f"{bucket}/instructions/x", "gates=[]")
        assert records_of(f"{bucket}/instructions/x") == records_of(str(tmp_path / "local"))
        live = read_live(f"{bucket}/instructions/x")
        assert live is not None and live.inputs_done == 6 and sum(live.counts.values()) == 12
        assert live.calls > 0 and live.tokens_prompt == 3 * live.calls


def family(driver: int) -> dict[str, list[int]]:
    """Processes of a run by what they are."""
    found: dict[str, list[int]] = {"engine": [], "actor": [], "driver": [driver]}
    for child in psutil.Process(driver).children(recursive=True):
        try:
            name = " ".join(child.cmdline()) or child.name()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if child.name().startswith("VLLM"):
            found["engine"].append(child.pid)
        elif "ray::MapWorker" in name or "ray::_MapWorker" in name or "ShardWorker" in name:
            found["actor"].append(child.pid)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kills_at_random_instants(
    seed: int, tmp_path: Path, tiny_model: str, write_corpus: WriteCorpus
) -> None:
    """Engine, actor and driver are killed by turns while the run goes on; it is started again whenever it ended."""
    rng = random.Random(seed)
    rows = [[row(k * 6 + i, png(k * 6 + i)) for i in range(6)] for k in range(8)]
    corpus, output = write_corpus(rows), str(tmp_path / "instructions")
    victims = rng.sample(["engine", "actor", "driver"], 3)
    killed: list[str] = []
    deadline = time.monotonic() + 560
    while True:
        process = subprocess.Popen(
            command(corpus, output, tiny_model, "in_flight=2", "actors=1"),
            cwd=REPO, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        watcher = threading.Thread(target=kill_some, args=(process, output, victims, killed, rng))
        watcher.start()
        _, said = process.communicate(timeout=deadline - time.monotonic())
        watcher.join()
        if process.returncode == 0:
            break
        assert process.returncode < 0, said[-3000:]  # killed by us, not fallen
    assert killed, "nothing was killed: the run was over too soon to test anything"
    assert sorted(r.id for r in records_of(output)) == sorted(expected_ids(corpus)), killed
    assert sum(read_manifest(output).totals.counts.values()) == 8 * 6 * DRAFTS


def kill_some(
    process: subprocess.Popen[str], output: str, victims: list[str], killed: list[str], rng: random.Random
) -> None:
    """Wait until shards come, then kill the next victim after a random while; repeatedly while the run lives."""
    begun = len(list(Path(output).glob("commits/*.json")))
    while victims and process.poll() is None:
        time.sleep(0.02)
        done = len(list(Path(output).glob("commits/*.json")))
        if done <= begun or not pending_shards(output):
            continue
        time.sleep(rng.random() * 0.3)
        try:
            targets = family(process.pid)[victims[0]]
        except psutil.NoSuchProcess:
            return
        for pid in targets:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.append(victims[0])
        if targets:
            victims.pop(0)
            begun = done
