"""The whole evaluation on a real vLLM engine: results, resume after a kill, reuse, and clear refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.config import load_config
from cluster.datasets import iter_tables, read_manifest
from cluster.errors import UserError
from eval.cli import main
from eval.config import PRESETS, EvalConfig, GoldSet
from eval.runner import plan
from eval.samples import load, select
from eval.tasks import TASKS

REPO = Path(__file__).parents[2]


def settings(gold: GoldSet, output: Path, *more: str) -> list[str]:
    return [
        "starter", f"corpus={gold.corpus}", f"instructions={gold.instructions}", f"output={output}", "chunk=20",
        "engine.max_num_seqs=16", "likelihood.limit=26", *more,
    ]  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "eval", *arguments]


def environment() -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "OMP_NUM_THREADS": "1"}


def rows(uri: str) -> list[dict]:  # type: ignore[type-arg]
    return [row for table in iter_tables(uri) for row in table.to_pylist()]


def test_selection_is_stable_nested_and_mixed(gold: GoldSet) -> None:
    tasks = list(TASKS.values())

    def picks(limit: int | None, chunk: int) -> set[tuple[str, str]]:
        return {p for c in select(gold, tasks, limit, chunk) for p in c.picks}

    assert picks(2, 5) == picks(2, 50) < picks(4, 7) < picks(None, 9)
    chunks = select(gold, tasks, None, 20)
    assert [c.index for c in chunks] == list(range(len(chunks)))
    assert any(len({task for task, _ in c.picks}) > 3 for c in chunks)
    images = [item.sample.image_id for item in load(gold, chunks[0])]
    assert images == sorted(images)


def test_a_killed_run_continues_and_recomputes_nothing(
    gold: GoldSet, make_model: Callable[[int], str], tmp_path: Path
) -> None:
    arguments = settings(gold, tmp_path / "evals", f"models.a={make_model(0)}", f"models.b={make_model(1)}")
    process = subprocess.Popen(
        command("run", *arguments), cwd=REPO, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (done := list(tmp_path.glob("evals/a-*/commits/*.json"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in done}

    again = subprocess.run(
        command("run", *arguments), cwd=REPO, env=environment(), capture_output=True, text=True, timeout=550
    )
    assert again.returncode == 0, again.stderr[-4000:]
    assert all(path.read_bytes() == data for path, data in before.items())
    assert "teacher forcing" in again.stdout and "mean relative" in again.stdout
    summary = json.loads((tmp_path / "evals/summary.json").read_text())
    assert [m["name"] for m in summary["models"]] == ["a", "b"]
    config = load_config(EvalConfig, PRESETS, arguments[0], arguments[1:])
    steps = plan(config)
    assert all(not step.pending for step in steps)
    answers = rows(steps[0].uri)
    assert len({r["sample_id"] for r in answers}) == len(answers) == steps[0].samples
    assert all(r["finish_reason"] in ("stop", "length") and r["state"] == "accepted" for r in answers)
    assert {r["task"] for r in answers} <= set(TASKS)
    assert summary["diagnostics"]["test"]["vc"]["models"]["a"]["n"] == steps[2].samples

    _reuses_and_renames(config, answers, make_model, tmp_path)


def _reuses_and_renames(
    config: EvalConfig,
    answers: list[dict],
    make_model: Callable[[int], str],
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    """A smaller suite of the same weights (in another folder) takes its generations from the first run."""
    elsewhere = tmp_path / "copy"
    shutil.copytree(config.models["a"], elsewhere)
    small = [
        *settings(GoldSet(corpus=config.corpus, instructions=config.instructions), tmp_path / "evals"),
        f"models.a={elsewhere}", "tasks=[color, existence]", "likelihood.enabled=false",
    ]  # fmt: skip
    done = subprocess.run(
        command("run", *small), cwd=REPO, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    [step] = plan(load_config(EvalConfig, PRESETS, small[0], small[1:]))
    assert read_manifest(step.uri).totals.tokens == {"prompt": 0, "cached": 0, "completion": 0}
    old = {r["sample_id"]: r["prediction"] for r in answers}
    assert all(old[r["sample_id"]] == r["prediction"] for r in rows(step.uri))
    changed = plan(load_config(EvalConfig, PRESETS, small[0], [*small[1:], f"models.a={make_model(2)}"]))
    assert changed[0].uri != step.uri and changed[0].pending


def test_dry_run_starts_nothing(
    gold: GoldSet, make_model: Callable[[int], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *settings(gold, tmp_path / "e", f"models.a={make_model(0)}"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "max_num_seqs: 16" in shown and "samples in" in shown and not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tasks=[colour]", "task 'colour' is unknown"),
        ("suite=start", "suite 'start' is unknown"),
        ("baseline=vit", "baseline 'vit' is not one of the models"),
        ("chunks=3", "did you mean 'chunk'"),
        ("corpus=/nowhere", "/nowhere is not a published dataset"),
        ("models.a=/nowhere", "there is no model folder"),
        ("limit=0", "greater than or equal to 1"),
    ],
)
def test_bad_input_ends_in_one_message(
    change: str, message: str, gold: GoldSet, make_model: Callable[[int], str], tmp_path: Path
) -> None:
    arguments = settings(gold, tmp_path / "e", f"models.a={make_model(0)}", change)
    with pytest.raises(UserError, match=message):
        main(["run", *arguments, "--dry-run"])


def test_gold_sets_that_do_not_belong_together(gold: GoldSet) -> None:
    with pytest.raises(UserError, match="is needed here"):
        select(GoldSet(corpus=gold.instructions, instructions=gold.corpus), [TASKS["color"]], None, 10)


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys; from eval.cli import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True, stdout=subprocess.DEVNULL)
