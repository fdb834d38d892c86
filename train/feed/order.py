"""Which row comes when: an order fixed by (seed, epoch) alone, the same for any number of workers.

Shards are permuted, ``window`` of them are held at a time, and rows are permuted inside a window. A position in the
order is a row; a batch is a fixed set of positions; so the number of finished steps is all a resume has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Rows of one shard that belong to an epoch: all ``rows``, or a random ``take`` of them."""

    source: int
    shard: int
    rows: int
    take: int
    repeat: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the mixture: ``row`` counts from 0 within the shard's (filtered) table."""

    source: int
    shard: int
    row: int


def units_of(rows: Sequence[Sequence[int]], weights: Sequence[float]) -> list[Unit]:
    """The units of an epoch.

    Args:
        rows: per source, per shard: number of rows.
        weights: per source: passes per epoch. The fraction takes that share of the source, spread over its shards.
    """
    units = []
    for source, (shards, weight) in enumerate(zip(rows, weights, strict=True)):
        whole, fraction = int(weight), weight % 1
        ends = np.floor(np.cumsum(shards) * fraction + 1e-9).astype(int)
        shares = np.diff(ends, prepend=0)
        for shard, count in enumerate(shards):
            units += [
                Unit(source=source, shard=shard, rows=count, take=count, repeat=repeat)
                for repeat in range(whole)
            ]
            units.append(Unit(source=source, shard=shard, rows=count, take=int(shares[shard]), repeat=whole))
    return [unit for unit in units if unit.take]


class Order:
    """The order of all epochs of a mixture."""

    def __init__(
        self, units: Sequence[Unit], *, seed: int, window: int, batch: int, group_batches: int
    ) -> None:
        self.units, self.seed, self.window, self.batch = list(units), seed, window, batch
        self.block = batch * group_batches
        self.rows_per_epoch = sum(unit.take for unit in units)
        self.batches_per_epoch = -(-self.rows_per_epoch // batch)
        self._window_rows = lru_cache(maxsize=4)(self._permuted_window)

    def _epoch_units(self, epoch: int) -> list[Unit]:
        return [self.units[i] for i in self._rng(epoch, 0).permutation(len(self.units))]

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _permuted_window(self, epoch: int, index: int) -> list[Row]:
        units = self._epoch_units(epoch)[index * self.window : (index + 1) * self.window]
        rng = self._rng(epoch, 1, index)
        rows: list[Row] = []
        for unit in units:
            chosen = range(unit.rows) if unit.take == unit.rows else rng.permutation(unit.rows)[: unit.take]
            rows += [Row(source=unit.source, shard=unit.shard, row=int(r)) for r in chosen]
        return [rows[i] for i in rng.permutation(len(rows))]

    def rows(self, epoch: int, start: int, stop: int) -> list[Row]:
        """Rows at positions ``start`` to ``stop`` of an epoch; only the windows they lie in are looked at."""
        units = self._epoch_units(epoch)
        found: list[Row] = []
        begin = 0
        for index in range(-(-len(units) // self.window)):
            size = sum(u.take for u in units[index * self.window : (index + 1) * self.window])
            low, high = max(start - begin, 0), min(stop - begin, size)
            if low < high:
                found += self._window_rows(epoch, index)[low:high]
            begin += size
        return found

    def batches(
        self, lengths: NDArray[np.int64], epoch: int, block: int, *, group: int
    ) -> list[NDArray[np.int64]]:
        """Cut a block into batches; each batch is indices into the block, shortest row first.

        Rows of similar length lie together in groups of ``group`` and each batch is made of random
        groups: little padding, and no batch of one length only.

        Args:
            lengths: [rows of the block] any measure of length.
        """
        by_length = np.lexsort((np.arange(len(lengths)), lengths))
        groups = [by_length[i : i + group] for i in range(0, len(by_length), group)]
        order = self._rng(epoch, 2, block).permutation(len(groups))
        shuffled = np.concatenate([groups[i] for i in order])
        cuts = [shuffled[i : i + self.batch] for i in range(0, len(shuffled), self.batch)]
        return [cut[np.lexsort((cut, lengths[cut]))] for cut in cuts]
