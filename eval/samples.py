"""From gold data sets to work: which samples, in which chunks, and a chunk's samples with their pictures.

A chunk is what is committed together. It mixes all tasks (so an engine's batch never drains at the end of a
task) and lies in one shard of one gold set, whose images are in the corpus shard of the same number.
Samples about one image stand together, so its prefix and encoder caches are hit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cluster.datasets import iter_tables, read_manifest, read_shard
from cluster.errors import UserError
from datagen import corpus
from datagen.corpus import BadImage, CorpusRow, decode_image
from datagen.records import ACCEPTED_STATES, from_row
from datagen.starter.scene import COLORS
from eval.benchmarks import gold as gold_rows
from eval.benchmarks.subset import smallest
from eval.benchmarks.views import content_of, outlined, side_by_side
from eval.config import GoldSet
from eval.scorers.chair import object_names
from eval.tasks import TASKS, Sample, Task, gold_row, sample_of

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Samples (task, record id) of shard ``source`` that are worked on and committed together as shard
    ``index``; of an imported benchmark, or of the instruction set where ``benchmark`` is "".
    """

    index: int
    source: int
    picks: tuple[tuple[str, str], ...]
    benchmark: str = ""


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """A sample with its picture, None where it has none; ``error`` says why there is none though there should be.

    Several pictures are set side by side, since an engine takes one a request; ``image_sha`` names what is seen.
    """

    sample: Sample
    answer: str
    image: Image | None
    image_sha: str
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A row that a task draws, by what decides about it."""

    id: str
    group: str
    shard: int
    images: tuple[str, ...]
    task: str
    benchmark: str

    @property
    def place(self) -> tuple[str, str, str]:
        """Samples of one picture side by side."""
        return self.images[0] if self.images else "", self.task, self.id


def select(
    gold: GoldSet, tasks: Sequence[Task], limit: int | None, chunk: int, *, pictured: bool = False
) -> list[Chunk]:
    """The work, decided by ids alone.

    Args:
        pictured: only rows with exactly one picture, as teacher forcing takes them.

    Raises:
        UserError: a data set is not published, of another kind, or no row fits any task.
    """
    drawn: dict[str, list[Drawn]] = {t.name: [] for t in tasks}
    for row in _drawn(gold, tasks):
        if not pictured or len(row.images) == 1:
            drawn[row.task].append(row)
    if not any(drawn.values()):
        raise UserError(
            f"{', '.join(gold.rows)}: no row fits the tasks {', '.join(drawn)}. "
            "Tasks draw rows by kind, format and part; `l2t eval tasks` shows which."
        )
    shards: dict[tuple[str, int], list[Drawn]] = {}
    for found in drawn.values():
        for row in found if limit is None else smallest(found, limit):
            shards.setdefault((row.benchmark, row.shard), []).append(row)
    chunks: list[Chunk] = []
    for (benchmark, shard), rows in sorted(shards.items()):
        picks = [(row.task, row.id) for row in sorted(rows, key=lambda row: row.place)]
        for start in range(0, len(picks), chunk):
            part = tuple(picks[start : start + chunk])
            chunks.append(Chunk(index=len(chunks), source=shard, picks=part, benchmark=benchmark))
    return chunks


def _drawn(gold: GoldSet, tasks: Sequence[Task]) -> Iterator[Drawn]:
    """Every row of every set with every task that draws it."""
    if gold.instructions:
        yield from _of_instructions(gold, [task for task in tasks if not task.benchmark])
    for name in gold.names:
        yield from _of_benchmark(gold, name, [task for task in tasks if task.benchmark == name])


def _of_instructions(gold: GoldSet, tasks: Sequence[Task]) -> Iterator[Drawn]:
    check_pair(gold.corpus, gold.instructions, "instructions")
    columns = ["id", "kind", "format", "image_ids", "state"]
    for shard, table in enumerate(iter_tables(gold.instructions, columns=columns)):
        for row in table.to_pylist():
            images = tuple(row["image_ids"] or ())
            if row["state"] not in ACCEPTED_STATES:
                continue
            for task in tasks:
                if task.draws(row["kind"], row["format"], len(images) == 1):
                    yield Drawn(
                        id=row["id"], group="", shard=shard, images=images, task=task.name, benchmark=""
                    )


def _of_benchmark(gold: GoldSet, name: str, tasks: Sequence[Task]) -> Iterator[Drawn]:
    images_uri, rows_uri = gold.pair(name)
    check_pair(images_uri, rows_uri, "gold")
    columns = ["id", "part", "group", "image_ids"]
    for shard, table in enumerate(iter_tables(rows_uri, columns=columns)):
        for row in table.to_pylist():
            images = tuple(row["image_ids"] or ())
            for task in tasks:
                if task.draws_gold(row["part"], len(images)):
                    yield Drawn(
                        id=row["id"],
                        group=row["group"],
                        shard=shard,
                        images=images,
                        task=task.name,
                        benchmark=name,
                    )


def check_pair(images: str, rows: str, kind: str) -> None:
    """Whether a corpus and the rows about it belong together. Raises UserError."""
    manifests = {uri: read_manifest(uri) for uri in (images, rows)}
    for uri, wanted in ((images, "corpus"), (rows, kind)):
        if manifests[uri].kind != wanted:
            raise UserError(f"{uri} is a data set of kind {manifests[uri].kind!r}; {wanted!r} is needed here")
    shards = {uri: len(manifest.shards) for uri, manifest in manifests.items()}
    if len(set(shards.values())) > 1:
        raise UserError(
            "corpus and rows have different numbers of shards, so they do not belong together: "
            + ", ".join(f"{uri} {n}" for uri, n in shards.items())
        )


def load(gold: GoldSet, chunk: Chunk) -> list[Pictured]:
    """A chunk's samples in order, each picture decoded once."""
    images_uri, rows_uri = gold.pair(chunk.benchmark)
    rows, pictures = _shard(rows_uri, images_uri, chunk.source)
    decoded: dict[str, tuple[Image | None, str]] = {}
    out = []
    for task, record_id in chunk.picks:
        sample, answer = _sample(TASKS[task], rows[record_id], pictures)
        for name in sample.image_ids:
            if name not in decoded:
                decoded[name] = _decode(pictures.get(name))
        out.append(_pictured(sample, answer, pictures, decoded))
    return out


def _sample(task: Task, row: dict[str, Any], pictures: dict[str, CorpusRow]) -> tuple[Sample, str]:
    """The sample of a stored row, and the answer whose likelihood is looked at."""
    if task.benchmark:
        gold = gold_rows.from_row(row)
        shown = pictures.get(gold.image_ids[0]) if gold.image_ids else None
        sample = sample_of(task, gold, (shown.width, shown.height) if shown else None)
        return sample, sample.golds[0] if sample.golds else ""
    record = from_row(row)
    about = pictures.get(record.image_ids[0])
    captions, objects = (about.captions, _objects(about)) if about else ((), ())
    return sample_of(task, gold_row(task, record, captions=captions, objects=objects)), record.answer


def _pictured(
    sample: Sample,
    answer: str,
    pictures: dict[str, CorpusRow],
    decoded: dict[str, tuple[Image | None, str]],
) -> Pictured:
    names = sample.image_ids
    error = next((decoded[name][1] for name in names if decoded[name][1]), "")
    shas = [pictures[name].sha256 for name in names if name in pictures]
    seen = [picture for name in names if (picture := decoded[name][0]) is not None]
    image = None if error or not seen else seen[0] if len(seen) == 1 else side_by_side(seen)
    if image is not None and sample.box is not None:
        image = outlined(image, sample.box)
    return Pictured(
        sample=sample, answer=answer, image=image, image_sha=content_of(shas, sample.box), error=error
    )


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
def _shard(rows: str, images: str, shard: int) -> tuple[dict[str, dict[str, Any]], dict[str, CorpusRow]]:
    # Several chunks share a shard; a worker reads it once. Two, because chunks of neighbours are worked on at
    # once.
    found = {row["id"]: row for row in read_shard(rows, shard).to_pylist()}
    table = read_shard(images, shard)
    return found, {row["image_id"]: corpus.from_row(row) for row in table.to_pylist()}
