"""Configuration: pydantic models beside their consumers, YAML presets, ``a.b=c`` overrides, and no guessing.

A preset may name another one, ``extends: <name or path>``, and say only what differs from it. Groups merge key by key;
lists and plain values take the place of what was there; ``data: {0: {share: 0.4}}``, or ``data.0.share=0.4`` on the
command line, changes one item of a list that a weaker layer gives.

Every unknown key ends in one message that names the file (or the command line), the full key and its nearest
neighbour, because a silently ignored setting costs a whole run.
"""

from __future__ import annotations

import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.errors import UserError, did_you_mean

COMMAND_LINE = "command line"
EXTENDS = "extends"
# By key path: the file, or the command line, that gave the value.
Origins = dict[tuple[str, ...], str]


class _SafeLoader(yaml.SafeLoader):
    """YAML in which true and false are the only booleans: 1.1 would make False of ``method: off`` and of an answer
    ``no``. Where a setting is a boolean, pydantic takes on, off, yes and no all the same."""


_SafeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_SafeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class Config(BaseModel):
    """Base of every config: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)


def load_config(
    cls: type[C],
    presets_dir: Path,
    preset: str | None,
    overrides: Sequence[str] = (),
    defaults: dict[str, Any] | None = None,
) -> C:
    """Defaults, then the preset on top of those that it extends, then the overrides, validated as ``cls``.

    Args:
        presets_dir: folder of ``<name>.yaml`` files.
        preset: name of a file there, or a path to a YAML file anywhere, or None.
        overrides: ``a.b=c`` from the command line; ``c`` is parsed as a YAML value. Later ones win.
        defaults: values from code, weakest of all; nested like the YAML.

    Raises:
        UserError: unknown preset or key (with the nearest neighbour), presets that extend each other in a circle,
            unreadable YAML, or a value of the wrong type; the message names the file or the command line.
    """
    layers: list[tuple[str, dict[str, Any]]] = [("defaults in code", defaults or {})]
    if preset is not None:
        layers += preset_layers(presets_dir, find_preset(presets_dir, preset))
    layers += [(COMMAND_LINE, parse_override(text)) for text in overrides]

    merged: dict[str, Any] = {}
    origins: Origins = {}
    for origin, values in layers:
        check_keys(cls, values, origin)
        merged = _merged(merged, values, origin, origins, ())
    try:
        return cls.model_validate(merged)
    except ValidationError as error:
        raise UserError(_explain(error, origins)) from error


def find_preset(presets_dir: Path, preset: str) -> Path:
    """The file of a preset: ``presets_dir/<preset>.yaml``, or ``preset`` itself where it is a path."""
    named = presets_dir / f"{preset}.yaml"
    if named.is_file():
        return named
    if Path(preset).is_file():
        return Path(preset)
    if preset.endswith((".yaml", ".yml")) or "/" in preset:
        raise UserError(f"{preset}: no such preset file")
    known = sorted(path.stem for path in presets_dir.glob("*.yaml"))
    listing = (
        f"Presets in {presets_dir}: {', '.join(known)}" if known else f"There are no presets in {presets_dir}"
    )
    raise UserError(
        f"unknown preset {preset!r}{did_you_mean(preset, known)} {listing}, or give the path of a YAML file."
    )


def preset_layers(presets_dir: Path, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(file, its own settings) of a preset and of those that it extends, the weakest first.

    A name after ``extends`` is looked up beside the file, then in ``presets_dir``; a path starts at the file's folder.

    Raises:
        UserError: an unknown name, or a circle.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    chain = [path]
    while True:
        here = chain[-1]
        values = read_yaml(here)
        base = values.pop(EXTENDS, None)
        layers.insert(0, (str(here), values))
        if base is None:
            return layers
        below = _extended(here, base, presets_dir)
        if any(below.samefile(seen) for seen in chain):
            circle = " -> ".join(file.name for file in [*chain, below])
            raise UserError(f"{here}: {EXTENDS}: these presets extend each other in a circle: {circle}")
        chain.append(below)


def _extended(path: Path, base: Any, presets_dir: Path) -> Path:
    """The file that ``extends: <base>`` in ``path`` means."""
    if not isinstance(base, str) or not base:
        raise UserError(f"{path}: {EXTENDS}: expected the name of one preset or the path of a YAML file")
    if (path.parent / base).is_file():
        return path.parent / base
    try:
        beside = path.parent if (path.parent / f"{base}.yaml").is_file() else presets_dir
        return find_preset(beside, base)
    except UserError as error:
        raise UserError(f"{path}: {EXTENDS}: {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; anchors and ``<<`` merges work, tags that build objects do not; an empty file is {}."""
    try:
        values = _loaded(path.read_text())
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates that there are not
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values at the top, found a {type(values).__name__}")
    # Keys that start with "x-" hold anchors, as in Docker compose files, and are no settings.
    return {key: value for key, value in values.items() if not str(key).startswith("x-")}


def parse_override(text: str) -> dict[str, Any]:
    """``a.b=c`` as ``{"a": {"b": c}}`` with ``c`` parsed as YAML."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UserError(f"{COMMAND_LINE}: {text!r} is not an override; write key=value or group.key=value")
    try:
        parsed = _yaml_value(value)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{COMMAND_LINE}: the value of {key} is not readable as YAML: {value!r}") from error
    for part in reversed(parts):
        parsed = {part: parsed}
    return parsed


def _yaml_value(text: str) -> Any:
    value = _loaded(text) if text.strip() else ""
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 as a string, and everybody means a number.
        try:
            return float(value) if value[:1] in "+-.0123456789" and "e" in value.lower() else value
        except ValueError:
            return value
    return value


def _loaded(text: str) -> Any:
    loader = _SafeLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def check_keys(cls: type[BaseModel], values: dict[str, Any], origin: str, prefix: str = "") -> None:
    """Every key of ``values`` is a field of ``cls``, all the way down; wrong types are pydantic's to report.

    Raises:
        UserError: names ``origin``, the full key path and the nearest known key.
    """
    if cls.model_config.get("extra") == "allow":
        return
    known = {
        alias: field for name, field in cls.model_fields.items() for alias in (field.alias or name, name)
    }
    for key, value in values.items():
        if key not in known:
            where = f"of {prefix[:-1]!r}" if prefix else "here"
            raise UserError(
                f"{origin}: unknown key {prefix + str(key)!r}{did_you_mean(str(key), known)} "
                f"Keys {where}: {', '.join(sorted(known))}"
            )
        _check_value(known[key].annotation, value, origin, f"{prefix}{key}")


def _check_value(annotation: Any, value: Any, origin: str, path: str) -> None:
    """Check the keys of every group in ``value`` against the models that ``annotation`` holds there."""
    kind, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if isinstance(value, dict):
            check_keys(annotation, value, origin, f"{path}.")
    elif kind is typing.Annotated:
        _check_value(arguments[0], value, origin, path)
    elif kind in (list, tuple, Sequence) and isinstance(value, list):
        for index, item in enumerate(value):
            _check_value(arguments[0], item, origin, f"{path}.{index}")
    elif kind in (list, tuple, Sequence) and isinstance(value, dict):
        for index, item in value.items():
            _check_value(arguments[0], item, origin, f"{path}.{index}")
    elif kind in (dict, Mapping) and isinstance(value, dict):
        for key, item in value.items():
            _check_value(arguments[1], item, origin, f"{path}.{key}")
    elif kind in (typing.Union, types.UnionType) and isinstance(value, dict | list):
        # The keys are fine when one member of the union takes them; which one it is, pydantic decides.
        failures = []
        for member in (argument for argument in arguments if argument is not type(None)):
            try:
                _check_value(member, value, origin, path)
                return
            except UserError as error:
                failures.append(error)
        if failures:
            raise failures[0]


def _merged(below: Any, value: Any, origin: str, origins: Origins, at: tuple[str, ...]) -> Any:
    """``value`` laid over ``below``; neither is changed, because YAML aliases share their lists and groups."""
    origins[at] = origin
    if isinstance(value, dict) and isinstance(below, list | tuple):
        items = list(below)
        for key, item in value.items():
            index = _index(key, len(items), origin, ".".join(at))
            items[index] = _merged(items[index], item, origin, origins, (*at, str(index)))
        return items
    if isinstance(value, dict):
        group = dict(below) if isinstance(below, dict) else {}
        for key, item in value.items():
            group[key] = _merged(group.get(key), item, origin, origins, (*at, str(key)))
        return group
    for path in [path for path in origins if len(path) > len(at) and path[: len(at)] == at]:
        del origins[path]
    return value


def _index(key: Any, length: int, origin: str, path: str) -> int:
    """The place in a list that a key of a mapping laid over it means."""
    if not str(key).isdecimal():
        raise UserError(f"{origin}: {path}.{key}: {path} is a list; write {path}.<number>, from 0")
    if int(key) >= length:
        last = f"its last item is {path}.{length - 1}" if length else "it is empty"
        raise UserError(f"{origin}: {path}.{key}: there is no such item in {path}; {last}")
    return int(key)


def _explain(error: ValidationError, origins: Origins) -> str:
    """Each failure of a validation on one line: origin, key path, what is wrong, what was given."""
    lines = []
    for failure in error.errors(include_url=False):
        path = tuple(str(part) for part in failure["loc"])
        known = [path[:length] for length in range(len(path), 0, -1) if path[:length] in origins]
        origin = f"{origins[known[0]]}: " if known else ""
        given = (
            ""
            if failure["type"] == "missing" or isinstance(failure["input"], dict)
            else f" (got {failure['input']!r})"
        )
        message = "this key is required" if failure["type"] == "missing" else failure["msg"]
        if failure["type"] in ("list_type", "tuple_type") and isinstance(failure["input"], dict):
            message = "no weaker layer gives a list here whose items could be changed; write the whole list"
        lines.append(f"{origin}{'.'.join(path) or 'config'}: {message}{given}")
    return "\n".join(lines)


def to_yaml(cfg: BaseModel) -> str:
    """The resolved config as YAML, in the order of the fields; `load_config` reads it back."""
    return yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def config_hash(cfg: BaseModel) -> str:
    """First 16 hex digits of sha256 over the canonical JSON of the resolved config."""
    return hash_of(cfg.model_dump(mode="json"))


def hash_of(value: Any) -> str:
    """First 16 hex digits of sha256 over canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
