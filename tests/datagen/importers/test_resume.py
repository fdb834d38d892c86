"""Killed in the middle and run again: the same rows as an import that was left in peace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import storage
from cluster.datasets import iter_tables, pending_shards, read_plan
from datagen.importers.job import run_import
from datagen.importers.options import ImportOptions

IMAGES, ROWS, SHARD = 60, 240, 4


def write_source(tmp_path: Path, photos: Path) -> Path:
    data = (photos / "a" / "1.jpg").read_bytes()
    for number in range(IMAGES):
        (photos / f"{number}.jpg").write_bytes(data)
    rows = [
        {
            "id": str(number),
            "image": f"{number % IMAGES}.jpg" if number % 10 else "missing.jpg",
            "conversations": [
                {"from": "human", "value": f"<image>\nQ{number}?"},
                {"from": "gpt", "value": "A."},
            ],
        }
        for number in range(ROWS)
    ]
    file = tmp_path / "mix.json"
    file.write_text(json.dumps(rows))
    return file


def options_for(tmp_path: Path, source: Path, photos: Path, out: str) -> ImportOptions:
    return ImportOptions(
        importer="llava", sources=(str(source),), images=str(photos), out=str(tmp_path / out), name="mix",
        shard_images=SHARD, workers=1,
    )  # fmt: skip


def everything(options: ImportOptions) -> dict[str, list[list[str]]]:
    """Ids of both streams of both data sets, shard by shard."""
    found = {}
    for uri, column in ((options.corpus, "image_id"), (options.instructions, "id")):
        for stream in ("rows", "rejects"):
            found[f"{uri.split('/')[-2]} {stream}"] = [
                table[column].to_pylist() for table in iter_tables(uri, stream)
            ]
    return found


PROGRAM = """
import sys
from datagen.importers.job import run_import
from datagen.importers.options import ImportOptions
run_import(ImportOptions.model_validate_json(sys.argv[1]))
"""


@pytest.mark.parametrize("target", ["corpus", "instructions"])
def test_kill_9_in_the_middle(target: str, tmp_path: Path, photos: Path, ray: None) -> None:
    source = write_source(tmp_path, photos)
    options = options_for(tmp_path, source, photos, "killed")
    # Its own session of Ray, so that the kill takes driver and workers; in a group of its own to kill.
    driver = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, options.model_dump_json()],
        env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
        cwd=Path(__file__).parents[3],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    uri = options.corpus if target == "corpus" else options.instructions
    begun = time.monotonic()
    while driver.poll() is None and time.monotonic() - begun < 300:
        if read_plan(uri) is not None and len(storage.list_prefix(storage.join(uri, "commits"))) >= 3:
            break
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert len(pending_shards(uri)) not in (0, read_plan(uri).shards), "killed in the middle"  # type: ignore[union-attr]

    made = run_import(options)
    calm = options_for(tmp_path, source, photos, "calm")
    assert run_import(calm).corpus_counts == made.corpus_counts
    assert everything(options) == everything(calm)
    assert sum(made.instruction_counts.values()) == ROWS
    assert run_import(options) == made, "a third run finds nothing to do"


def test_a_scan_that_was_stopped_is_made_again(
    tmp_path: Path, photos: Path, ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path, photos)
    options = options_for(tmp_path, source, photos, "stopped")
    write, written = storage.write_bytes, []

    def stop(uri: str, data: bytes) -> None:
        written.append(uri)
        if len(written) == 5:
            raise KeyboardInterrupt
        write(uri, data)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            run_import(options)
    assert read_plan(options.corpus) is None
    calm = options_for(tmp_path, source, photos, "calm")
    assert run_import(options).corpus_counts == run_import(calm).corpus_counts
    assert everything(options) == everything(calm)
