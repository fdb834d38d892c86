"""`l2t status` of everything that has one, in every state, from the URI alone."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster import cli, vitals
from cluster.bootstrap.config import BootstrapConfig
from cluster.bootstrap.decision import Decision, Gain, Mixture
from cluster.bootstrap.loop import begin
from cluster.datasets import commit_shard, freeze, plan_dataset
from cluster.live import Heartbeat, Live, read_live, timestamp, write_live
from cluster.log import run_id
from cluster.manifest import Kind, to_json

Capture = pytest.CaptureFixture[str]


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def told(capsys: Capture, *arguments: str) -> str:
    assert cli.main(["status", *arguments]) == 0
    return capsys.readouterr().out


def published(uri: str, kind: Kind, name: str) -> str:
    plan_dataset(uri, kind=kind, name=name, shards=1, config={})
    commit_shard(uri, 0, {"rows": pa.table({"a": [1]})})
    freeze(uri)
    return uri


@pytest.mark.parametrize("kind", ["corpus", "instructions", "gold", "eval"])
def test_every_kind_of_data_set(kind: Kind, tmp_path: Path, capsys: Capture) -> None:
    uri = str(tmp_path / "set")
    plan_dataset(uri, kind=kind, name="s", shards=2, config={})
    out = told(capsys, uri)
    assert f"kind     {kind} 's'" in out and f"run      {run_id(uri)}" in out
    assert "planned, nothing committed yet" in out and "0/2 shards committed" in out
    commit_shard(uri, 0, {"rows": pa.table({"a": [1]})})
    assert "unfinished, a shard was committed 0:0" in told(capsys, uri)
    commit_shard(uri, 1, {"rows": pa.table({"a": [1]})})
    freeze(uri)
    assert "state    finished: published" in told(capsys, uri)


def test_where_rows_went(tmp_path: Path, capsys: Capture) -> None:
    parent, uri = published(str(tmp_path / "corpus"), "corpus", "c"), str(tmp_path / "instructions")
    plan_dataset(uri, kind="instructions", name="round0", shards=2, config={"x": 1}, parents=[parent])
    commit_shard(uri, 0, {"rows": pa.table({"a": [1]})})
    out = told(capsys, uri)
    assert "instructions 'round0'" in out and "1/2 shards committed" in out and f"parent   {parent}" in out

    counts = {"accepted": 900, "kept_original": 100, "rejected:unverified": 500}
    tables = {"rows": pa.table({"a": range(1000)}), "rejects": pa.table({"a": range(500)})}
    commit_shard(uri, 1, tables, counts=counts, tokens={"completion": 12345})
    freeze(uri)
    out = told(capsys, uri, parent)
    assert "rows     1,501 = 1,001 in rows + 500 in rejects" in out
    assert (
        "           901 accepted\n           100 kept_original\n           500 rejected:unverified\n" in out
    )
    assert "12,345 completion" in out and "published" in out and "kind     corpus 'c'" in out


def live(**settings: Any) -> Live:
    values: dict[str, Any] = {
        "started": ago(3600),
        "updated": ago(5),
        "progressed": ago(8),
        "inputs_total": 100,
    }
    return Live(**{**values, "inputs_done": 25, **settings})


def test_the_five_states() -> None:
    assert vitals.state_of(live()).startswith("running")
    assert vitals.state_of(live(inputs_done=0, progressed="", started=ago(300))).startswith("running")
    assert vitals.state_of(live(progressed=ago(1800))).startswith("stalled: its driver lives")
    # Whoever needs half an hour for one unit is not stalled after half an hour.
    assert vitals.state_of(live(inputs_done=2, progressed=ago(1800))).startswith("running")
    assert vitals.state_of(live(updated=ago(90))).startswith("stopped 1:30 ago (no heartbeat")
    assert vitals.state_of(live(ended="interrupted")).startswith("stopped 0:05 ago (interrupted")
    assert vitals.state_of(live(ended="failed: disk full")).startswith("failed: disk full (0:05 ago")
    assert vitals.state_of(live(ended="done")).startswith("finishing")


def test_a_run_in_work(tmp_path: Path, capsys: Capture) -> None:
    uri = str(tmp_path / "instructions")
    plan_dataset(uri, kind="instructions", name="r", shards=4, config={"x": 1})
    commit_shard(uri, 0, {"rows": pa.table({"a": [1]})})
    stored = Live(
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
    write_live(uri, stored)
    out = told(capsys, uri, "--gpu-price", "1.5")
    assert "stopped" in out and "1/4 shards committed" in out
    assert "25/100 images in 1:00:00, ETA 3:00:00" in out
    assert "36 accepted rows/h, 2.0 calls/s" in out
    assert "10 tokens/s in (25% from the cache), 1 tokens/s out" in out
    assert "48 calls in 64 engine slots" in out and "engines replaced 1x" in out
    assert "2.00 GPU-hours" in out and "cost     3.00 at 1.5 per GPU-hour, 0.083333 per accepted row" in out
    write_live(uri, stored.model_copy(update={"updated": timestamp(), "progressed": timestamp()}))
    out = told(capsys, uri)
    assert "state    running" in out and "cost" not in out


LINE = {
    "step": 120, "loss": 1.25, "loss_instruction": 2.0, "loss_response": 0.5, "tokens_per_s": 12000.0,
    "samples_per_s": 40.0, "workers": 2, "data_wait_share": 0.02, "used": 3840, "rejected": 3,
}  # fmt: skip


def training_run(folder: Path) -> str:
    (folder / "state").mkdir(parents=True)
    (folder / "config.yaml").write_text(f"stage: finetune\nmode: l2t\noutput: {folder}\n")
    (folder / "log.jsonl").write_text(json.dumps({**LINE, "step": 60}) + "\n" + json.dumps(LINE) + "\n")
    states = [{"name": "a", "step": 50, "holdout": None}, {"name": "b", "step": 100, "holdout": None}]
    (folder / "state" / "latest.json").write_text(json.dumps({"states": states}))
    return str(folder)


def test_a_training_run(tmp_path: Path, capsys: Capture) -> None:
    uri = training_run(tmp_path / "run")
    out = told(capsys, uri)
    assert "kind     training run (finetune, l2t)" in out and "no worker has reported yet" in out
    write_live(uri, live(unit="steps", inputs_done=120, inputs_before=100, inputs_total=300, updated=ago(0)))
    out = told(capsys, uri)
    assert "state    running, last heartbeat 0:0" in out
    assert "120/300 steps in 1:00:00, ETA 9:00:00" in out, "an earlier attempt's steps do not count as speed"
    assert "loss     1.2500 at step 120 (instruction 2.0000, response 0.5000)" in out
    assert "12,000 tokens/s, 40 samples/s on 2 workers, 2% of the time waiting for data" in out
    assert "states   after step 50, 100" in out and "3,840 used, 3 rejected" in out
    (tmp_path / "run" / "stopped.txt").write_text("the loss of step 121 is not finite")
    assert "state    failed: the loss of step 121 is not finite" in told(capsys, uri)
    (tmp_path / "run" / "done.json").write_text(json.dumps({"seconds": 99.0, "steps": 300}))
    assert "state    finished in 99 s; the model is in" in told(capsys, uri)


def test_a_bootstrap_loop_and_the_folder_it_is_in(tmp_path: Path, capsys: Capture) -> None:
    home = tmp_path / "bootstrap" / "loop"
    home.mkdir(parents=True)
    begin(
        BootstrapConfig.model_validate({
            "name": "loop", "root": str(tmp_path), "rounds": 2, "model": "m", "corpus": "c", "datagen": {"preset": "x"},
            "train": {"preset": "y"}, "original": [{"instructions": "i"}],
        })
    )  # fmt: skip
    assert "state    round 1 is not decided yet" in told(capsys, str(home))
    decision = Decision(
        round=1, outcome="promoted", reason="better on validation", incumbent=0,
        mixture=Mixture(original_rows=10), gain=Gain(value=3.2, se=1.1, low=1.0), finished=timestamp(),
    )  # fmt: skip
    (home / "round-1.json").write_bytes(to_json(decision))
    run = training_run(tmp_path / "checkpoints" / "loop-2")
    write_live(run, live(unit="steps", updated=ago(0)))
    out = told(capsys, str(home))
    assert "round 1  promoted, gain +3.2 % ± 1.1: better on validation" in out
    assert "round 2 is not decided yet" in out and f"{run}\nkind     training run" in out
    (home / "round-2.json").write_bytes(
        to_json(
            decision.model_copy(update={"round": 2, "outcome": "collapsed", "gain": None, "reason": "same"})
        )
    )
    assert "state    finished after 2 rounds" in told(capsys, str(home))
    copied = tmp_path / "copy"
    shutil.copytree(tmp_path / "bootstrap", copied / "bootstrap")
    (copied / "bootstrap" / "loop" / "round-2.json").unlink()
    out = told(capsys, str(copied / "bootstrap" / "loop"))
    assert "round 2 is not decided yet" in out and run not in out, "what a copy says is read from the copy"
    shutil.rmtree(copied)
    shutil.copytree(home, tmp_path / "kept" / "loop")
    out = told(capsys, str(tmp_path))
    assert "a loop is read from <root>/bootstrap/<name>" in out and f"{home}  " in out, "one hides no other"
    shutil.rmtree(tmp_path / "kept")

    published(str(tmp_path / "corpora" / "c"), "corpus", "c")
    (tmp_path / "corpora" / "notes").mkdir()
    out = told(capsys, str(tmp_path))
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert lines.keys() == {str(home), run, str(tmp_path / "corpora" / "c")}
    assert "running" in lines[run] and "finished" in lines[str(home)]


def test_status_on_object_storage(moto_place: str, capsys: Capture) -> None:
    published(f"{moto_place}/corpora/c", "corpus", "c")
    assert "kind     corpus 'c'" in told(capsys, f"{moto_place}/corpora/c")
    assert f"{moto_place}/corpora/c  corpus 'c'  finished" in told(capsys, moto_place)


def test_nothing_there(tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: no dataset was begun here")


def test_a_heartbeat_says_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.live.STORE_EVERY_S", 0.05)
    uris = [str(tmp_path / "a"), str(tmp_path / "b")]
    with Heartbeat(uris, "samples", 10, 4) as beat:
        beat.advance(3, loss=1.5, mfu=None)
        until = time.monotonic() + 20
        while (read_live(uris[1]) or live()).inputs_done != 7 and time.monotonic() < until:
            time.sleep(0.02)
        seen = read_live(uris[0])
    assert seen and (seen.inputs_done, seen.inputs_before, seen.ended) == (7, 4, "")
    assert seen.measures == {"loss": 1.5} and seen.run == run_id(uris[0])
    ended = read_live(uris[0])
    assert ended and ended.ended == "done"
    with pytest.raises(OSError), Heartbeat(uris, "samples", 10):
        raise OSError("disk full")
    failed = read_live(uris[0])
    assert failed and failed.ended == "failed: disk full"
    with pytest.raises(KeyboardInterrupt), Heartbeat(uris, "samples", 10):
        raise KeyboardInterrupt
    stopped = read_live(uris[0])
    assert stopped and stopped.ended == "interrupted"


def test_a_status_that_cannot_be_stored_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    with Heartbeat([str(tmp_path / "file" / "run")], "samples", 10) as beat:
        beat.advance()
    assert caplog.text.count("l2t status will be out of date") == 1


def test_a_run_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_id("runs/x") == run_id(f"{os.getcwd()}/runs/x/") != run_id("runs/y")
    assert run_id("s3://b/x") == run_id("s3://b/x/")
