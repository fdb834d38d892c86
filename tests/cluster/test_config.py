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


def test_off_is_a_word_and_true_is_not(presets: Path) -> None:
    class Switches(Config):
        method: Literal["off", "no", "likelihood"] = "likelihood"
        words: tuple[str, ...] = ()
        on: bool = True

    given_ = ("method=off", "words=[yes, no, 'true']", "on=off")
    assert load_config(Switches, presets, None, given_) == Switches(
        method="off", words=("yes", "no", "true"), on=False
    )
    assert not load_config(Switches, presets, None, ["on=false"]).on
    with pytest.raises(UserError, match="words"):
        load_config(Switches, presets, None, ["words=[true]"])


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


@pytest.fixture
def layered(presets: Path) -> Path:
    """`leaf` extends `middle`, which extends `small`."""
    (presets / "middle.yaml").write_text(
        "extends: small\nsampling: {stop: ['!', '?']}\nroles: {judge: {model: m}}\nname: middle\n"
    )
    (presets / "leaf.yaml").write_text("extends: middle.yaml\nroles: {judge: {memory: 0.9}}\nname: null\n")
    return presets


def test_a_preset_extends_others(layered: Path, tmp_path: Path) -> None:
    run = load(layered, "leaf", images=1)
    assert run.images == 4 and run.name is None and run.stages == [Sampling(temperature=0.7)] * 2
    assert run.sampling == Sampling(temperature=0.7, stop=("!", "?")), "groups merge, lists are replaced"
    assert run.roles == {"judge": Engine(model="m", memory=0.9)}
    assert load(layered, "leaf", "roles.judge.model=x").roles == {"judge": Engine(model="x", memory=0.9)}
    assert load(layered, "middle").name == "middle", "a base is not changed by what extends it"
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.yaml").write_text("extends: leaf\nname: mine\n")
    (own / "other.yaml").write_text("extends: ../own/mine.yaml\nimages: 5\n")
    assert load(layered, str(own / "other.yaml")) == run.model_copy(update={"name": "mine", "images": 5})
    (own / "leaf.yaml").write_text("images: 9\n")
    assert load(layered, str(own / "other.yaml")).roles == Run().roles, "a neighbour comes before a preset"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: midle", r"leaf.yaml: extends: unknown preset 'midle'; did you mean 'middle'"),
        ("extends: no/such.yaml", r"leaf.yaml: extends: no/such.yaml: no such preset file"),
        ("extends: [small, big]", r"leaf.yaml: extends: expected the name of one preset"),
        ("extends: leaf", r"leaf.yaml: extends: .*circle: leaf.yaml -> leaf.yaml"),
        ("extends: back", r"back.yaml: extends: .*circle: leaf.yaml -> back.yaml -> leaf.yaml"),
        ("extends: wrong_key", r"wrong_key.yaml: unknown key 'sampling.temprature'"),
        ("extends: wrong_value\nsampling: {stop: [a]}", r"wrong_value.yaml: sampling.temperature: .*'hot'"),
        ("extends: wrong_value\nsampling: {temperature: cold}", r"leaf.yaml: sampling.temperature: .*'cold'"),
        ("extends: small\nstages: {2: {temperature: 1}}", r"leaf.yaml: stages.2: .*last item is stages.1"),
    ],
)
def test_mistakes_in_layers(layered: Path, text: str, message: str) -> None:
    (layered / "leaf.yaml").write_text(text)
    (layered / "back.yaml").write_text("extends: leaf\n")
    (layered / "wrong_key.yaml").write_text("sampling: {temprature: 1}")
    (layered / "wrong_value.yaml").write_text("sampling: {temperature: hot}")
    with pytest.raises(UserError, match=message):
        load(layered, "leaf")


def test_items_of_a_list(presets: Path) -> None:
    run = load(presets, "small", "stages.1.temperature=0.1", "sampling.stop.0='?'")
    # Both stages are the same YAML alias; only the one that was named changes.
    assert run.stages == [Sampling(temperature=0.7), Sampling(temperature=0.1)]
    assert run.sampling.stop == ("?",)
    (presets / "next.yaml").write_text("extends: small\nstages: {0: {stop: [x]}}\n")
    assert load(presets, "next").stages == [Sampling(temperature=0.7, stop=("x",)), Sampling(temperature=0.7)]
    assert load(presets, "small", "stages=[{}]", "stages.0.temperature=2").stages == [Sampling(temperature=2)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.2.temperature=1"], r"command line: stages.2: there is no such item in stages; .*stages.1"),
        (["stages.-1.temperature=1"], r"command line: stages.-1: stages is a list"),
        (
            ["stages.first.temperature=1"],
            r"command line: stages.first: stages is a list; write stages.<number>",
        ),
        (["stages=[]", "stages.0.temperature=1"], r"stages.0: there is no such item in stages; it is empty"),
        (["stages.0.temprature=1"], r"unknown key 'stages.0.temprature'; did you mean 'temperature'"),
        (["stages.0.temperature=hot"], r"command line: stages.0.temperature: .*'hot'"),
        (["stages.0.stop.0=x"], r"command line: stages.0.stop: no weaker layer gives a list"),
        # What was said about an item is forgotten with the list that it stood in.
        (["stages.1.temperature=1", "stages=[{}, {temperature: hot}]"], r"stages.1.temperature: .*'hot'"),
    ],
)
def test_mistakes_about_items(presets: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(presets, "small", *overrides)


def test_the_origin_of_a_replaced_list(presets: Path) -> None:
    (presets / "base.yaml").write_text("extends: small\nstages: {0: {temperature: 1}}\n")
    (presets / "top.yaml").write_text("extends: base\nstages: [{temperature: hot}]\n")
    with pytest.raises(UserError, match=r"top.yaml: stages.0.temperature"):
        load(presets, "top")


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
