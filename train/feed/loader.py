"""Prepare the next steps while the current one computes: in a thread, or in processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from train.config import TrainConfig
from train.feed.batch import StepBatch

T = TypeVar("T")
# Steps that each loader process prepares ahead; a step of a large model takes seconds, so two are plenty.
_AHEAD = 2


def load_steps(
    cfg: TrainConfig, data: Any, start: int, stop: int, *, rank: int, world: int, pin: bool
) -> Iterator[StepBatch]:
    """Steps ``start`` to ``stop`` of one worker, in order, prepared ahead.

    With ``cfg.loaders`` processes, process i of n prepares every n-th step with a reader of its own: tokenising and
    decoding then do not share the interpreter lock with the thread that launches kernels.

    Args:
        data: what the thread reads from where there are no processes.
        pin: hand out page-locked memory (processes only), from which copies to a GPU overlap with its work.
    """
    if cfg.loaders == 0:
        return prefetch(islice(data.steps(start, rank=rank, world=world), stop - start))
    loader = DataLoader(
        _Steps(cfg, start, stop, rank, world),
        batch_size=None,
        num_workers=min(cfg.loaders, max(1, stop - start)),
        prefetch_factor=_AHEAD,
        pin_memory=pin,
        # A fork would copy the locks of torch's and Ray's threads.
        multiprocessing_context="spawn",
    )
    return iter(loader)


class _Steps(IterableDataset[StepBatch]):
    """The steps of one loader process; DataLoader asks its processes in turn, which restores the order."""

    def __init__(self, cfg: TrainConfig, start: int, stop: int, rank: int, world: int) -> None:
        self.cfg, self.start, self.stop, self.rank, self.world = cfg, start, stop, rank, world

    def __iter__(self) -> Iterator[StepBatch]:
        from train.build import open_data

        torch.set_num_threads(1)
        info = get_worker_info()
        assert info is not None
        first = self.start + info.id
        count = max(0, -(-(self.stop - first) // info.num_workers))
        data = open_data(self.cfg)
        steps = data.steps(first, rank=self.rank, world=self.world, stride=info.num_workers)
        return islice(steps, count)


def prefetch(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """The same items in the same order, made in a thread up to ``depth`` ahead; an error there is raised here."""
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
