"""How conversations are dealt out to forward passes and workers."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from train.feed.packing import Shares, pack, pad

lengths_of_a_step = st.lists(st.integers(1, 64), max_size=40)


def dealt(shares: Shares) -> list[int]:
    return sorted(int(i) for worker in shares for one in worker for i in one)


@settings(deadline=None)
@given(lengths_of_a_step, st.integers(1, 5), st.integers(64, 200))
def test_packs_hold_every_row_once_within_the_budget(lengths: list[int], world: int, budget: int) -> None:
    shares = pack(np.array(lengths, np.int64), budget, world)
    assert dealt(shares) == list(range(len(lengths)))
    assert len(shares) == world
    assert len({len(worker) for worker in shares}) == 1, "workers meet in every pass"
    assert all(sum(lengths[i] for i in one) <= budget for worker in shares for one in worker)


def test_packs_are_few_and_even() -> None:
    lengths = np.random.default_rng(0).integers(20, 600, 256)
    shares = pack(lengths, 4096, 4)
    assert len(shares[0]) == -(-int(lengths.sum()) // (4 * 4096)), "no more passes than the tokens need"
    loads = [sum(int(lengths[i]) for one in worker for i in one) for worker in shares]
    assert max(loads) < 1.02 * min(loads), "the slowest worker is what a step waits for"


@settings(deadline=None)
@given(lengths_of_a_step, st.integers(1, 5), st.integers(1, 7))
def test_padded_passes_hold_every_row_once(lengths: list[int], world: int, microbatch: int) -> None:
    shares = pad(np.array(lengths, np.int64), microbatch, world)
    assert dealt(shares) == list(range(len(lengths)))
    assert len({len(worker) for worker in shares}) == 1
    for one in (one for worker in shares for one in worker):
        assert len(one) <= microbatch
        assert (np.diff(np.array(lengths)[one]) >= 0).all(), "similar lengths lie together"
