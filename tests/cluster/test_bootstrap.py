"""The loop's states, with stages that only publish what real ones would; `test_bootstrap_run` runs the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster import storage
from cluster.bootstrap import cli, loop
from cluster.bootstrap.config import PRESETS_DIR, BootstrapConfig, Promotion
from cluster.bootstrap.decision import Gain, Indicator, crossings, promotion
from cluster.bootstrap.loop import decisions_of, loop_at, read_decision, run_rounds
from cluster.bootstrap.round import Round
from cluster.config import load_config
from cluster.datasets import commit_shard, dataset_exists, freeze, plan_dataset
from cluster.errors import UserError
from cluster.stages import STOPPED
from cluster.storage import join

LIKE_BEFORE = {
    "distinct_2": 0.5, "unique": 0.9, "kind_entropy": 3.0, "answer_entropy": 5.0, "spread": 0.9,
    "instruction_words": 8.0,
}  # fmt: skip


def publish(uri: str, rows: int) -> None:
    if dataset_exists(uri):
        return
    plan_dataset(uri, kind="instructions", name="x", shards=1, config={})
    commit_shard(uri, 0, {"rows": pa.table({"id": [str(k) for k in range(rows)]})})
    freeze(uri)


class Stages:
    """Stands for the processes: publishes what a stage would, or fails where the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.written = 10
        self.indicators = dict(LIKE_BEFORE)
        self.gains = [5.0, 5.0, 5.0, 5.0]
        self.vc = 1.0
        self.kill_at: str | None = None
        self.diverge = False
        self.trial = ""

    def __call__(self, module: str, arguments: Sequence[str], **_: Any) -> None:
        name = arguments[0] if module in ("cluster", "eval") else module
        self.calls.append((name, list(arguments)))
        if name == self.kill_at:
            raise KeyboardInterrupt
        getattr(self, f"do_{name}")(arguments)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def do_datagen(self, arguments: Sequence[str]) -> None:
        if self.trial:
            storage.write_bytes(join(settings(arguments)["output"], STOPPED), self.trial.encode())
            raise UserError("stage failed")
        publish(settings(arguments)["output"], self.written)

    def do_curate(self, arguments: Sequence[str]) -> None:
        publish(arguments[2].removeprefix("--out="), self.written)

    def do_diversity(self, arguments: Sequence[str]) -> None:
        found = {"set": self.indicators, "reference": LIKE_BEFORE}
        storage.write_bytes(arguments[2].removeprefix("--json="), json.dumps(found).encode())

    def do_train(self, arguments: Sequence[str]) -> None:
        run = settings(arguments)["output"]
        if self.diverge:
            storage.write_bytes(join(run, STOPPED), b"the loss of step 7 is not finite")
            raise UserError("stage failed")
        storage.write_bytes(join(run, "done.json"), b"{}")

    def do_run(self, arguments: Sequence[str]) -> None:
        given = settings(arguments[1:])
        models = [key.removeprefix("models.") for key in given if key.startswith("models.")]
        number = int(models[-1].removeprefix("round"))
        gain = {"value": self.gains[number - 1], "se": 1.0, "p": 0.01}
        summary = {
            "mean": {models[-1]: {"relative": gain}},
            "tasks": [{"task": "color", "models": {m: {"value": 50.0, "se": 1.0} for m in models}}],
            "diagnostics": {
                "test": {
                    "vc": {"models": {m: {"value": self.vc if m == models[-1] else 1.0} for m in models}}
                }
            },
        }
        storage.write_bytes(join(given["output"], "summary.json"), json.dumps(summary).encode())


def settings(arguments: Sequence[str]) -> dict[str, Any]:
    return {key: yaml.safe_load(value) for key, _, value in (a.partition("=") for a in arguments[1:])}


Configure = Callable[..., BootstrapConfig]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages()
    monkeypatch.setattr(loop, "run_stage", made)
    return made


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    root = str(tmp_path)
    publish(join(root, "old"), 40)

    def make(*more: str) -> BootstrapConfig:
        given = [
            f"model={root}/l2t",
            "corpus=c",
            f"original=[{{instructions: {root}/old}}]",
            f"root={root}",
            "validation={corpus: vc, instructions: vi}",
        ]
        return load_config(BootstrapConfig, PRESETS_DIR, "starter", [*given, *more])

    return make


def quiet(_: str) -> None:
    """No progress lines."""


def test_a_round_is_generate_screen_train_measure(configure: Configure, stages: Stages) -> None:
    config = configure()
    (decided,) = run_rounds(config, quiet)
    assert stages.names() == ["datagen", "curate", "diversity", "train", "run"]
    called = dict(stages.calls)
    assert settings(called["datagen"])["engines.generator.model"] == f"{config.model}/model"
    assert settings(called["datagen"])["near_duplicate.known"] == [f"{config.root}/old"]
    assert called["curate"][-2:] == ["--decontaminate", "vi"]
    train = settings(called["train"])
    assert train["model"] == f"{config.model}/model"
    assert [d["instructions"] for d in train["data"]] == [
        f"{config.root}/old", f"{config.root}/instructions/bootstrap-1-kept",
    ]  # fmt: skip
    assert decided.outcome == "promoted" and decided.gain is not None and decided.gain.value == 5.0
    assert decided.results["color"]["round1"]["value"] == 50.0


def test_a_promoted_model_writes_the_next_lesson_and_its_pairs_stay(
    configure: Configure, stages: Stages
) -> None:
    config = configure("rounds=2")
    run_rounds(config, quiet)
    second = [arguments for name, arguments in stages.calls if name == "datagen"][1]
    assert settings(second)["engines.generator.model"] == f"{config.root}/checkpoints/bootstrap-1/model"
    trained = settings([arguments for name, arguments in stages.calls if name == "train"][1])
    assert [d["instructions"].rsplit("/", 1)[1] for d in trained["data"]] == [
        "old", "bootstrap-1-kept", "bootstrap-2-kept",
    ]  # fmt: skip
    measured = settings([arguments for name, arguments in stages.calls if name == "run"][1][1:])
    assert [k for k in measured if k.startswith("models.")] == [
        "models.round0",
        "models.round1",
        "models.round2",
    ]
    assert measured["baseline"] == "round1"


def test_a_round_that_is_no_better_is_kept_out(configure: Configure, stages: Stages) -> None:
    stages.gains = [5.0, 1.0, 5.0]  # its lower end is below 0
    decisions = run_rounds(configure("rounds=3", "promotion.patience=1"), quiet)
    assert [d.outcome for d in decisions] == ["promoted", "kept_out", "promoted"]
    third = settings([arguments for name, arguments in stages.calls if name == "train"][2])
    assert [d["instructions"].rsplit("/", 1)[1] for d in third["data"]] == [
        "old", "bootstrap-1-kept", "bootstrap-3-kept",
    ]  # fmt: skip
    assert third["model"].endswith("bootstrap-1/model")


def test_patience_ends_the_loop(configure: Configure, stages: Stages) -> None:
    stages.gains = [0.0, 0.0, 0.0]
    assert len(run_rounds(configure("rounds=3"), quiet)) == 1
    assert len(run_rounds(configure("rounds=3", "promotion.patience=5"), quiet)) == 3


@pytest.mark.parametrize("stage", ["datagen", "curate", "diversity", "train", "run"])
def test_killed_at_any_stage_it_continues_there(configure: Configure, stages: Stages, stage: str) -> None:
    config = configure("rounds=2")
    stages.kill_at = stage
    with pytest.raises(KeyboardInterrupt):
        run_rounds(config, quiet)
    assert read_decision(config, 1) is None
    stages.kill_at = None
    assert [d.outcome for d in run_rounds(config, quiet)] == ["promoted", "promoted"]


def test_a_finished_round_is_never_done_again(configure: Configure, stages: Stages) -> None:
    run_rounds(configure(), quiet)
    before = len(stages.calls)
    run_rounds(configure(), quiet)
    assert len(stages.calls) == before
    run_rounds(configure("rounds=2"), quiet)
    assert stages.names()[before:] == ["datagen", "curate", "diversity", "train", "run"]


def test_poor_texts_end_the_loop_before_training(configure: Configure, stages: Stages) -> None:
    stages.indicators["distinct_2"] = 0.1
    config = configure("rounds=3")
    (decided,) = run_rounds(config, quiet)
    assert decided.outcome == "collapsed" and "distinct_2 is 0.1, 0.20 of 0.5" in decided.reason
    assert "train" not in stages.names()
    assert run_rounds(config, quiet) == [decided]


def test_blindness_ends_the_loop(configure: Configure, stages: Stages) -> None:
    stages.vc = 0.5
    (decided,) = run_rounds(configure("rounds=3"), quiet)
    assert decided.outcome == "collapsed" and "vc is 0.5" in decided.reason


def test_nothing_written_is_a_state_of_its_own(configure: Configure, stages: Stages) -> None:
    stages.written = 0
    (decided,) = run_rounds(configure("rounds=3"), quiet)
    assert decided.outcome == "nothing_written" and "l2t view" in decided.reason


def test_diverging_training_is_a_state_of_its_own(configure: Configure, stages: Stages) -> None:
    stages.diverge = True
    (decided,) = run_rounds(configure("rounds=3"), quiet)
    assert decided.outcome == "diverged" and "step 7" in decided.reason


def test_a_generator_that_cannot_follow_its_template_ends_the_loop(
    configure: Configure, stages: Stages
) -> None:
    stages.trial = "none of the first 64 drafts holds an instruction"
    (decided,) = run_rounds(configure("rounds=3"), quiet)
    assert (decided.outcome, decided.reason) == ("nothing_written", stages.trial)
    assert stages.names() == ["datagen"] and decided.mixture.written_rows == 0


def test_rounds_read_rows_in_orders_of_their_own(configure: Configure, stages: Stages) -> None:
    run_rounds(configure("rounds=2", "seed=3"), quiet)
    seeds = {
        name: [settings(a)["seed"] for n, a in stages.calls if n == name] for name in ("datagen", "train")
    }
    assert seeds == {"datagen": [3, 3], "train": [1003, 2003]}, "drafts are told apart by their round"


def test_settings_can_be_put_right_until_a_round_is_decided(configure: Configure, stages: Stages) -> None:
    stages.kill_at = "train"
    with pytest.raises(KeyboardInterrupt):
        run_rounds(configure("train.set=[step=120]"), quiet)
    stages.kill_at = None
    run_rounds(configure("train.set=[steps=120]"), quiet)
    with pytest.raises(UserError, match="differs in train"):
        run_rounds(configure("train.set=[steps=121]", "rounds=2"), quiet)


def test_a_loop_that_ran_longer_than_asked_is_over(configure: Configure, stages: Stages) -> None:
    decisions = run_rounds(configure("rounds=2"), quiet)
    assert loop.following(configure("rounds=1"), decisions) is None


def test_another_loop_of_the_same_name_is_refused(configure: Configure, stages: Stages) -> None:
    run_rounds(configure(), quiet)
    with pytest.raises(UserError, match="differs in mix"):
        run_rounds(configure("mix.weight=2"), quiet)


def test_a_loop_is_found_by_where_it_lies(
    configure: Configure, stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()
    run_rounds(config)
    assert loop_at(config.home) == config and loop_at(f"{config.home}/") == config
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "bootstrap").rename(moved / "bootstrap")
    assert loop_at(f"{moved}/bootstrap/{config.name}") == config.model_copy(update={"root": str(moved)})
    for folder, given_as in (
        (".", f"bootstrap/{config.name}"), ("bootstrap", config.name), (f"bootstrap/{config.name}", "."),
        ("bootstrap", f"../bootstrap//./{config.name}/"),
    ):  # fmt: skip
        monkeypatch.chdir(moved / folder)
        assert len(list(decisions_of(loop_at(given_as)))) == config.rounds


def test_what_is_no_loop_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "bootstrap" / "loop"
    home.mkdir(parents=True)
    with pytest.raises(UserError, match="holds no loop"):
        loop_at(str(home))
    for text, reason in (
        ("rounds: 0", r"config.yaml: not the config.*\(model: Field"),
        ("a: [", "not the config"),
    ):
        (home / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=reason):
            loop_at(str(home))
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(UserError, match="<root>/bootstrap/<name>"):
        loop_at(str(tmp_path))


@given(
    written=st.integers(1, 10_000),
    original=st.integers(1, 10_000),
    most=st.floats(0.05, 0.95),
    ask=st.floats(0.1, 5),
)
def test_the_share_of_own_writing_is_bounded(written: int, original: int, most: float, ask: float) -> None:
    state = Round(config=bounded(most, ask), number=1)
    rows = {"old": original, "r/instructions/bootstrap-1": written}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.bootstrap.round.rows_of", rows.__getitem__)
        patch.setattr("cluster.bootstrap.round.dataset_exists", lambda uri: True)
        patch.setattr(Round, "_drafted", lambda self: {})
        found = state.mixture()
    assert found.self_share <= most + 1e-9
    assert found.self_weight == ask or found.self_share == pytest.approx(most)


def bounded(most: float, weight: float) -> BootstrapConfig:
    return BootstrapConfig.model_validate(
        {
            "model": "m", "corpus": "c", "original": [{"instructions": "old"}], "root": "r", "screen": None,
            "datagen": {"preset": "x"}, "train": {"preset": "y"},
            "mix": {"weight": weight, "max_self_share": most},
        }
    )  # fmt: skip


def test_control_without_writing_trains_on_the_original_alone(configure: Configure, stages: Stages) -> None:
    (decided,) = run_rounds(configure("datagen=null"), quiet)
    assert stages.names() == ["train", "run"]
    assert len(settings(stages.calls[0][1])["data"]) == 1
    assert decided.mixture.self_share == 0.0


def test_another_model_writes_in_a_control(configure: Configure, stages: Stages) -> None:
    run_rounds(configure("generator=runs/vit", "rounds=2"), quiet)
    writers = [settings(a)["engines.generator.model"] for name, a in stages.calls if name == "datagen"]
    assert writers == ["runs/vit/model"] * 2


def test_stages_become_jobs_of_a_cluster(configure: Configure, stages: Stages) -> None:
    called: list[list[str]] = []
    stages.do_submit = called.append  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="not a published"):
        run_rounds(configure("address=http://head:8265"), quiet)
    assert called[0][:4] == ["submit", "--address=http://head:8265", "datagen", "starter-bootstrap"]
    assert called[1][2] == "curate"


@given(st.floats(-50, 50), st.floats(0, 20), st.floats(-5, 5))
def test_promotion_goes_by_the_lower_end(value: float, se: float, least: float) -> None:
    gain = Gain(value=value, se=se, low=value - 1.64 * se)
    outcome, reason = promotion(gain, Promotion(min_gain=least))
    assert (outcome == "promoted") == (gain.low > least)
    assert f"{value:+.1f}" in reason


def test_indicators_have_floors_and_some_a_ceiling() -> None:
    long = Indicator(name="length", value=30, reference=10, floor=0.4, ceiling=2.5)
    poor = Indicator(name="vc", value=0.5, reference=1, floor=0.7)
    fine = Indicator(name="spread", value=9, reference=1, floor=0.5)
    assert crossings([long, poor, fine]) == (
        "length is 30, 3.00 of 10 (allowed from 0.4 to 2.5); vc is 0.5, 0.50 of 1 (allowed from 0.7)"
    )


def test_dry_run_and_status_start_nothing(
    configure: Configure, stages: Stages, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_rounds(configure(), quiet)
    before, root = len(stages.calls), str(tmp_path)
    line = [
        "starter", f"model={root}/l2t", "corpus=c", f"original=[{{instructions: {root}/old}}]", f"root={root}",
        "validation={corpus: vc, instructions: vi}", "rounds=2",
    ]  # fmt: skip
    assert cli.main([*line, "--dry-run"]) == 0
    assert "round 2: python -m datagen starter-bootstrap" in capsys.readouterr().out
    assert cli.main([*line, "--status"]) == 0
    told = capsys.readouterr().out
    assert "round 1: promoted; 10 self-written rows (20% of an epoch)" in told
    assert "round 2: not decided; last finished stage: begun" in told and "incumbent: round 1" in told
    assert len(stages.calls) == before
