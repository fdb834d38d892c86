"""Tasks that weigh options run by the same command as those that write, and join the same comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.datasets import iter_tables
from eval.benchmarks.importing import ImportJob, run_import
from eval.config import EvalConfig
from eval.planning import plan
from eval.report import summarise
from eval.runner import run
from tests.eval.test_optionrows import published


@pytest.fixture
def benchmarks(tmp_path: Path) -> str:
    """MMLU in its published files, imported."""
    (tmp_path / "downloads").mkdir()
    published(tmp_path / "downloads")
    output = str(tmp_path / "benchmarks")
    run_import(ImportJob(benchmark="mmlu", sources=(str(tmp_path / "downloads/mmlu"),), output=output))
    return output


def config(benchmarks: str, output: Path, **more: object) -> EvalConfig:
    values = {
        "models": {"starter": "starter", "base": "starter-base"},
        "tasks": ["mmlu"],
        "benchmarks": benchmarks,
    }
    return EvalConfig.model_validate(
        values | {"output": str(output), "likelihood": {"enabled": False}} | more
    )


def test_the_plan_has_a_step_of_its_own_for_options(benchmarks: str, tmp_path: Path) -> None:
    steps = plan(config(benchmarks, tmp_path / "evals"))
    assert [(step.job.name, step.settings["what"]) for step in steps] == [
        ("starter", "options"),
        ("base", "options"),
    ]
    assert all(step.samples == 4 for step in steps)
    # Teacher forcing of responses needs pictures; without any there is nothing to do.
    forced = plan(config(benchmarks, tmp_path / "evals", likelihood={"enabled": True}))
    assert [step.settings["what"] for step in forced] == ["options", "options"]


@pytest.mark.slow
def test_from_files_to_the_comparison(benchmarks: str, tmp_path: Path) -> None:
    uris = run(config(benchmarks, tmp_path / "evals"))
    rows = [row for table in iter_tables(uris[0]) for row in table.to_pylist()]
    assert {len(json.loads(row["meta"])["loglikelihoods"]) for row in rows} == {4}
    summary = summarise(uris, baseline="base")
    assert [task["task"] for task in summary["tasks"]] == ["mmlu"]
    assert {model["name"] for model in summary["models"]} == {"starter", "base"}
    assert run(config(benchmarks, tmp_path / "evals")) == uris, "nothing is asked again"
