"""From gold data sets to work: which samples, in which chunks, and a chunk's samples with their pictures.

A chunk is what is committed together. It mixes all tasks (so an engine's batch never drains at the end of a
task) and lies in one shard of the instruction set, whose images are in the corpus shard of the same number.
Samples about one image stand together, so its prefix and encoder caches are hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.datasets import iter_tables, read_manifest, read_shard
from cluster.errors import UserError
from datagen import corpus
from datagen.corpus import BadImage, CorpusRow, decode_image
from datagen.records import ACCEPTED_STATES, from_row
from datagen.starter.scene import COLORS
from eval.config import GoldSet
from eval.scorers.chair import object_names
from eval.tasks import TASKS, Sample, Task, lite_order, sample_of

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Samples (task, record id) of shard ``source`` that are worked on and committed together as shard
    ``index``.
    """

    index: int
    source: int
    picks: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """A sample with its picture; ``error`` says why there is none."""

    sample: Sample
    answer: str
    image: Image | None
    image_sha: str
    error: str = ""


def select(gold: GoldSet, tasks: Sequence[Task], limit: int | None, chunk: int) -> list[Chunk]:
    """The work, decided by ids alone.

    Raises:
        UserError: a data set is not published, of another kind, or no row fits any task.
    """
    _check_kinds(gold)
    drawn: dict[str, list[tuple[str, int, str, str]]] = {t.name: [] for t in tasks}
    columns = ["id", "kind", "format", "image_ids", "state"]
    for shard, table in enumerate(iter_tables(gold.instructions, columns=columns)):
        for row in table.to_pylist():
            images = row["image_ids"] or []
            if row["state"] not in ACCEPTED_STATES:
                continue
            for task in tasks:
                if task.draws(row["kind"], row["format"], len(images) == 1):
                    drawn[task.name].append((lite_order(row["id"]), shard, images[0], row["id"]))
    if not any(drawn.values()):
        raise UserError(
            f"{gold.instructions}: no row fits the tasks {', '.join(drawn)}. "
            "Tasks draw rows with one image by kind and format; `python -m eval tasks` shows which."
        )
    by_shard: dict[int, list[tuple[str, str, str]]] = {}
    for name, found in drawn.items():
        for _, shard, image, record in sorted(found)[:limit]:
            by_shard.setdefault(shard, []).append((image, name, record))
    chunks: list[Chunk] = []
    for shard, picks in sorted(by_shard.items()):
        ordered = [(name, record) for _, name, record in sorted(picks)]
        for start in range(0, len(ordered), chunk):
            chunks.append(Chunk(index=len(chunks), source=shard, picks=tuple(ordered[start : start + chunk])))
    return chunks


def _check_kinds(gold: GoldSet) -> None:
    for uri, kind in ((gold.corpus, "corpus"), (gold.instructions, "instructions")):
        manifest = read_manifest(uri)
        if manifest.kind != kind:
            raise UserError(f"{uri} is a data set of kind {manifest.kind!r}; {kind!r} is needed here")
    shards = {uri: len(read_manifest(uri).shards) for uri in (gold.corpus, gold.instructions)}
    if len(set(shards.values())) > 1:
        raise UserError(
            "corpus and instructions have different numbers of shards, so they do not belong together: "
            + ", ".join(f"{uri} {n}" for uri, n in shards.items())
        )


def load(gold: GoldSet, chunk: Chunk) -> list[Pictured]:
    """A chunk's samples in order, each picture decoded once."""
    rows, pictures = _shard(gold.instructions, gold.corpus, chunk.source)
    decoded: dict[str, tuple[Image | None, str]] = {}
    out = []
    for task, record_id in chunk.picks:
        record = from_row(rows[record_id])
        row = pictures.get(record.image_ids[0])
        captions, objects = (row.captions, _objects(row)) if row else ((), ())
        sample = sample_of(TASKS[task], record, captions=captions, objects=objects)
        if sample.image_id not in decoded:
            decoded[sample.image_id] = _decode(row)
        image, error = decoded[sample.image_id]
        sha = row.sha256 if row else ""
        out.append(Pictured(sample=sample, answer=record.answer, image=image, image_sha=sha, error=error))
    return out


def _decode(row: CorpusRow | None) -> tuple[Image | None, str]:
    if row is None:
        return None, "image not in the corpus shard"
    try:
        return decode_image(row.image), ""
    except BadImage as error:
        return None, str(error)


def _objects(row: CorpusRow) -> tuple[str, ...]:
    return object_names(((o.name, o.attributes) for o in row.objects), COLORS)


@lru_cache(maxsize=2)
def _shard(
    instructions: str, images: str, shard: int
) -> tuple[dict[str, dict[str, object]], dict[str, CorpusRow]]:
    # Several chunks share a shard; a worker reads it once. Two, because chunks of neighbours are worked on at
    # once.
    rows = {row["id"]: row for row in read_shard(instructions, shard).to_pylist()}
    table: pa.Table = read_shard(images, shard)
    return rows, {row["image_id"]: corpus.from_row(row) for row in table.to_pylist()}
