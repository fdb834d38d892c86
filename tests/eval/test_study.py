"""Studies: command lines, verdicts on claims, results. The slow one runs one whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cluster.bootstrap.config import PRESETS_DIR as LOOPS
from cluster.bootstrap.config import BootstrapConfig
from cluster.cli import COMMANDS
from cluster.config import load_config
from cluster.errors import UserError
from datagen.config import PRESETS_DIR as FACTORIES
from datagen.config import DatagenConfig
from eval.study import result as results
from eval.study.claims import judge, values, verdict
from eval.study.cli import main
from eval.study.config import STUDIES, Study, filled
from eval.study.run import commands, ended, measuring, runs_of, training
from train.config import PRESETS as TRAININGS
from train.config import TrainConfig

NAMES = sorted(path.stem for path in STUDIES.glob("*.yaml"))


def study(**changes: Any) -> Study:
    given_: dict[str, Any] = {
        "title": "T <b>", "question": "Q?", "design": "D.", "prepare": ("corpus starter --out {root}",),
        "arms": {
            "vit": {"steps": ("train demo-vit 'data=[{corpus: {root}/c}]' output={run} seed={seed}",)},
            "l2t": {"steps": ("train demo-l2t output={run} seed={seed}",), "note": "both"},
        },
        "claims": ({"source": "paper", "says": "better <i>", "arm": "l2t", "against": "vit"},),
    }  # fmt: skip
    return Study.model_validate(given_ | changes)


def summary_of(vit: list[float], l2t: list[float]) -> dict[str, Any]:
    """A comparison of two tasks: the arms' values on the first, and chair twice as high the other way."""
    runs = {f"vit-s{k}": v for k, v in enumerate(vit)} | {f"l2t-s{k}": v for k, v in enumerate(l2t)}
    models = {name: {"value": value, "se": 1.0} for name, value in runs.items()}
    chair = {name: {"value": 100.0 - value, "se": 1.0} for name, value in runs.items()}
    vc = {name: {"value": value / 10} for name, value in runs.items()}
    return {
        "tasks": [
            {"task": "color", "metric": "accuracy", "higher": True, "n": 5, "models": models},
            {"task": "hallucination", "metric": "chair_i", "higher": False, "n": 5, "models": chair},
        ],
        "diagnostics": {"test": {"vc": {"higher": True, "models": vc}}},
        "seeds": {
            "recipes": {arm: [n for n in runs if n.startswith(arm)] for arm in ("vit", "l2t")},
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_shipped_studies_are_whole(name: str) -> None:
    found = load_config(Study, STUDIES, name)
    for words in commands(found, "r"):
        assert words[0] in COMMANDS
        assert not any("{root}" in word or "{run}" in word for word in words)


def test_phrases_stand_for_what_lines_share() -> None:
    arms = {arm: {"steps": ("train demo-l2t {data} {end}",)} for arm in ("vit", "l2t")}
    found = study(
        arms=arms, phrases={"data": "'data=[{corpus: {root}/c}]'", "end": "output={run} seed={seed}"}
    )
    assert training(found, "r", 1) == [
        ["train", "demo-l2t", "data=[{corpus: r/c}]", f"output=r/runs/{arm}-s1", "seed=1"] for arm in arms
    ]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_settings_are_ones_that_the_stages_take(name: str, tmp_path: Path) -> None:
    """Those of a loop go through two more parsers on their way; a quote lost there once split a setting in two."""
    taken = 0
    for words in training(load_config(Study, STUDIES, name), str(tmp_path), 0):
        if words[0] == "bootstrap":
            loop = load_config(BootstrapConfig, LOOPS, words[1], words[2:])
            data = "data=[{corpus: c, instructions: i}]"
            assert load_config(TrainConfig, TRAININGS, loop.train.preset, [data, "output=o", *loop.train.set])
            if loop.datagen is not None:
                assert load_config(
                    DatagenConfig, FACTORIES, loop.datagen.preset, ["corpus=c", "output=o", *loop.datagen.set]
                )
        else:
            assert words[0] == "train" and load_config(TrainConfig, TRAININGS, words[1], words[2:])
        taken += 1
    assert taken


def test_a_run_that_led_to_no_model_is_left_out(tmp_path: Path) -> None:
    """A loop may end before its last round; what others learned is measured all the same."""
    found, root = study(seeds=2), str(tmp_path)
    for name in ("vit-s1", "l2t-s0"):
        (tmp_path / "runs" / name / "model").mkdir(parents=True)
        (tmp_path / "runs" / name / "model" / "config.json").write_text("{}")
    without = ended(found, root)
    assert [one.name for one in without] == ["vit-s0", "l2t-s1"]
    words = measuring(found, root, without)
    assert [w.split("=")[0] for w in words if w.startswith("models.")] == ["models.l2t-s0", "models.vit-s1"]
    assert "baseline=vit-s1" in words
    with pytest.raises(UserError, match="no run of 'vit' led to a model"):
        measuring(found, root, [*without, runs_of(found, root)[2]])


def test_an_arm_without_a_model_says_so(tmp_path: Path) -> None:
    summary = summary_of([50.0, 52.0, 51.0], [60.0, 61.5, 60.5])
    del summary["seeds"]["recipes"]["l2t"]
    found = results.result_of("mine", study(), summary)
    results.write(found, str(tmp_path))
    assert results.Result.model_validate(json.loads((tmp_path / "results.json").read_text())) == found
    table = (tmp_path / "table.md").read_text()
    assert "| color | accuracy | 51.0 ± 2.48 | – |" in table and "– | **cannot be judged**" in table


TINY = """
title: Two recipes
phrases:
  gold: "corpus: {root}/corpora/train, instructions: {root}/instructions/train-questions"
  learn: "epochs=null steps=2 workers=0 threads=1 output={run} seed={seed}"
question: Does it run?
design: As small as can be.
prepare:
  - corpus starter --images 12 --seed 1 --name train --out {root} --gold questions
  - corpus starter --images 6 --seed 2 --split test --name test --out {root} --gold questions
arms:
  vit: {steps: ["train demo-l2t mode=vit 'data=[{{gold}}]' {learn}"]}
  l2t: {steps: ["train demo-l2t 'data=[{{gold}}]' {learn}"]}
  never: {steps: []}
seeds: 1
measure: {set: ["tasks=[color]", likelihood.enabled=false]}
claims: [{source: s, says: better, arm: l2t, against: vit}, {source: s, says: worse, arm: never, against: vit}]
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_is_run_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Real trainings and a real engine; the second time nothing is left to do but the report."""
    pytest.importorskip("vllm")
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [str(tmp_path / "tiny.yaml"), "--root", str(tmp_path / "r"), "--at-once", "2"]
    assert main(command) == 0
    told = capfd.readouterr().out
    assert "never-s0 led to no model and is left out" in told and "| color | accuracy |" in told
    home = tmp_path / "r" / "results" / "tiny"
    before = json.loads((home / "results.json").read_text())
    trained = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    assert len(trained) >= 2 and main([*command, "--report"]) == 0
    after = json.loads((home / "results.json").read_text())
    assert after["rows"] == before["rows"] and after["claims"] == before["claims"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == trained


def test_every_arm_of_a_seed_comes_before_the_next_seed() -> None:
    names = [run.name for run in runs_of(study(seeds=2), "r")]
    assert names == ["vit-s0", "l2t-s0", "vit-s1", "l2t-s1"]


def test_places_are_filled_and_yaml_braces_stay() -> None:
    lines = list(commands(study(seeds=1), "r"))
    assert lines[1] == ["train", "demo-vit", "data=[{corpus: r/c}]", "output=r/runs/vit-s0", "seed=0"]
    assert lines[-1][:2] == ["eval", "run"] and "baseline=vit-s0" in lines[-1]
    assert filled("{root} {a: 1} {x}", root="r") == "r {a: 1} {x}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "nobody"}, "baseline 'nobody'"),
        (
            {"claims": ({"source": "s", "says": "c", "arm": "x", "against": "vit"},)},
            "'x' is not one of the arms",
        ),
        ({"prepare": ("corpus {rooot}",)}, "rooot"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(**changes)


@given(st.floats(-10, 10), st.floats(0, 10))
def test_an_interval_shows_one_thing_at_most(low: float, width: float) -> None:
    high = low + width
    up, down = verdict("up", low, high), verdict("down", low, high)
    mirror = {
        "shows": "the opposite shows",
        "the opposite shows": "shows",
        "cannot be judged": "cannot be judged",
    }
    assert down == mirror[up]
    assert (up == "shows") == (low > 0)
    assert verdict("not_down", low, high) == (
        "shows" if low >= 0 else "does not show" if high < 0 else "cannot be judged"
    )
    assert verdict("same", low, high) == ("does not show" if low > 0 or high < 0 else "cannot be judged")


def test_too_few_seeds_judge_nothing() -> None:
    found = study(seeds=2)
    (judged,) = judge(found, summary_of([50.0, 51.0], [90.0, 91.0]))
    assert judged.verdict == "cannot be judged" and judged.low is None and judged.seeds == 2


def test_a_claim_is_judged_by_welchs_interval_over_seeds() -> None:
    vit, l2t = [50.0, 52.0, 51.0], [60.0, 61.5, 60.5]
    claim = {"source": "paper", "says": "s", "arm": "l2t", "against": "vit", "metric": "color"}
    (judged,) = judge(study(claims=(claim,)), summary_of(vit, l2t))
    exact = stats.ttest_ind(l2t, vit, equal_var=False).confidence_interval(0.95)
    assert judged.verdict == "shows" and judged.mean == pytest.approx(sum(l2t) / 3 - sum(vit) / 3)
    # Ours rounds the degrees of freedom down, so it is a little wider.
    assert judged.low is not None and exact.low - 1.0 < judged.low <= exact.low + 1e-9


def test_overall_is_the_mean_relative_improvement_over_the_baselines_mean() -> None:
    summary = summary_of([40.0, 60.0, 50.0], [55.0, 55.0, 55.0])
    color, chair = 100 * (55 - 50) / 50, 100 * (50 - 45) / 50  # a lower CHAIR is better
    assert values(summary, study(), "l2t", "overall") == pytest.approx([(color + chair) / 2] * 3)
    assert math.isclose(sum(values(summary, study(), "vit", "overall")), 0.0, abs_tol=1e-9)


def test_a_claim_about_nothing_measured_names_what_there_is() -> None:
    claim = {"source": "s", "says": "c", "arm": "l2t", "against": "vit", "metric": "test.vd"}
    with pytest.raises(UserError, match=r"color, hallucination, test\.vc"):
        judge(study(claims=(claim,)), summary_of([1.0] * 3, [2.0] * 3))


def test_results_are_written_and_texts_are_escaped(tmp_path: Path) -> None:
    summary = summary_of([50.0, 52.0, 51.0], [60.0, 61.5, 60.5])
    found = results.result_of("mine", study(), summary)
    uris = results.write(found, str(tmp_path))
    assert [Path(uri).name for uri in uris] == ["results.json", "table.md", "page.html"]
    stored = json.loads((tmp_path / "results.json").read_text())
    assert results.Result.model_validate(stored) == found
    table = (tmp_path / "table.md").read_text()
    assert "| color | accuracy | 51.0 ± 2.48 | 60.7 ± 1.90 |" in table and "**shows**" in table
    page = (tmp_path / "page.html").read_text()
    assert "<b>T" not in page and "better &lt;i&gt;" in page and "default-src &#39;none&#39;" in page


def test_list_and_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in NAMES)
    assert main([NAMES[0], "--root", "r", "--dry-run"]) == 0
    assert "l2t eval run" in capsys.readouterr().out
