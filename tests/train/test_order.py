"""The order of rows: every row once, the same for any number of workers, from any point on."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train.feed.order import Order, units_of

shards = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@settings(deadline=None)
@given(st.lists(shards, min_size=1, max_size=3), st.integers(0, 3), st.integers(1, 4), st.data())
def test_every_row_comes_as_often_as_its_weight_says(
    rows: list[list[int]], seed: int, window: int, data: st.DataObject
) -> None:
    weights = [data.draw(st.sampled_from([0.5, 1.0, 1.5, 2.0])) for _ in rows]
    order = Order(units_of(rows, weights), seed=seed, window=window, batch=4, group_batches=2)
    found = Counter((r.source, r.shard, r.row) for r in order.rows(0, 0, order.rows_per_epoch))
    for source, counts in enumerate(rows):
        total = sum(n for (s, _, _), n in found.items() if s == source)
        assert total == int(weights[source]) * sum(counts) + int(sum(counts) * (weights[source] % 1) + 1e-9)
        for shard, count in enumerate(counts):
            assert all(found[source, shard, row] >= int(weights[source]) for row in range(count))


def test_slices_agree_and_epochs_differ() -> None:
    order = Order(units_of([[7, 5, 9, 4]], [1.0]), seed=1, window=2, batch=4, group_batches=2)
    whole = order.rows(0, 0, 25)
    assert [r for low in range(0, 25, 3) for r in order.rows(0, low, low + 3)] == whole
    assert order.rows(1, 0, 25) != whole
    assert {*order.rows(1, 0, 25)} == {*whole}


def test_a_window_holds_few_shards() -> None:
    order = Order(units_of([[10] * 20], [1.0]), seed=0, window=3, batch=5, group_batches=1)
    for window in range(0, 180, 30):
        assert len({r.shard for r in order.rows(0, window, window + 30)}) == 3


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 6))
def test_batches_partition_a_block(lengths: list[int], batch: int, group: int) -> None:
    order = Order(units_of([[100]], [1.0]), seed=0, window=1, batch=batch, group_batches=4)
    cuts = order.batches(np.array(lengths), 0, 0, group=group)
    assert sorted(np.concatenate(cuts).tolist()) == list(range(len(lengths)))
    assert all(len(cut) == batch for cut in cuts[:-1])
    for cut in cuts:
        assert (np.diff(np.array(lengths)[cut]) >= 0).all()
