"""Pairs within the buckets of a search by bands: which of the rows that share a key are alike.

A bucket of n rows yields at most n - 1 links, a spanning forest of its groups of like rows, so that a phrase that a
million rows repeat costs a million links and not half a trillion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

# Likeness of one row with others: (columns,), (n, columns) -> (n,), larger is more alike.
Likeness = Callable[[np.ndarray, np.ndarray], np.ndarray]

ENTRY_SCHEMA = pa.schema(
    [("key", pa.uint64()), ("ref", pa.int64()), ("order", pa.string()), ("sketch", pa.binary())]
)
LINK_SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("likeness", pa.float32())])


def links(entries: pa.Table, likeness: Likeness, least: float) -> pa.Table:
    """Links between like rows of equal key, as LINK_SCHEMA with ``a`` < ``b``.

    Args:
        entries: of ENTRY_SCHEMA, in any order; all rows of a key must be here. ``ref`` names a row, ``order`` decides
            which rows are looked at first, so that the result does not depend on the order of the input.
        likeness: of sketches, as uint8.
        least: links are pairs at least this much alike.
    """
    entries = entries.sort_by([("key", "ascending"), ("order", "ascending"), ("ref", "ascending")])
    keys, refs = entries["key"].to_numpy(), entries["ref"].to_numpy()
    sketches = _matrix(entries["sketch"])
    found: list[tuple[int, int, float]] = []
    for start, end in _runs(keys):
        inside = _forest(sketches[start:end], likeness, least)
        found += [
            (start + a, start + b, value) for a, b, value in inside if refs[start + a] != refs[start + b]
        ]
    one, other = (refs[np.array([link[side] for link in found], dtype=np.int64)] for side in (0, 1))
    values = np.array([value for _, _, value in found], dtype=np.float32)
    columns = [np.minimum(one, other), np.maximum(one, other), values]
    return pa.table([pa.array(column) for column in columns], schema=LINK_SCHEMA)


def _matrix(sketches: pa.ChunkedArray) -> np.ndarray:
    """Sketches of one length as uint8 (rows, columns), without a copy where they lie in one piece."""
    array = sketches.combine_chunks()
    if not len(array):
        return np.empty((0, 0), dtype=np.uint8)
    width = len(array[0].as_py())
    data = np.frombuffer(array.buffers()[2], dtype=np.uint8)
    return data[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def _runs(keys: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, end) of the runs of equal keys longer than one."""
    edges = (
        np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1], [True]]))
        if len(keys)
        else np.array([0])
    )
    for start in np.flatnonzero(np.diff(edges) > 1):
        yield int(edges[start]), int(edges[start + 1])


def _forest(sketches: np.ndarray, likeness: Likeness, least: float) -> Iterator[tuple[int, int, float]]:
    """Breadth first through the graph of like rows: each row is compared once with those not reached yet.

    n comparisons of one with many at worst, when nothing is alike; far fewer where much is.
    """
    rest = np.arange(len(sketches))
    while len(rest):
        queue, rest = deque([int(rest[0])]), rest[1:]
        while queue and len(rest):
            leader = queue.popleft()
            alike = likeness(sketches[leader], sketches[rest])
            near = alike >= least
            if near.any():
                for row, value in zip(rest[near].tolist(), alike[near].tolist(), strict=True):
                    yield leader, row, value
                    queue.append(row)
                rest = rest[~near]
