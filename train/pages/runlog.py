"""What a run has written so far, whatever of it is there."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import yaml

from cluster import storage
from cluster.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """The files of a run; empty or None for those that are not there yet.

    ``lines`` are in the order of their steps, one per step.
    """

    uri: str
    lines: list[dict[str, Any]]
    config: dict[str, Any]
    config_text: str
    templates: dict[str, Any] | None
    rejects: list[dict[str, Any]]
    done: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @property
    def last(self) -> dict[str, Any]:
        """The newest log line, empty before the first."""
        return self.lines[-1] if self.lines else {}

    def total(self, key: str) -> float:
        """A count of the log lines, over all of them."""
        return sum(value for line in self.lines if (value := number(line.get(key))) is not None)

    def series(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of the lines that have ``key`` (``a/b`` for an entry of a mapping); nan for null and what is
        no finite number."""
        found = []
        for line in self.lines:
            outer, _, inner = key.partition("/")
            holder = line.get(outer) if inner else line
            if isinstance(holder, dict) and (inner or outer) in holder:
                value = number(holder[inner or outer])
                found.append((float(line["step"]), math.nan if value is None else value))
        return found

    def has(self, key: str) -> bool:
        """Whether there is at least one number under ``key``."""
        return any(math.isfinite(value) for _, value in self.series(key))


def number(value: object) -> float | None:
    """A finite number of a log line, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_run(uri: str) -> RunLog:
    """The files of a run.

    Raises:
        UserError: none of them is there, or one is not what the trainer writes.
    """
    names = ("log.jsonl", "config.yaml", "templates.json", "rejects.jsonl", "done.json")
    places = {name: storage.join(uri, name) for name in names}
    there = {name: storage.read_bytes(place) for name, place in places.items() if storage.exists(place)}
    if not there:
        raise UserError(
            f"{uri}: no run is there (none of {', '.join(names)}); give the output of a training run"
        )
    lines = {}
    for row, line in enumerate(_rows(places["log.jsonl"], there.get("log.jsonl", b"")), 1):
        if number(line.get("step")) is None:
            raise UserError(
                f"{places['log.jsonl']}, line {row}: no step; this is not the log of a training run"
            )
        lines[line["step"]] = line
    config_text = there.get("config.yaml", b"").decode(errors="replace")
    try:
        config = yaml.safe_load(config_text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{places['config.yaml']}: not readable as YAML: {error}") from error
    templates, done = (
        _object(places[name], there[name]) if name in there else None
        for name in ("templates.json", "done.json")
    )
    return RunLog(
        uri=uri,
        lines=[lines[step] for step in sorted(lines)],
        config=config if isinstance(config, dict) else {},
        config_text=config_text,
        templates=templates,
        rejects=_rows(places["rejects.jsonl"], there.get("rejects.jsonl", b"")),
        done=done,
    )


def _rows(place: str, data: bytes) -> list[dict[str, Any]]:
    rows = data.decode(errors="replace").split("\n")
    return [_object(f"{place}, line {i}", row.encode()) for i, row in enumerate(rows, 1) if row.strip()]


def _object(place: str, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise UserError(
            f"{place}: not readable as JSON ({error}); remove it or write the file again"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{place}: expected a JSON object, found {type(found).__name__}")
    return found
