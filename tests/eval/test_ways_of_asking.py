"""Tasks that weigh options, and those that search with beams, run by the same command as those that write greedily."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.datasets import iter_tables
from eval.beam import Beams
from eval.benchmarks.importing import ImportJob, run_import
from eval.config import EvalConfig, GoldSet
from eval.generate import Job
from eval.planning import plan
from eval.report import summarise
from eval.runner import run
from eval.tasks import TASKS
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


def test_beams_are_a_data_set_of_their_own(
    gold: GoldSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = replace(TASKS["caption"], name="caption_beam", beams=3)
    monkeypatch.setitem(TASKS, "caption_beam", searched)
    values = {
        "models": {"starter": "starter"}, "tasks": ["caption", "caption_beam"], "corpus": gold.corpus, "limit": 4,
        "instructions": gold.instructions, "output": str(tmp_path), "likelihood": {"enabled": False},
    }  # fmt: skip
    greedy, beams = plan(EvalConfig.model_validate(values))
    assert [list(step.settings["tasks"]) for step in (greedy, beams)] == [["caption"], ["caption_beam"]]
    assert isinstance(beams.job, Job) and isinstance(greedy.job, Job)
    assert (greedy.job.beams, beams.job.beams) == (None, Beams(width=3))
    assert greedy.job.text != beams.job.text, "no greedy answer is taken for one of beams"
