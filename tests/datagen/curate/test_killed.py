"""The driver killed in the middle of the first and of the third pass: no row lost, doubled or judged otherwise."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.datasets import read_manifest
from tests.datagen.curate.conftest import Write, image, photo, record
from tests.datagen.curate.test_passes import config_for, curate, rows_of

SHARDS = 12


def kill_when(argv: list[str], folder: Path, pattern: str, number: int) -> int:
    """Run ``l2t`` until ``number`` files are there, then kill it; returns how many there were."""
    process = subprocess.Popen([sys.executable, "-m", "cluster", *argv], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob(pattern))) < number:
        time.sleep(0.01)
    process.kill()
    process.wait()
    return len(list(folder.glob(pattern)))


@pytest.mark.slow
def test_killed(write_set: Write) -> None:
    pictures = [[image(f"p{k}-{n}", photo(n)) for n in range(3)] for k in range(SHARDS)]
    rows = [[record(f"r{k}-{n}", [f"p{k}-{n % 3}"], f"Ask {n}?") for n in range(60)] for k in range(SHARDS)]
    uri = write_set("mix", pictures, rows)
    config = config_for(uri, near_duplicate=0.8, image_duplicate=4)
    argv = ["curate", uri, "--out", config.output, "--near-duplicate", "--image-duplicate", "--workers", "1"]
    folder = Path(config.output)
    assert 2 <= kill_when(argv, folder, "curate/*-findings.parquet", 2) < SHARDS
    assert 2 <= kill_when(argv, folder, "commits/*.json", 2) < SHARDS
    subprocess.run([sys.executable, "-m", "cluster", *argv], check=True, stderr=subprocess.DEVNULL)
    whole = curate(config.model_copy(update={"output": uri + "-whole"}))
    for stream in ("rows", "rejects"):
        assert rows_of(config.output, stream) == rows_of(whole, stream)
    assert sum(read_manifest(config.output).totals.rows.values()) == 60 * SHARDS
