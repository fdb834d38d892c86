"""What a dataset says about itself: its plan before the work, its manifest after it (contract 1).

The manifest alone makes a dataset. It names the exact parts with their sha256, so a reader never lists a
folder and never sees what a killed or duplicate worker left behind.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from cluster import storage
from cluster.config import Config
from cluster.errors import UserError

SCHEMA_VERSION = "1"
M = TypeVar("M", bound=Config)
Kind = Literal["corpus", "instructions", "gold", "eval"]
# A thousand bytes a shard and a million shards; what states more is not of our making.
MAX_BYTES = 1 << 30
MAX_SHARDS = 10_000_000


def _below(path: str) -> str:
    """A path below the dataset: whoever hands over a manifest names no other files of the reader's with it."""
    if not path or path[0] in "/~" or "\\" in path or "://" in path or ".." in path.split("/"):
        raise ValueError(f"{path[:80]!r} leads out of the dataset")
    return path


Below = Annotated[str, AfterValidator(_below)]
Count = Annotated[int, Field(ge=0)]


class Parent(Config):
    """A dataset this one was made from; ``sha256`` is that of its manifest."""

    uri: str
    sha256: str


class Part(Config):
    """One Parquet file; ``path`` is relative to the dataset, so a dataset can move."""

    path: Below
    sha256: str
    rows: Count
    bytes: Count


class ShardEntry(Config):
    """A finished shard; also the shape of its commit record.

    ``counts`` adds up over terminal states to the rows of all streams; ``inputs`` is how many rows or drafts
    were started, where the producer counts them itself; ``seconds`` is the worker's time.
    """

    index: Count
    parts: dict[str, Part]
    counts: dict[str, int] = Field(default_factory=dict)
    tokens: dict[str, int] = Field(default_factory=dict)
    seconds: float = 0.0
    inputs: int | None = None


class Totals(Config):
    """Sums over all shards; ``rows`` by stream."""

    rows: dict[str, int] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    tokens: dict[str, int] = Field(default_factory=dict)
    seconds: float = 0.0
    bytes: int = 0


class Provenance(Config):
    """What plan and manifest share: everything needed to trust a dataset and to make it again."""

    schema_version: str = SCHEMA_VERSION
    kind: Kind
    name: str
    parents: tuple[Parent, ...] = ()
    config: dict[str, Any] = Field(default_factory=dict)
    config_hash: str
    code_version: str
    created: str = Field(description="ISO 8601, UTC")
    seeds: dict[str, Any] = Field(default_factory=dict)
    prompt_versions: dict[str, Any] = Field(default_factory=dict)
    models: dict[str, Any] = Field(default_factory=dict)


class Plan(Provenance):
    """Fixes the shards before the work begins; ``conditional_put`` is what the probe of the store found."""

    shards: int = Field(ge=0, le=MAX_SHARDS)
    conditional_put: bool


class Manifest(Provenance):
    """A published dataset."""

    shards: tuple[ShardEntry, ...]
    totals: Totals


class Pointer(Config):
    """``manifest.json``: which version of the manifest counts."""

    version: int = 1
    manifest: Below
    sha256: str


def read_plan(uri: str) -> Plan | None:
    """The plan of a dataset, None where there is none."""
    place = storage.join(uri, "plan.json")
    return parse(Plan, storage.read_bytes(place, MAX_BYTES), place) if storage.exists(place) else None


def dataset_exists(uri: str) -> bool:
    """Whether ``uri`` holds a published dataset."""
    return storage.exists(storage.join(uri, "manifest.json"))


def read_manifest(uri: str) -> Manifest:
    """The manifest of a published dataset.

    Raises:
        UserError: there is none, or it is not what its pointer names.
    """
    return read_pinned(uri)[0]


def manifest_hash(uri: str) -> str:
    """sha256 of a published dataset's manifest, the name of its content."""
    return _read_pointer(uri).sha256


def read_pinned(uri: str) -> tuple[Manifest, str]:
    """Manifest and its sha256, from one look at the pointer."""
    pointer = _read_pointer(uri)
    return _manifest_at(storage.join(uri, pointer.manifest), pointer.sha256), pointer.sha256


def _read_pointer(uri: str) -> Pointer:
    place = storage.join(uri, "manifest.json")
    if not storage.exists(place):
        plan = read_plan(uri)
        if plan is None:
            raise UserError(f"{uri} is not a published dataset: it has no manifest.json. Check the path.")
        raise UserError(
            f"{uri} is not a published dataset yet: {plan.kind} {plan.name!r} was begun and not finished. "
            "Run the command that makes it again; it continues."
        )
    return parse(Pointer, storage.read_bytes(place, MAX_BYTES), place)


@lru_cache(maxsize=64)
def _manifest_at(place: str, sha256: str) -> Manifest:
    data = storage.read_bytes(place, MAX_BYTES)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(
            f"{place}: differs from the sha256 that manifest.json names. Restore it, or make it again."
        )
    return parse(Manifest, data, place)


def parse(cls: type[M], data: bytes, place: str) -> M:
    """JSON of this project's own making; anything else is a UserError that names the object."""
    try:
        return cls.model_validate_json(data)
    except ValidationError as error:
        raise UserError(
            f"{place}: not a {cls.__name__.lower()} of schema version {SCHEMA_VERSION} ({first_reason(error)}). "
            "Restore it, or make the dataset again."
        ) from error


def first_reason(error: ValidationError) -> str:
    """The first thing that was wrong, with its key."""
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, [".".join(str(part) for part in first["loc"]), first["msg"]]))


def to_json(value: Config) -> bytes:
    """The stored form: readable, and the same bytes for the same value."""
    return (value.model_dump_json(indent=1) + "\n").encode()


def totals(shards: tuple[ShardEntry, ...]) -> Totals:
    """Sums over shards."""
    rows: dict[str, int] = {}
    counts: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for shard in shards:
        _add(rows, {stream: part.rows for stream, part in shard.parts.items()})
        _add(counts, shard.counts)
        _add(tokens, shard.tokens)
    return Totals(
        rows=rows,
        counts=dict(sorted(counts.items())),
        tokens=tokens,
        seconds=round(sum(shard.seconds for shard in shards), 3),
        bytes=sum(part.bytes for shard in shards for part in shard.parts.values()),
    )


def _add(into: dict[str, int], more: dict[str, int]) -> None:
    for key, number in more.items():
        into[key] = into.get(key, 0) + number


@lru_cache(maxsize=1)
def code_version() -> str:
    """Commit of the checkout (``+dirty`` with local changes), or the installed version outside of one.

    ``L2T_CODE_VERSION`` wins: container images and submitted jobs carry no git.
    """
    if given := os.environ.get("L2T_CODE_VERSION"):
        return given
    root = Path(__file__).parent.parent
    if (root / ".git").exists():
        try:
            commit = subprocess.run(
                ["git", "describe", "--always", "--dirty=+dirty", "--abbrev=12", "--exclude=*"],
                cwd=root, capture_output=True, text=True, timeout=20,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return installed_version()
        if commit.returncode == 0:
            return commit.stdout.strip()
    return installed_version()


def installed_version() -> str:
    """Version of the installed distribution, ``unknown`` when run from a bare copy."""
    try:
        return metadata.version("learning-to-instruct")
    except metadata.PackageNotFoundError:
        return "unknown"
