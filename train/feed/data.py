"""The steps of a run as one worker sees them: rows from the order, encoded, dealt out, with their pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datagen.corpus import BadImage
from train.config import TrainConfig
from train.feed.batch import LanguageMicrobatch, Reject, StepBatch, collate
from train.feed.mixture import Mixture, Shard, turns_of
from train.feed.order import Order, Row, units_of
from train.feed.packing import pack, pad
from train.feed.pictures import Picture, Pictures
from train.mask.encode import Conversation, Encoder, Sample
from train.mask.labels import Reason
from train.mask.render import BadConversation
from train.models.families import MRope


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A row with its tokens, before its pictures are decoded."""

    row: Row
    name: str
    image_ids: list[str]
    sample: Sample


class LanguageData:
    """All batches of a run, for one worker; holds no weights, so that a loader process can have its own."""

    def __init__(
        self, cfg: TrainConfig, encoder: Encoder, pictures: Pictures, mrope: MRope | None = None
    ) -> None:
        self.encoder, self.pictures, self.mrope = encoder, pictures, mrope
        self.packed = cfg.microbatch_tokens is not None
        deal = partial(pack, budget=cfg.microbatch_tokens) if cfg.microbatch_tokens else None
        self._deal = deal or partial(pad, microbatch=cfg.microbatch)
        self._group_rows = cfg.group_rows
        # A block may reach into the next window; both stay readable.
        self.mixture = Mixture(cfg.data, keep=2 * cfg.window_shards, per_image=_typical_tokens(pictures))
        self.order = Order(
            units_of(self.mixture.row_counts(), [source.weight for source in cfg.data]),
            seed=cfg.seed,
            window=cfg.window_shards,
            batch=cfg.global_batch,
            # Packed rows are full whatever they are made of; padded ones want their like.
            group_batches=1 if self.packed else cfg.group_batches,
        )
        pad_id = encoder.tokenizer.pad_token_id
        self.pad_id = 0 if pad_id is None else int(pad_id)

    def steps(self, start: int, *, rank: int = 0, world: int = 1, stride: int = 1) -> Iterator[StepBatch]:
        """Steps ``start``, ``start + stride``, … for ever."""
        for number, (epoch, block, cut) in enumerate(self._cuts(start)):
            if number % stride == 0:
                rows = self.order.rows(epoch, block * self.order.block, (block + 1) * self.order.block)
                yield self._step([rows[i] for i in self._batch(epoch, block, rows, cut)], rank, world)

    def _cuts(self, start: int) -> Iterator[tuple[int, int, int]]:
        """(epoch, block, batch within the block) of each step from ``start`` on."""
        per_block = self.order.block // self.order.batch
        step = start
        while True:
            epoch, batch = divmod(step, self.order.batches_per_epoch)
            yield epoch, *divmod(batch, per_block)
            step += 1

    def _batch(self, epoch: int, block: int, rows: list[Row], cut: int) -> NDArray[np.int64]:
        """Indices into the rows of a block that make one of its batches."""
        if self.packed:
            return np.arange(len(rows))
        return self.order.batches(self.mixture.lengths(rows), epoch, block, group=self._group_rows)[cut]

    def _step(self, rows: list[Row], rank: int, world: int) -> StepBatch:
        encoded, rejects = self.encode(rows)
        lengths = np.array([len(e.sample.ids) for e in encoded], np.int64)
        # Every worker encodes every row and finds the same shares; each rejected text is one worker's to report.
        rejects = rejects[rank::world]
        stats: dict[str, int] = {"samples": 0}
        microbatches = [
            self._microbatch([encoded[i] for i in share], rejects, stats)
            for share in self._deal(lengths, world=world)[rank]
        ]
        stats["slots"] = sum(m.ids.numel() for m in microbatches if m.names)
        return StepBatch(microbatches=microbatches, rows=len(rows), rejects=rejects, stats=stats)

    def encode(self, rows: list[Row]) -> tuple[list[Encoded], list[Reject]]:
        """Tokens of the rows, and the rows that have none."""
        found: list[tuple[Row, Any, str]] = []
        texts: list[Conversation] = []
        for row in rows:
            shard = self.mixture.shard(row.source, row.shard)
            values = shard.table.slice(row.row, 1).to_pylist()[0]
            sizes = [shard.size(name) for name in values["image_ids"] or []]
            missing = [n for n, size in zip(values["image_ids"] or [], sizes, strict=True) if size is None]
            found.append((row, values, f"image {missing[0]} is not in the corpus shard" if missing else ""))
            turns = turns_of(values, self.mixture.sources[row.source])
            texts.append((turns, [] if missing else [s for s in sizes if s]))
        encoded, rejects = [], []
        for (row, values, reason), sample in zip(found, self.encoder.encode(texts), strict=True):
            if reason or isinstance(sample, BadConversation):
                rejects.append(self._reject(row, str(values["id"]), reason or str(sample)))
                continue
            name, image_ids = str(values["id"]), values["image_ids"] or []
            encoded.append(Encoded(row=row, name=name, image_ids=image_ids, sample=sample))
        return encoded, rejects

    def _microbatch(
        self, share: list[Encoded], rejects: list[Reject], stats: dict[str, int]
    ) -> LanguageMicrobatch:
        """One forward pass; rows whose pictures cannot be used go to ``rejects``."""
        kept: list[Encoded] = []
        groups: list[list[Picture]] = []
        for encoded in share:
            shard = self.mixture.shard(encoded.row.source, encoded.row.shard)
            try:
                groups.append(self._decode(shard, encoded.image_ids))
            except BadImage as error:
                rejects.append(self._reject(encoded.row, encoded.name, str(error)))
                continue
            kept.append(encoded)
            _add_stats(stats, encoded.sample)
            values = sum(picture.arrays["pixel_values"].size for picture in groups[-1])
            stats["pixel_values"] = stats.get("pixel_values", 0) + values
        return collate(
            [e.sample for e in kept],
            [self._positions(e.sample, group) for e, group in zip(kept, groups, strict=True)],
            self.pictures.batch([p for group in groups for p in group]) if any(groups) else {},
            [e.name for e in kept],
            packed=self.packed,
            pad_id=self.pad_id,
        )

    def _decode(self, shard: Shard, image_ids: list[str]) -> list[Picture]:
        pictures = []
        for image_id in image_ids:
            try:
                pictures.append(self.pictures.get(image_id, partial(shard.image, image_id)))
            except BadImage as error:
                raise BadImage(f"image {image_id}: {error}") from error
        return pictures

    def _positions(self, sample: Sample, pictures: list[Picture]) -> Tensor:
        """[axes, tokens]"""
        if self.mrope is None:
            return torch.arange(len(sample.ids))[None]
        grids = [picture.arrays["image_grid_thw"] for picture in pictures]
        return self.mrope(
            torch.from_numpy(sample.ids), torch.from_numpy(np.concatenate(grids)) if grids else None
        )

    def _reject(self, row: Row, name: str, reason: str) -> Reject:
        return Reject(str(self.mixture.sources[row.source].instructions), row.shard, name, reason)


def _typical_tokens(pictures: Pictures) -> int:
    """Tokens of a middling picture, for lengths that only sort rows."""
    return len(pictures.placeholder((336, 336)).ids)


_MASKED = {int(reason): f"masked_{reason.name.lower()}" for reason in Reason}


def _add_stats(stats: dict[str, int], sample: Sample) -> None:
    """Counts for the log: tokens, learned ones, and those not learned by reason."""
    masked = np.bincount(sample.reasons[~sample.is_learned], minlength=len(Reason))
    for reason in np.flatnonzero(masked):
        key = _MASKED[reason]
        stats[key] = stats.get(key, 0) + int(masked[reason])
    added = {
        "samples": 1,
        "tokens": len(sample.ids),
        "learned": int(sample.is_learned.sum()),
        "cut_off": sample.dropped,
        "moved": int(sample.moved),
        # For the arithmetic of a step: attention reads half of the square of each conversation.
        "squares": len(sample.ids) ** 2,
    }
    for key, value in added.items():
        stats[key] = stats.get(key, 0) + value
