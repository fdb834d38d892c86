"""From links to decisions: clusters by union-find, one row of each stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

DROP_SCHEMA = pa.schema(
    [("ref", pa.int64()), ("kept", pa.string()), ("nearest", pa.string()), ("likeness", pa.float32())]
)


def unique(links: pa.Table) -> pa.Table:
    """Each pair once: rows that are very much alike meet in nearly every band."""
    found = links.group_by(["a", "b"]).aggregate([("likeness", "max")])
    return found.rename_columns(["a", "b", "likeness"])


def involved(links: pa.Table) -> np.ndarray:
    """The refs that links join, sorted, each once."""
    return np.unique(np.concatenate([links["a"].to_numpy(), links["b"].to_numpy()]))


def drops(links: pa.Table, refs: np.ndarray, orders: Sequence[str]) -> pa.Table:
    """The rows that go: of every cluster all but the first by (order, ref).

    Memory: about 100 bytes for each pair and row; pairs exist only where rows are alike.

    Args:
        links: of `buckets.LINK_SCHEMA`, each pair once, in any order.
        refs: from `involved`.
        orders: the order key of each ref.

    Returns:
        DROP_SCHEMA sorted by ref: ``kept`` is the order key of the row that stays, ``nearest`` that of the most similar
        row linked to this one (of equally similar ones the first).
    """
    left, right = (np.searchsorted(refs, links[side].to_numpy()) for side in ("a", "b"))
    order_of = np.array(orders, dtype=object)
    ranks = _ranks(order_of, refs)
    roots = union(len(refs), left, right, ranks)
    nearest, likeness = _nearest(len(refs), left, right, links["likeness"].to_numpy(), ranks)
    # The same row under the same name, as a picture stored in two shards, is no duplicate of itself.
    gone = np.flatnonzero(order_of[roots] != order_of)
    return pa.table(
        [
            pa.array(refs[gone]),
            pa.array(order_of[roots[gone]], pa.string()),
            pa.array(order_of[nearest[gone]], pa.string()),
            pa.array(likeness[gone], pa.float32()),
        ],
        schema=DROP_SCHEMA,
    )


def union(size: int, left: np.ndarray, right: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Connected components: for each of ``size`` nodes the node of the smallest rank in its component."""
    parent = list(range(size))
    rank = ranks.tolist()

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for x, y in zip(left.tolist(), right.tolist(), strict=True):
        x, y = find(x), find(y)
        if x != y:
            first, second = (x, y) if rank[x] < rank[y] else (y, x)
            parent[second] = first
    return np.array([find(node) for node in range(size)], dtype=np.int64)


def _ranks(orders: np.ndarray, refs: np.ndarray) -> np.ndarray:
    """Place of every node in the order by (order, ref)."""
    sequence = sorted(range(len(refs)), key=lambda n: (orders[n], refs[n]))
    ranks = np.empty(len(refs), dtype=np.int64)
    ranks[sequence] = np.arange(len(refs))
    return ranks


def _nearest(
    size: int, left: np.ndarray, right: np.ndarray, likeness: np.ndarray, ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For every node its most similar neighbour, and how similar that is."""
    node, other = np.concatenate([left, right]), np.concatenate([right, left])
    values = np.concatenate([likeness, likeness])
    # Written in ascending order of merit, so that the best neighbour of a node is written last.
    merit = np.lexsort((-ranks[other], values))
    best = np.arange(size)
    how = np.zeros(size, dtype=np.float32)
    best[node[merit]], how[node[merit]] = other[merit], values[merit]
    return best, how
