"""The ledger finds rows that kill engines, whichever they are, and never blames others."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.ledger import LOST_NODES, Ledger
from datagen.turns import Turns

ROWS = 24


def work(ledger: Ledger, poison: set[int], batch: int, silent: bool) -> tuple[set[int], int]:
    """A worker's life with one shard: rows go through in batches, those of ``poison`` kill the engine. Returns the
    rows quarantined at the end and the deaths it took. ``silent``: the whole process dies and reports nothing."""
    deaths = 0
    while True:
        orders = ledger.begin(0, ROWS)
        if orders.stop:
            raise RuntimeError(orders.stop)
        died: set[int] | None = None
        while orders.probe and died is None:
            ledger.trying(0)
            if orders.probe & poison:
                died = set(orders.probe)
            else:
                orders = ledger.survived(0)
        rows = [r for r in range(ROWS) if r not in orders.quarantined]
        while rows and died is None:
            now, rows = rows[:batch], rows[batch:]
            died = set(now) if poison & set(now) else None
        if died is None:
            ledger.finish(0)
            return set(orders.quarantined), deaths
        deaths += 1
        if not silent:
            ledger.died("w", {0: sorted(died), 1: []})


@settings(max_examples=200, deadline=None)
@given(
    poison=st.sets(st.integers(0, ROWS - 1), max_size=3),
    batch=st.integers(1, ROWS),
    silent=st.booleans(),
)
def test_exactly_the_poison_is_quarantined(poison: set[int], batch: int, silent: bool) -> None:
    found, deaths = work(Ledger(2, 8), poison, batch, silent)
    assert found == poison
    # Two deaths to be sure, then bisection: at most log2 of the rows and the controls, for each of them.
    assert deaths <= len(poison) * (2 + 5 + 2)


def test_chance_deaths_blame_nobody() -> None:
    ledger = Ledger(2, 8)
    for _ in range(2):
        assert not ledger.begin(0, 4).probe
        ledger.died("w", {0: [1, 2], 1: []})
    orders = ledger.begin(0, 4)
    assert orders.probe == {1}
    orders = ledger.survived(0)
    assert orders.probe == {2}, "each suspect is tried alone"
    orders = ledger.survived(0)
    assert not orders.probe and not orders.quarantined
    assert ledger.read()[0] == {"engine_deaths": 2}
    for _ in range(3):
        assert not ledger.begin(1, 4).probe, "a shard that had no row in work is charged with nothing"
        ledger.died("w", {1: []})


@settings(max_examples=100, deadline=None)
@given(
    poison=st.sets(st.integers(0, ROWS - 1), max_size=2),
    lost=st.lists(st.integers(0, 60), max_size=LOST_NODES, unique=True),
)
def test_lost_nodes_blame_nobody(poison: set[int], lost: list[int]) -> None:
    """Wherever in the search a machine is taken away: the poison is found, and nothing else."""
    gone: set[str] = set()
    ledger, step, deaths = Ledger(2, 8, gone.__contains__), 0, 0
    for life in range(200):
        orders, node, alive = ledger.begin(0, ROWS, f"n{life}"), f"n{life}", True
        while orders.probe and alive:
            ledger.trying(0)
            step += 1
            if step in lost:
                gone.add(node)
                alive = False
            elif orders.probe & poison:
                deaths, alive = deaths + 1, False
            else:
                orders = ledger.survived(0)
        step += 1
        if alive and step in lost:
            gone.add(node)
        elif alive and poison - orders.quarantined:
            deaths += 1
        elif alive:
            assert orders.quarantined == poison and deaths <= len(poison) * (2 + 5 + 2)
            return
    raise AssertionError("never done")


@settings(max_examples=100, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, ROWS - 1)), max_size=3), st.booleans())
def test_a_trial_that_waits_is_not_blamed_for_another(poison: set[tuple[int, int]], reports: bool) -> None:
    """One worker with three shards, whose trials go one after the other; its death is silent or reported."""
    ledger = Ledger(2, 8)
    for _ in range(200):
        orders = {shard: ledger.begin(shard, ROWS) for shard in range(3)}
        in_work: dict[int, list[int]] | None = None
        for shard in range(3):
            while orders[shard].probe and in_work is None:
                ledger.trying(shard)
                if any((shard, row) in poison for row in orders[shard].probe):
                    in_work = {s: sorted(orders[s].probe) if s == shard else [] for s in range(3)}
                else:
                    orders[shard] = ledger.survived(shard)
        if in_work is None:
            left = {s: [r for r in range(ROWS) if r not in orders[s].quarantined] for s in range(3)}
            if any((s, r) in poison for s in left for r in left[s]):
                in_work = left
        if in_work is None:
            assert {(s, r) for s in orders for r in orders[s].quarantined} == poison
            return
        if reports:
            ledger.died("w", in_work)
    raise AssertionError("never done")


def test_rows_that_take_nodes_down_are_found_in_the_end() -> None:
    ledger = Ledger(2, 8, lambda node: True)
    for _ in range(LOST_NODES + 30):
        orders = ledger.begin(0, 4, "n")
        while orders.probe and 2 not in orders.probe:
            orders = ledger.survived(0)
        ledger.trying(0)
        if 2 in orders.quarantined:
            return
    raise AssertionError("never found")


def test_an_outage_blames_no_row() -> None:
    """The engine dies whatever it is given, and is well again later: nothing is quarantined."""
    ledger, attempts = Ledger(2, 8), 0
    while not (orders := ledger.begin(0, ROWS)).stop:
        attempts += 1
        ledger.died("w", {0: sorted(orders.probe) or [0, 1, 2]})
    assert attempts < 12 and "hardly the rows" in orders.stop and not orders.quarantined
    assert ledger.read()[0] == {"engine_deaths": attempts}


def test_work_done_again_counts_once() -> None:
    ledger = Ledger(2, 8)
    ledger.begin(0, 4)
    ledger.add("w", {"calls": 5}, {0: {"images": 3}}, (2, 8))
    ledger.died("w", {0: [3]})
    assert ledger.read()[2:] == (0, 0), "slots of the engine that is gone"
    ledger.begin(0, 4)
    ledger.add("v", {"calls": 7}, {0: {"images": 4}}, (1, 8))
    counts, running, slots, workers = ledger.read()
    assert (counts["images"], counts["calls"], running, slots, workers) == (4, 12, 1, 8, 1)


def test_an_engine_that_always_dies_is_not_blamed_on_rows() -> None:
    with pytest.raises(RuntimeError, match="hardly the rows"):
        work(Ledger(1, 3), set(range(ROWS)), 4, False)


def test_alone_waits_for_all_and_goes_first() -> None:
    async def scene() -> list[str]:
        turns, said = Turns(), []

        async def together(name: str) -> None:
            async with turns.together():
                said.append(f"{name} in")
                await asyncio.sleep(0.01)
                said.append(f"{name} out")

        async def alone() -> None:
            async with turns.alone():
                said.append("alone in")
                await asyncio.sleep(0.01)
                said.append("alone out")

        async with asyncio.TaskGroup() as group:
            group.create_task(together("a"))
            group.create_task(together("b"))
            await asyncio.sleep(0.001)
            group.create_task(alone())
            await asyncio.sleep(0.001)
            group.create_task(together("late"))
        return said

    said = asyncio.run(scene())
    assert said[:2] == ["a in", "b in"]
    assert said[4:] == ["alone in", "alone out", "late in", "late out"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=12))
def test_counts_are_those_of_the_attempts_that_count(attempts: list[tuple[int, int, bool]]) -> None:
    """(shard, images, whether it was finished): an attempt that was not is replaced by the next one of its shard, one
    that comes after a finished one counts for nothing."""
    ledger, expected, finished = Ledger(100, 8), {}, set()
    for shard, images, ends in attempts:
        ledger.begin(shard, 4)
        for _ in range(images):
            ledger.add("w", {"calls": 1}, {shard: {"images": 1}}, (1, 4))
        if shard not in finished:
            expected[shard] = images
        if ends:
            ledger.finish(shard)
            finished.add(shard)
    counts = ledger.read()[0]
    assert counts.get("images", 0) == sum(expected.values())
    assert counts.get("calls", 0) == sum(images for _, images, _ in attempts), (
        "engines were asked all the same"
    )
    assert not finished & ledger.rows.keys(), "finished shards cost nothing more"


def test_a_ledger_that_was_made_anew_lets_the_shard_go_on() -> None:
    # Its process died between a worker's question and the trial's end.
    anew = Ledger(1, 8)
    orders = anew.survived(3)
    assert not orders.probe and not orders.stop
    anew.finish(3)
    assert anew.begin(4, 10).probe == frozenset()
