"""Trackers through their real libraries: what was logged is read back from what they stored."""

from __future__ import annotations

import json
import logging
import math
import shutil
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import storage
from cluster.errors import UserError
from tests.cluster import s3_servers
from tests.cluster.conftest import enter
from train.tracking.trackers import TrackerName, numbers, open_trackers

CONFIG = {"mode": "l2t", "lr": {"connector": 1e-3}, "data": [{"corpus": "/data/corpus"}], "shape": None}
Points = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever account this machine has stays out of it."""
    import os

    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture
def mlflow_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A store of MLflow on disk; the small package reads no database."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "mlruns"


@pytest.fixture
def wandb_offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No account needed; the process that wandb keeps for its runs ends with the test."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    yield
    wandb.teardown()


def line(step: int, **more: Any) -> dict[str, Any]:
    """A log line with every kind of field."""
    return {
        "step": step,
        "loss": 1 / step,
        "loss_instruction": None,
        "tokens": 1000 * step,
        "lr": {"connector": 0.5 / step, "language_model": 0.0},
        "masked_share": {"image": 0.25},
        "note": "text",
        "flag": True,
        **more,
    }


def names(points: Points) -> set[str]:
    return set(points)


WANTED = {"loss", "tokens", "lr/connector", "lr/language_model", "masked_share/image"}


def run_of(*trackers: TrackerName, run: str, lines: list[dict[str, Any]], step: int = 0) -> None:
    opened = open_trackers(trackers, run, CONFIG, step=step)
    for one in lines:
        opened.log(one)
    opened.close()


def tensorboard(folder: Path) -> Points:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def mlflow_points(run_id: str) -> Points:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    keys = client.get_run(run_id).data.metrics
    return {key: [(m.step, m.value) for m in client.get_metric_history(run_id, key)] for key in keys}


def wandb_points(run: Path) -> tuple[Points, list[dict[str, Any]]]:
    """(points, settings) of all offline files of a run: the records of the log format that LevelDB made known."""
    from wandb.proto import wandb_internal_pb2

    points: Points = {}
    settings = []
    for file in sorted(run.glob("wandb/offline-run-*/run-*.wandb")):
        data, at, body = file.read_bytes(), 7, b""
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            _, size, kind = struct.unpack("<IHB", data[at : at + 7])
            body, at = body + data[at + 7 : at + 7 + size], at + 7 + size
            if kind in (1, 4):  # whole, or the last part
                record = wandb_internal_pb2.Record.FromString(body)
                body = b""
                if record.WhichOneof("record_type") == "history":
                    for item in record.history.item:
                        key = item.key or "/".join(item.nested_key)
                        if not key.startswith("_"):
                            points.setdefault(key, []).append(
                                (record.history.step.num, json.loads(item.value_json))
                            )
                if record.WhichOneof("record_type") == "run":
                    settings.append({i.key: json.loads(i.value_json) for i in record.run.config.update})
    return points, settings


def test_numbers_are_those_of_the_line() -> None:
    assert numbers(line(4)) == {
        "loss": 0.25, "tokens": 4000.0, "lr/connector": 0.125, "lr/language_model": 0.0, "masked_share/image": 0.25,
    }  # fmt: skip
    assert math.isnan(numbers({"step": 1, "loss": math.nan})["loss"])


def test_tensorboard(tmp_path: Path) -> None:
    run_of("tensorboard", run=str(tmp_path / "run"), lines=[line(2), line(4)])
    found = tensorboard(tmp_path / "run/tensorboard")
    assert names(found) == WANTED
    assert found["loss"] == [(2, 0.5), (4, 0.25)]
    assert not (tmp_path / "run/trackers.json").exists()


@pytest.mark.parametrize("at", [0, 4])
def test_tensorboard_of_a_run_that_continues_has_each_point_once(tmp_path: Path, at: int) -> None:
    """Killed after step 8, its last checkpoint at step 4, or none yet."""
    run = str(tmp_path / "run")
    run_of("tensorboard", run=run, lines=[line(s, loss=9.0) for s in (2, 4, 6, 8)])
    run_of("tensorboard", run=run, lines=[line(s) for s in range(at + 2, 12, 2)], step=at)
    found = tensorboard(tmp_path / "run/tensorboard")["loss"]
    assert [step for step, _ in found] == [2, 4, 6, 8, 10]
    assert [loss for step, loss in found if step > at] == pytest.approx([1 / s for s in range(at + 2, 12, 2)])


def test_points_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    opened = open_trackers(("tensorboard",), str(tmp_path / "run"), CONFIG)
    opened.log(line(2))
    for _ in range(200):
        if tensorboard(tmp_path / "run/tensorboard").get("loss"):
            break
        opened._thread.join(0.05)
    assert tensorboard(tmp_path / "run/tensorboard")["loss"] == [(2, 0.5)]
    opened.close()


def test_mlflow(tmp_path: Path, mlflow_folder: Path) -> None:
    from mlflow.tracking import MlflowClient

    run = str(tmp_path / "run")
    run_of("mlflow", run=run, lines=[line(2), line(4)])
    run_id = json.loads((tmp_path / "run/trackers.json").read_bytes())["mlflow"]["run"]
    found = MlflowClient().get_run(run_id)
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params == {"mode": "l2t", "lr.connector": "0.001", "data.0.corpus": "/data/corpus"}
    assert names(mlflow_points(run_id)) == WANTED
    # Stopped before its next checkpoint: steps 2 and 4 come again, and once more is enough.
    run_of("mlflow", run=run, lines=[line(2), line(4), line(6, loss=math.nan)])
    points = mlflow_points(run_id)["loss"]
    assert points[:2] == [(2, 0.5), (4, 0.25)] and points[2][0] == 6 and math.isnan(points[2][1])
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"


def test_wandb_offline(tmp_path: Path, wandb_offline: None) -> None:
    run = tmp_path / "run"
    run_of("wandb", run=str(run), lines=[line(2), line(4)])
    points, settings = wandb_points(run)
    assert names(points) == WANTED and points["loss"] == [(2, 0.5), (4, 0.25)]
    assert {k: settings[0][k] for k in CONFIG} == CONFIG
    name = json.loads((run / "trackers.json").read_bytes())["wandb"]["run"]
    time.sleep(1.1)  # wandb names its folders by the second
    run_of("wandb", run=str(run), lines=[line(4), line(6)], step=2)
    assert wandb_points(run)[0]["loss"] == [(2, 0.5), (4, 0.25), (6, pytest.approx(1 / 6))]
    files = {f.name for f in run.glob("wandb/offline-run-*/run-*.wandb")}
    assert files == {f"run-{name}.wandb"}
    left = {f.name for f in run.rglob("*") if f.is_file()}
    assert "requirements.txt" not in left and "wandb-metadata.json" not in left


def test_two_at_once_and_one_that_fails(
    tmp_path: Path, mlflow_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_trackers(("tensorboard", "mlflow"), str(tmp_path / "run"), CONFIG)
    shutil.rmtree(mlflow_folder)
    mlflow_folder.write_text("the disk is gone")
    with caplog.at_level(logging.WARNING):
        for step in (2, 4):
            opened.log(line(step))
        opened.close()
    assert tensorboard(tmp_path / "run/tensorboard")["loss"] == [(2, 0.5), (4, 0.25)]
    said = [r.message for r in caplog.records if "trackers:" in r.message]
    assert len(said) == 1 and "mlflow" in said[0]


def test_files_of_a_run_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_offline: None) -> None:
    with s3_servers.moto() as server:
        run = storage.join(enter(server, "trackers", monkeypatch), "checkpoints/run")
        run_of("tensorboard", "wandb", run=run, lines=[line(2), line(4), line(6)])
        run_of("tensorboard", run=run, lines=[line(6)], step=4)
        storage.download_dir(run, tmp_path / "read")
    assert [step for step, _ in tensorboard(tmp_path / "read/tensorboard")["loss"]] == [2, 4, 6]
    assert [step for step, _ in wandb_points(tmp_path / "read")[0]["loss"]] == [2, 4, 6]


@pytest.mark.parametrize(
    ("tracker", "library", "package"),
    [
        ("tensorboard", "torch.utils.tensorboard", "tensorboard"),
        ("mlflow", "mlflow.tracking", "mlflow-skinny"),
        ("wandb", "wandb", "wandb"),
    ],
)
def test_a_missing_library(
    tracker: TrackerName, library: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"pip install {package}, or take it out of trackers"):
        open_trackers((tracker,), str(tmp_path / "run"), CONFIG)


def test_no_address_and_no_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set MLFLOW_TRACKING_URI"):
        open_trackers(("mlflow",), str(tmp_path / "run"), CONFIG)
    with pytest.raises(UserError, match="WANDB_MODE=offline"):
        open_trackers(("wandb",), str(tmp_path / "run"), CONFIG)


@pytest.mark.parametrize(
    "where", ["http://me:hidden-word@127.0.0.1:9", "sqlite:////nowhere/m.db", "file:/tmp/none"]
)
def test_mlflow_that_cannot_be_used(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="cannot be used") as caught:
        open_trackers(("mlflow",), str(tmp_path / "run"), CONFIG)
    assert "hidden-word" not in str(caught.value) + caplog.text


def test_only_what_was_asked_for_is_imported() -> None:
    import subprocess

    code = (
        "import sys; from train.tracking.trackers import open_trackers; open_trackers((), '/tmp/none', {}).close();"
        "print([m for m in ('torch', 'tensorboard', 'mlflow', 'wandb', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
