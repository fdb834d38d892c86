"""Conversations and pictures from published datasets to microbatches, joined shard by shard."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster import datasets
from cluster.errors import UserError
from datagen.corpus import BadImage
from datagen.records import Turn
from train.config import DataSource, TrainConfig
from train.encode import Encoder, Sample
from train.labels import Reason
from train.order import Order, Row, share_of, units_of
from train.pixels import Pixels
from train.render import BadConversation

_COLUMNS = ["id", "image_ids", "kind", "conversation"]


@dataclass(frozen=True)
class Reject:
    """A row that could not be used."""

    dataset: str
    shard: int
    row: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LanguageMicrobatch:
    """Rows of one forward pass, as numpy until the device is known.

    ``at`` are the flat positions (row * tokens + column) whose hidden state predicts a learned token, ``targets`` those
    tokens, ``is_response`` which part of the loss they belong to.
    """

    ids: NDArray[np.int64]  # [rows, tokens], padded on the right
    pictures: list[NDArray[Any]]
    at: NDArray[np.int64]
    targets: NDArray[np.int64]
    is_response: NDArray[np.bool_]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Learned tokens (instruction, response)."""
        responses = int(self.is_response.sum())
        return np.array([len(self.targets) - responses, responses])


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """One worker's share of one optimizer step. ``rows`` is how many rows the whole step takes from the order on all
    workers, rejected ones included; ``stats`` are sums over this worker's rows."""

    microbatches: list[Any]
    rows: int
    rejects: list[Reject] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)


def collate(samples: Sequence[Sample], pictures: list[NDArray[Any]], pad_id: int) -> LanguageMicrobatch:
    """Pad on the right and list the learned positions; no samples give an empty microbatch."""
    width = max((len(s.ids) for s in samples), default=1)
    ids = np.full((max(len(samples), 1), width), pad_id, np.int64)
    at, targets, is_response = [], [], []
    for i, sample in enumerate(samples):
        ids[i, : len(sample.ids)] = sample.ids
        positions = np.flatnonzero(sample.is_learned[1:])
        at.append(positions + i * width)
        targets.append(sample.ids[1:][positions])
        is_response.append(sample.reasons[1:][positions] == Reason.RESPONSE)
    empty = np.zeros(0, np.int64)
    return LanguageMicrobatch(
        ids=ids,
        pictures=pictures,
        at=np.concatenate([empty, *at]),
        targets=np.concatenate([empty, *targets]),
        is_response=np.concatenate([empty.astype(bool), *is_response]),
    )


@dataclass(frozen=True)
class _Shard:
    """A shard in memory: conversations, about how many tokens each has, and where each picture is."""

    table: pa.Table
    lengths: NDArray[np.int64]
    images: dict[str, int]
    image_table: pa.Table | None


class Conversations:
    """The mixture of a config: counts its rows, and reads its shards, of which it keeps the last few."""

    def __init__(self, sources: Sequence[DataSource], *, keep: int, per_image: int = 0) -> None:
        self.sources, self._keep, self._per_image = sources, keep, per_image
        self._shards: OrderedDict[tuple[int, int], _Shard] = OrderedDict()

    def row_counts(self) -> list[list[int]]:
        """Rows per source and shard after the filter on kinds.

        Raises:
            UserError: a data set is not published, of the wrong kind, made from another corpus, or empty.
        """
        counts = []
        for index, source in enumerate(self.sources):
            assert source.instructions is not None
            manifest = datasets.read_manifest(source.instructions)
            if manifest.kind != "instructions":
                raise UserError(
                    f"data.{index}.instructions: {source.instructions} holds {manifest.kind}, not instructions"
                )
            if source.corpus is not None:
                corpus = datasets.read_manifest(source.corpus)
                if corpus.kind != "corpus":
                    raise UserError(f"data.{index}.corpus: {source.corpus} holds {corpus.kind}, not a corpus")
                if len(corpus.shards) < len(manifest.shards):
                    raise UserError(
                        f"data.{index}: {source.instructions} has {len(manifest.shards)} shards and the corpus "
                        f"{source.corpus} has {len(corpus.shards)}; shard k refers to images of corpus shard k, so "
                        "this is another corpus than the one it was made from"
                    )
            per_shard = [
                self._count(source, shard.index) if source.kinds else shard.parts["rows"].rows
                for shard in manifest.shards
            ]
            if not sum(per_shard):
                only = f" of kinds {', '.join(source.kinds)}" if source.kinds else ""
                raise UserError(f"data.{index}: {source.instructions} has no rows{only}")
            counts.append(per_shard)
        return counts

    def _count(self, source: DataSource, shard: int) -> int:
        assert source.instructions is not None
        kinds = datasets.read_shard(source.instructions, shard, columns=["kind"], verify=False)["kind"]
        return int(pc.sum(pc.is_in(kinds, pa.array(source.kinds))).as_py() or 0)

    def shard(self, source_index: int, shard: int) -> _Shard:
        """Read or find a shard."""
        key = (source_index, shard)
        if key not in self._shards:
            self._shards[key] = self._read(self.sources[source_index], shard)
            while len(self._shards) > self._keep:
                self._shards.popitem(last=False)
        self._shards.move_to_end(key)
        return self._shards[key]

    def _read(self, source: DataSource, shard: int) -> _Shard:
        assert source.instructions is not None
        table = datasets.read_shard(source.instructions, shard, columns=_COLUMNS)
        if source.kinds:
            table = table.filter(pc.is_in(table["kind"], pa.array(source.kinds)))
        table = table.combine_chunks()
        image_table = None
        images: dict[str, int] = {}
        if source.corpus is not None:
            image_table = datasets.read_shard(source.corpus, shard, columns=["image_id", "image"])
            images = {name: i for i, name in enumerate(image_table["image_id"].to_pylist())}
        return _Shard(
            table=table, lengths=text_lengths(table, self._per_image), images=images, image_table=image_table
        )

    def lengths(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """About the number of tokens of each row."""
        return np.array([self.shard(r.source, r.shard).lengths[r.row] for r in rows], np.int64)


def text_lengths(table: pa.Table, per_image: int) -> NDArray[np.int64]:
    """About the number of tokens of each row, without a tokenizer: words and marks of its text, and image tokens."""
    conversation, image_ids = (table[name].combine_chunks() for name in ("conversation", "image_ids"))
    texts = pc.fill_null(pc.struct_field(pc.list_flatten(conversation), "text"), "")
    words = pc.count_substring_regex(texts, r"\w+|[^\w\s]").to_numpy(zero_copy_only=False)
    owners = pc.list_parent_indices(conversation).to_numpy(zero_copy_only=False)
    pictures = pc.fill_null(pc.list_value_length(image_ids), 0).to_numpy(zero_copy_only=False)
    return (np.bincount(owners, words, len(table)) + per_image * pictures).astype(np.int64)


class LanguageData:
    """All batches of a run, for one worker."""

    def __init__(self, cfg: TrainConfig, encoder: Encoder, pixels: Pixels) -> None:
        self.encoder, self.pixels = encoder, pixels
        self.microbatch, self.group_rows = cfg.microbatch, cfg.group_rows
        # A block may reach into the next window; both stay readable.
        self.conversations = Conversations(
            cfg.data, keep=2 * cfg.window_shards, per_image=encoder.tokens_per_image
        )
        units = units_of(self.conversations.row_counts(), [source.weight for source in cfg.data])
        self.order = Order(
            units,
            seed=cfg.seed,
            window=cfg.window_shards,
            batch=cfg.global_batch,
            group_batches=cfg.group_batches,
        )
        pad = encoder.tokenizer.pad_token_id
        self.pad_id = 0 if pad is None else int(pad)

    def steps(self, start: int, *, rank: int = 0, world: int = 1) -> Iterator[StepBatch]:
        """Batches from step ``start`` on, for ever."""
        per_epoch = self.order.batches_per_epoch
        epoch, batch = divmod(start, per_epoch)
        while True:
            first_block, skip = divmod(batch, self.order.block // self.order.batch)
            for block in range(first_block, -(-self.order.rows_per_epoch // self.order.block)):
                rows = self.order.rows(epoch, block * self.order.block, (block + 1) * self.order.block)
                lengths = self.conversations.lengths(rows)
                for cut in self.order.batches(lengths, epoch, block, group=self.group_rows)[skip:]:
                    yield self._step(rows, cut, rank, world)
                skip = 0
            epoch, batch = epoch + 1, 0

    def _step(self, rows: list[Row], cut: NDArray[np.int64], rank: int, world: int) -> StepBatch:
        rejects: list[Reject] = []
        stats: dict[str, int] = {}
        microbatches = []
        for indices in share_of(rank, world, cut, self.microbatch):
            samples, pictures = self._prepare([rows[i] for i in indices], rejects)
            for sample in samples:
                _add_stats(stats, sample)
            microbatches.append(collate(samples, pictures, self.pad_id))
        stats["samples"] = stats.get("samples", 0)
        return StepBatch(microbatches=microbatches, rows=len(cut), rejects=rejects, stats=stats)

    def _prepare(self, rows: list[Row], rejects: list[Reject]) -> tuple[list[Sample], list[NDArray[Any]]]:
        """Encode rows and find their pictures; what cannot be used goes to ``rejects``."""
        texts: list[tuple[list[Turn], int]] = []
        arrays: list[list[NDArray[Any]] | str] = []
        names = []
        for row in rows:
            shard = self.conversations.shard(row.source, row.shard)
            values = shard.table.slice(row.row, 1).to_pylist()[0]
            names.append(str(values["id"]))
            turns = [Turn(role=t["role"] or "", text=t["text"] or "") for t in values["conversation"] or []]
            image_ids = values["image_ids"] or []
            texts.append((turns, len(image_ids)))
            arrays.append(self._pictures(shard, image_ids))
        samples: list[Sample] = []
        pictures: list[NDArray[Any]] = []
        for row, name, found, encoded in zip(rows, names, arrays, self.encoder.encode(texts), strict=True):
            reason = (
                found
                if isinstance(found, str)
                else str(encoded)
                if isinstance(encoded, BadConversation)
                else ""
            )
            if isinstance(encoded, Sample) and not isinstance(found, str):
                samples.append(encoded)
                pictures += found
            else:
                source = self.conversations.sources[row.source]
                rejects.append(Reject(str(source.instructions), row.shard, name, reason))
        return samples, pictures

    def _pictures(self, shard: _Shard, image_ids: list[str]) -> list[NDArray[Any]] | str:
        """Pixels of each image, or the reason why not."""
        found = []
        for image_id in image_ids:
            index = shard.images.get(image_id)
            if index is None or shard.image_table is None:
                return f"image {image_id} is not in the corpus shard"
            cell = shard.image_table["image"][index].as_py() or {}
            try:
                found.append(self.pixels.get(image_id, cell.get("bytes") or b""))
            except BadImage as error:
                return f"image {image_id}: {error}"
        return found


def _add_stats(stats: dict[str, int], sample: Sample) -> None:
    """Counts for the log: tokens, learned ones, and those not learned by reason."""
    masked = np.bincount(sample.reasons[~sample.is_learned], minlength=len(Reason))
    for reason in Reason:
        if masked[reason]:
            key = f"masked_{reason.name.lower()}"
            stats[key] = stats.get(key, 0) + int(masked[reason])
    added = {
        "samples": 1,
        "tokens": len(sample.ids),
        "learned": int(sample.is_learned.sum()),
        "cut_off": sample.dropped,
    }
    for key, value in added.items():
        stats[key] = stats.get(key, 0) + value
