"""Strict loading: every mistake names its place and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cluster.config import Config, config_hash, load_config, parse_override, to_yaml
from cluster.errors import UserError


class Engine(Config):
    model: str = "starter"
    memory: float = 0.5


class Other(Config):
    url: str


class Sampling(Config):
    temperature: float = 0.0
    stop: tuple[str, ...] = ()


class Run(Config):
    images: int = 10
    mode: Literal["vit", "l2t"] = "l2t"
    sampling: Sampling = Sampling()
    roles: dict[str, Engine] = Field(default_factory=lambda: {"generator": Engine()})
    engine: Engine | Other | None = None
    stages: list[Sampling] = Field(default_factory=list)
    name: str | None = None


def load(presets: Path, preset: str | None = None, *overrides: str, **defaults: Any) -> Run:
    return load_config(Run, presets, preset, overrides, defaults)


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(
        "x-hot: &hot {temperature: 0.7}\nimages: 4\nsampling:\n  <<: *hot\n  stop: ['.']\nstages: [*hot, "
        "*hot]\n"
    )
    (tmp_path / "big.yaml").write_text("images: 1000\n")
    return tmp_path


def test_layers(presets: Path) -> None:
    run = load(presets, "small", "sampling.temperature=1e-1", "roles.verifier.model=big", images=7, name="d")
    assert run.images == 4 and run.name == "d"
    assert run.sampling == Sampling(temperature=0.1, stop=(".",))
    assert run.stages == [Sampling(temperature=0.7)] * 2
    assert run.roles["verifier"].model == "big"
    assert load(presets, str(presets / "big.yaml")).images == 1000
    assert load(presets) == Run()
    assert load(presets, None, "images=1", "images=2").images == 2
    assert load(presets, None, "engine.url=http://localhost").engine == Other(url="http://localhost")


def test_stored_config_is_the_same_run(presets: Path, tmp_path: Path) -> None:
    run = load(presets, "small")
    stored = tmp_path / "stored.yaml"
    stored.write_text(to_yaml(run))
    again = load(presets, str(stored))
    assert again == run and config_hash(again) == config_hash(run) != config_hash(Run())
    assert len(config_hash(run)) == 16


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["imags=3"], r"command line: unknown key 'imags'; did you mean 'images'\? Keys here: .*roles"),
        (
            ["sampling.temprature=1"],
            r"'sampling.temprature'; did you mean 'temperature'\?.*Keys of 'sampling'",
        ),
        (["roles.generator.modle=x"], r"'roles.generator.modle'; did you mean 'model'"),
        (["stages=[{tmperature: 1}]"], r"'stages.0.tmperature'; did you mean 'temperature'"),
        (["engine.modl=x"], r"'engine.modl'; did you mean 'model'"),
        (["zzz=1"], r"unknown key 'zzz'\. Keys"),
        (["images=many"], r"command line: images: .*integer.*'many'"),
        (["mode=l3t"], r"command line: mode: .*'vit' or 'l2t'.*'l3t'"),
        (["sampling=3"], r"command line: sampling: .*\(got 3\)"),
        (["images"], r"'images' is not an override"),
        (["a..b=1"], r"is not an override"),
        (["images=[1"], r"value of images is not readable as YAML"),
    ],
)
def test_mistakes_on_the_command_line(presets: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(presets, "big", *overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sampling: {temprature: 1}",
            r"bad.yaml: unknown key 'sampling.temprature'; did you mean 'temperature'",
        ),
        ("images: [1", r"bad.yaml: not readable as YAML"),
        ("- a\n- b", r"bad.yaml: expected keys and values at the top, found a list"),
        ("images: ten", r"bad.yaml: images: .*'ten'"),
        ("name: !!python/object/apply:os.getcwd []", r"not readable as YAML"),
    ],
)
def test_mistakes_in_a_preset(presets: Path, text: str, message: str) -> None:
    (presets / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load(presets, "bad")


def test_unknown_presets(presets: Path) -> None:
    with pytest.raises(UserError, match=r"unknown preset 'smal'; did you mean 'small'\?.*big, small"):
        load(presets, "smal")
    with pytest.raises(UserError, match=r"no/such\.yaml: no such preset file"):
        load(presets, "no/such.yaml")
    with pytest.raises(UserError, match="There are no presets"):
        load(presets / "none", "small")


def test_a_missing_key_is_named(presets: Path) -> None:
    with pytest.raises(UserError, match=r"url: this key is required"):
        load_config(Other, presets, None)


keys = st.lists(st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), min_size=1, max_size=4)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(keys, values)
def test_any_value_survives_an_override(path: list[str], value: Any) -> None:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n")
    parsed: Any = parse_override(".".join(path) + "=" + text)
    for key in path:
        assert list(parsed) == [key]
        parsed = parsed[key]
    # A string that looks like 1e3 is meant as a number on a command line; nothing else changes.
    assert parsed == value or (isinstance(value, str) and parsed == float(value))


@given(st.text(max_size=30))
def test_no_override_ends_in_a_traceback(text: str) -> None:
    try:
        load_config(Run, Path("none"), None, [text])
    except UserError as error:
        assert "command line" in str(error)
