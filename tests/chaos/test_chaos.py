"""Scenarios as tests: a brief one by default, all others with the slow tests."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.run import Result, verdict
from tests.chaos.scenarios import ALL, HICCUPS, Event, Scenario
from tests.chaos.soak import fit
from tests.chaos.stage import Books

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Undisturbed runs are shared by the scenarios of a session."""
    return tmp_path_factory.mktemp("chaos")


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(s, id=s.name, marks=() if s.quick else pytest.mark.slow) for s in ALL],
)
def test_scenario(scenario: Scenario, out: Path) -> None:
    # In a process of its own: Ray reads its settings once, and a cluster of several nodes needs others than ours.
    command = [sys.executable, "-m", "tests.chaos", "run", "--scenario", scenario.name, "--out", str(out)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    if "left out" in done.stdout:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert scenario.name in (out / "report.md").read_text()


def test_names_are_told_apart() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL)


HELD = Result("story", 0, "datagen", "moto", injected={"reset": 3}, reader={"wrong": [], "versions": 1})
STORY = Scenario(name="story", storage="moto", faults=HICCUPS, redone_at_most=0.1)
FULL = replace(STORY, events=(Event(what="disk_full"),), reruns=1)


def test_a_verdict_where_all_held() -> None:
    assert verdict(STORY, HELD) == []
    assert verdict(FULL, replace(HELD, falls=["exit 1: the disk is full"])) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"not_fired": 2}, "2 of the story's events never happened"),
        ({"injected": {"node": 1}}, "no fault of the storage was injected"),
        ({"falls": ["exit 1: no"]}, "the command fell 1 times without having been killed: exit 1: no"),
        ({"reader": {"wrong": ["half a shard"]}}, "a reader saw: half a shard"),
        ({"reader": {"wrong": [], "versions": 2}}, "readers saw 2 different data sets"),
        ({"books": Books(redone=0.2)}, "20% of the work redone, at most 10% may be"),
        ({"books": Books(lost=1)}, "1 rows lost"),
        ({"books": Books(doubled=2)}, "2 rows doubled"),
        ({"books": Books(different=3)}, "3 rows different"),
        ({"books": Books(broken=["the counts do not balance"])}, "the counts do not balance"),
    ],
)
def test_a_verdict_says_what_did_not_hold(changed: dict[str, Any], said: str) -> None:
    assert verdict(STORY, replace(HELD, **changed)) == [said]


def test_a_full_disk_may_end_a_command_once_and_in_a_sentence() -> None:
    assert verdict(FULL, replace(HELD, falls=["exit 1: full", "exit 1: full"]))
    assert verdict(FULL, replace(HELD, falls=["exit 1: Traceback …"])) == [
        "a command ended in a traceback instead of a sentence"
    ]


def test_a_line_is_fitted() -> None:
    slope, error = fit([0, 1, 2, 3], [1.0, 3.0, 5.0, 7.0])
    assert slope == pytest.approx(2) and error == pytest.approx(0)
