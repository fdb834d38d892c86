"""`l2t status` of datasets in each state."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cluster import cli
from cluster.datasets import commit_shard, freeze, plan_dataset
from cluster.live import Live, timestamp, write_live


def test_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent, uri = str(tmp_path / "corpus"), str(tmp_path / "instructions")
    plan_dataset(parent, kind="corpus", name="c", shards=1, config={})
    commit_shard(parent, 0, {"rows": pa.table({"a": [1]})})
    freeze(parent)
    plan_dataset(uri, kind="instructions", name="round0", shards=2, config={"x": 1}, parents=[parent])
    commit_shard(uri, 0, {"rows": pa.table({"a": [1]})})
    assert cli.main(["status", uri]) == 0
    out = capsys.readouterr().out
    assert "instructions 'round0'" in out and "1/2 shards committed" in out and f"parent   {parent}" in out

    counts = {"accepted": 900, "kept_original": 100, "rejected:unverified": 500}
    tables = {"rows": pa.table({"a": range(1000)}), "rejects": pa.table({"a": range(500)})}
    commit_shard(uri, 1, tables, counts=counts, tokens={"completion": 12345})
    freeze(uri)
    assert cli.main(["status", uri, parent]) == 0
    out = capsys.readouterr().out
    assert "rows     1,501 = 1,001 in rows + 500 in rejects" in out
    assert (
        "           901 accepted\n           100 kept_original\n           500 rejected:unverified\n" in out
    )
    assert "12,345 completion" in out and "published" in out and "kind     corpus 'c'" in out


def test_a_run_in_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = str(tmp_path / "instructions")
    plan_dataset(uri, kind="instructions", name="r", shards=4, config={"x": 1})
    commit_shard(uri, 0, {"rows": pa.table({"a": [1]})})
    live = Live(
        started="2026-01-01T00:00:00+00:00",
        updated="2026-01-01T01:00:00+00:00",
        inputs_done=25,
        inputs_total=100,
        counts={"accepted": 30, "kept_original": 6, "rejected:unverified": 4},
        calls=7200,
        tokens_prompt=36_000,
        tokens_cached=9_000,
        tokens_completion=3_600,
        engine_running=48,
        engine_slots=64,
        engine_deaths=1,
        gpus=2,
    )
    write_live(uri, live)
    assert cli.main(["status", uri, "--gpu-price", "1.5"]) == 0
    out = capsys.readouterr().out
    assert "stopped" in out and "1/4 shards committed" in out
    assert "25/100 images in 1:00:00, ETA 3:00:00" in out
    assert "36 accepted rows/h, 2.0 calls/s" in out
    assert "10 tokens/s in (25% from the cache), 1 tokens/s out" in out
    assert "48 calls in 64 engine slots" in out and "engines replaced 1x" in out
    assert "2.00 GPU-hours" in out and "cost     3.00 at 1.5 per GPU-hour, 0.083333 per accepted row" in out
    write_live(uri, live.model_copy(update={"updated": timestamp()}))
    assert cli.main(["status", uri]) == 0
    out = capsys.readouterr().out
    assert "in work" in out and "cost" not in out


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no dataset was begun here")
