"""`l2t status` of datasets in each state."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cluster import cli
from cluster.datasets import commit_shard, freeze, plan_dataset


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


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no dataset was begun here")
