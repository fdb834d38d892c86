"""What an export does, its units of work, and the plan that a stopped run continues by."""

from __future__ import annotations

import re
from typing import Any, Literal

from cluster import storage
from cluster.config import Config
from cluster.datasets import Manifest, ShardEntry, manifest_hash, read_manifest
from cluster.errors import UserError
from cluster.manifest import parse, to_json
from datagen.records import ACCEPTED_STATES

Layout = Literal["llava", "huggingface", "webdataset"]
STATES = ("accepted", "kept_original", "rejected", "truncated", "failed")
DEFAULT_STATES: tuple[str, ...] = tuple(ACCEPTED_STATES)
# Where an export keeps its books; loaders pass over names with a dot.
BOOKS = ".export"
_SPLIT = re.compile(r"\w+(\.\w+)*")


class ExportConfig(Config):
    """One run of ``l2t export``.

    Attributes:
        layout: which format.
        source: instruction set.
        corpus: where its images are; "" for a set without any.
        output: folder or URI.
        states: terminal states to export.
        max_rows: the first so many rows of these states; None for all.
        split: name of the split; exports of several splits share a folder.
        license: for the data set card.
        part_mb: about the size of a file of samples.
    """

    layout: Layout
    source: str
    corpus: str = ""
    output: str
    states: tuple[str, ...] = DEFAULT_STATES
    max_rows: int | None = None
    split: str = "train"
    license: str = "unknown"
    part_mb: int = 256


class Unit(Config):
    """A run of shards that becomes one file: ``takes[i]`` rows at most of shard ``shards[i]``."""

    index: int
    shards: tuple[int, ...]
    takes: tuple[int, ...]


class ExportPlan(Config):
    """Fixes the work before it begins."""

    layout: Layout
    source: str
    corpus: str
    states: tuple[str, ...]
    max_rows: int | None
    part_mb: int
    many_images: bool
    units: tuple[Unit, ...]


class Unexported(Config):
    """A row that the format cannot hold, or whose image is not there."""

    id: str
    shard: int
    reason: str


class UnitDone(Config):
    """The book entry of a finished unit."""

    index: int
    rows: int
    images: int
    bytes: int
    states: dict[str, int]
    unexported: tuple[Unexported, ...]


def book(config: ExportConfig, name: str) -> str:
    """URI of something in the books of a split."""
    return storage.join(config.output, BOOKS, config.split, name)


def check(config: ExportConfig) -> Manifest:
    """The manifest of the source, after a look at everything that can be wrong before the work.

    Raises:
        UserError: says what to put right.
    """
    source = read_manifest(config.source)
    if source.kind != "instructions":
        raise UserError(f"{config.source} is a dataset of kind {source.kind}; an export needs instructions")
    for state in config.states:
        if state not in STATES:
            raise UserError(f"--states {state}: no such state; there are {', '.join(STATES)}")
    if not _SPLIT.fullmatch(config.split):
        raise UserError(f"--split {config.split}: letters, digits, _ and dots only")
    if config.max_rows is not None and config.max_rows < 1:
        raise UserError(f"--max-rows {config.max_rows}: at least one row has to be exported")
    if config.part_mb < 1:
        raise UserError(f"--part-mb {config.part_mb}: a file needs at least 1 MB")
    if config.corpus:
        corpus = read_manifest(config.corpus)
        if corpus.kind != "corpus":
            raise UserError(f"{config.corpus} is a dataset of kind {corpus.kind}, not a corpus")
        if len(corpus.shards) < len(source.shards):
            raise UserError(
                f"{config.corpus} has {len(corpus.shards)} shards and {config.source} {len(source.shards)}: they do "
                "not belong together. Give the corpus that the instructions were made from with --corpus."
            )
    return source


def plan(config: ExportConfig, source: Manifest, many_images: bool) -> ExportPlan:
    """Cut the shards into units and store that, or find the plan of the same run.

    Raises:
        UserError: another export lies there.
    """
    fixed = ExportPlan(
        layout=config.layout,
        source=manifest_hash(config.source),
        corpus=manifest_hash(config.corpus) if config.corpus else "",
        states=config.states,
        max_rows=config.max_rows,
        part_mb=config.part_mb,
        many_images=many_images,
        units=_units(config, source),
    )
    place = book(config, "plan.json")
    if not storage.put_if_absent(place, to_json(fixed)):
        there = parse(ExportPlan, storage.read_bytes(place), place)
        if there != fixed:
            changed = [
                name for name in ExportPlan.model_fields if getattr(there, name) != getattr(fixed, name)
            ]
            raise UserError(
                f"{config.output} holds another export of split {config.split!r} (different: {', '.join(changed)}). "
                "Choose another folder or --split, or delete it first."
            )
    return fixed


def takes(config: ExportConfig, shard: ShardEntry) -> int:
    """How many rows of the wanted states a shard holds."""
    return sum(rows for key, rows in shard.counts.items() if key.partition(":")[0] in config.states)


def _units(config: ExportConfig, source: Manifest) -> tuple[Unit, ...]:
    left = config.max_rows
    units: list[Unit] = []
    shards: list[int] = []
    wanted: list[int] = []
    size = 0.0
    for k, entry in enumerate(source.shards):
        rows = takes(config, entry) if left is None else min(left, takes(config, entry))
        if not rows:
            continue
        left = None if left is None else left - rows
        more = _bytes(config, k, rows)
        if shards and size + more > config.part_mb * 1e6:
            units.append(Unit(index=len(units), shards=tuple(shards), takes=tuple(wanted)))
            shards, wanted, size = [], [], 0.0
        shards.append(k)
        wanted.append(rows)
        size += more
    if shards:
        units.append(Unit(index=len(units), shards=tuple(shards), takes=tuple(wanted)))
    return tuple(units)


def _bytes(config: ExportConfig, k: int, rows: int) -> float:
    """About how large ``rows`` rows of shard ``k`` become; a row carries its image in all formats but LLaVA's."""
    if not config.corpus:
        return rows * 1e3
    part = read_manifest(config.corpus).shards[k].parts["rows"]
    images = max(1, part.rows)
    return part.bytes / images * (min(rows, images) if config.layout == "llava" else rows)


def settings_of(config: ExportConfig) -> dict[str, Any]:
    """For workers."""
    return config.model_dump(mode="json")
