"""Which conversations of a step go through which forward pass of which worker.

A step is a fixed set of conversations and its loss is a mean over all of their learned tokens, so how they are dealt
out changes speed and memory but not what is learned. Every worker gets the same number of forward passes, because
workers meet in each of them (FSDP) or at the last (DDP); one that runs out of rows gets empty passes.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray

# By worker, by forward pass: indices of conversations.
Shares = list[list[NDArray[np.int64]]]


def pack(lengths: NDArray[np.int64], budget: int, world: int) -> Shares:
    """Rows of at most ``budget`` tokens, balanced over workers and passes: the longest conversation first, each into
    the emptiest row that has room (*ours*: greedy LPT with capacities; the number of passes is the least that works).

    Args:
        lengths: [conversations] tokens of each, none above ``budget``.
    """
    order = np.lexsort((np.arange(len(lengths)), -lengths))
    passes = max(1, math.ceil(int(lengths.sum()) / (budget * world)))
    while True:
        rows = _fill(lengths, order, budget, passes * world)
        if rows is not None:
            return [
                [np.sort(np.array(rows[p * world + rank], np.int64)) for p in range(passes)]
                for rank in range(world)
            ]
        passes += 1


def _fill(
    lengths: NDArray[np.int64], order: NDArray[np.int64], budget: int, count: int
) -> list[list[int]] | None:
    """``count`` rows, or None where a conversation finds no room."""
    rows: list[list[int]] = [[] for _ in range(count)]
    # (tokens so far, row): the emptiest row is the one with most room, so if it has none no other has.
    heap = [(0, row) for row in range(count)]
    for index in order.tolist():
        filled, row = heap[0]
        if filled + int(lengths[index]) > budget:
            return None
        rows[row].append(index)
        heapq.heapreplace(heap, (filled + int(lengths[index]), row))
    return rows


def pad(lengths: NDArray[np.int64], microbatch: int, world: int) -> Shares:
    """At most ``microbatch`` conversations a pass, of similar length: by worker, every ``world``-th of them from the
    shortest to the longest."""
    order = np.lexsort((np.arange(len(lengths)), lengths))
    passes = max(1, math.ceil(math.ceil(len(order) / world) / microbatch))
    return [
        [order[rank::world][p * microbatch : (p + 1) * microbatch] for p in range(passes)]
        for rank in range(world)
    ]
