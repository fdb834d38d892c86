"""The loop on real parts: three rounds of vLLM, Ray Train and evaluation, killed at random instants."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.datasets import read_manifest

REPO = Path(__file__).parents[2]
KILLS = 5


def l2t(*words: str, cwd: Path = REPO) -> list[str]:
    return [sys.executable, "-m", "cluster", *words]


def environment() -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_three_rounds_through_kills(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    root = str(tmp_path)
    lessons = f"{{corpus: {root}/corpora/lessons, instructions: {root}/instructions/lessons-questions}}"
    first = f"{root}/checkpoints/first"
    for words in (
        ["corpus", "starter", "--images=160", "--seed=5", "--name=lessons", f"--out={root}"],
        ["corpus", "starter", "--images=16", "--seed=6", "--gold=none", "--name=train", f"--out={root}"],
        ["corpus", "starter", "--images=8", "--split=validation", "--name=val", f"--out={root}"],
        # The starter answers; to ask it must have learned instructions.
        [
            "train",
            "demo-l2t",
            "model=starter",
            f"data=[{lessons}]",
            "epochs=1",
            "workers=0",
            f"output={first}",
        ],
    ):
        subprocess.run(l2t(*words), cwd=REPO, env=environment(), check=True, capture_output=True)
    loop = l2t(
        "bootstrap", "starter", f"model={first}", f"corpus={root}/corpora/train", f"root={root}", "rounds=3",
        f"original=[{lessons}]",
        f"validation={{corpus: {root}/corpora/val, instructions: {root}/instructions/val-questions}}",
        "datagen.set=[drafts_per_image=2]", "promotion.patience=3",
        "train.set=[epochs=null, steps=4, workers=0]", "eval.set=['tasks=[color, caption]', likelihood.limit=8]",
        "collapse={distinct_2: 0, unique: 0, kind_entropy: 0, answer_entropy: 0, spread: 0, length: [0, 99], vc: 0}",
    )  # fmt: skip
    rng = random.Random(1)
    for _ in range(KILLS):
        child = subprocess.Popen(
            loop, cwd=REPO, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            child.wait(timeout=rng.uniform(15, 60))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
    done = subprocess.run(loop, cwd=REPO, env=environment(), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]

    decisions = [
        json.loads((tmp_path / "bootstrap" / "bootstrap" / f"round-{k}.json").read_text()) for k in (1, 2, 3)
    ]
    assert {d["outcome"] for d in decisions} <= {"promoted", "kept_out"}
    for number, decided in enumerate(decisions, 1):
        drafts = read_manifest(f"{root}/instructions/bootstrap-{number}").totals
        assert sum(drafts.counts.values()) == sum(drafts.rows.values()) == 32
        kept = read_manifest(f"{root}/instructions/bootstrap-{number}-kept").totals.rows["rows"]
        assert decided["mixture"]["written_rows"] >= kept > 0
        assert decided["results"].keys() == {"color", "caption"} and decided["gain"] is not None
    assert "round 3" in (tmp_path / "bootstrap" / "bootstrap" / "rounds.html").read_text()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    again = subprocess.run(loop, cwd=REPO, env=environment(), capture_output=True, text=True, timeout=100)
    assert again.returncode == 0 and "round 3: " in again.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")} == before
