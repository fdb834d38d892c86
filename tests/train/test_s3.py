"""A run whose data and results live on an S3 store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import storage
from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from tests.train.conftest import StopAt, Stopped, write_world
from train.launch import launch
from train.loop import Trainer
from train.prepare import prepare
from train.workers import Workers


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("L2T_CACHE", str(tmp_path / "cache"))
    with s3_servers.moto() as server:
        yield enter(server, "train", monkeypatch)


def test_run_stop_and_continue_on_s3(make_config: Any, bucket: str, tmp_path: Path) -> None:
    settings = {"data": [write_world(bucket)], "steps": 6}
    whole = launch(make_config(**settings, output=str(tmp_path / "local")))
    cfg = make_config(**settings, output=storage.join(bucket, "checkpoints/run"))
    prepare(cfg)
    with pytest.raises(Stopped):
        Trainer(cfg, Workers(), StopAt(4)).train()
    assert launch(cfg)["weights_sha256"] == whole["weights_sha256"]
    done = json.loads(storage.read_bytes(storage.join(cfg.output, "done.json")))
    assert launch(cfg) == done
    names = {uri.removeprefix(cfg.output).split("/")[1] for uri in storage.list_prefix(cfg.output)}
    assert {"config.yaml", "log.jsonl", "model", "state", "templates.json"} <= names
    assert storage.exists(storage.join(cfg.output, "model/model.safetensors"))
