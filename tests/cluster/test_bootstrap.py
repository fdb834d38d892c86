"""Bootstrap rounds: each learns from the model before and from everything written so far."""

import yaml

from cluster import bootstrap
from cluster.bootstrap import PRESETS_DIR, BootstrapConfig, generate_arguments, train_arguments
from cluster.config import load_config


def config(**changes):
    given = [f"{key}={value}" for key, value in changes.items()]
    return load_config(
        BootstrapConfig,
        PRESETS_DIR,
        "starter",
        ["model=runs/l2t", "corpus=c", "instructions=[i0]", "root=r", *given],
    )


def settings(arguments):
    return {key: yaml.safe_load(value) for key, _, value in (a.partition("=") for a in arguments[1:])}


def test_round_one_starts_from_the_given_model():
    first = config()
    assert settings(generate_arguments(first, 1))["engines.generator.model"] == "runs/l2t/model"
    train = settings(train_arguments(first, 1))
    assert train["model"] == "runs/l2t/model" and train["output"] == "r/checkpoints/bootstrap-1"
    assert [d["instructions"] for d in train["data"]] == ["i0", "r/instructions/bootstrap-1"]


def test_round_two_builds_on_round_one():
    second = config(rounds=2, self_weight=0.5)
    assert (
        settings(generate_arguments(second, 2))["engines.generator.model"]
        == "r/checkpoints/bootstrap-1/model"
    )
    data = settings(train_arguments(second, 2))["data"]
    assert [d["instructions"] for d in data] == [
        "i0",
        "r/instructions/bootstrap-1",
        "r/instructions/bootstrap-2",
    ]
    assert [d.get("weight") for d in data] == [None, 0.5, 0.5]


def test_dry_run_starts_nothing(capsys, monkeypatch):
    monkeypatch.setattr(
        bootstrap, "run_stage", lambda *a, **k: (_ for _ in ()).throw(AssertionError("started"))
    )
    assert bootstrap.main(["starter", "model=m", "corpus=c", "instructions=[i]", "root=r", "--dry-run"]) == 0
    assert "round 1: python -m datagen starter-bootstrap" in capsys.readouterr().out
