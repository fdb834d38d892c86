"""The ledger finds rows that kill engines, whichever they are, and never blames others."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.ledger import Ledger
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
            ledger.died({0: sorted(died)})


@settings(max_examples=200, deadline=None)
@given(
    poison=st.sets(st.integers(0, ROWS - 1), max_size=3),
    batch=st.integers(1, ROWS),
    silent=st.booleans(),
)
def test_exactly_the_poison_is_quarantined(poison: set[int], batch: int, silent: bool) -> None:
    found, deaths = work(Ledger(2, 8), poison, batch, silent)
    assert found == poison
    # Two deaths to be sure, then bisection: at most log2 of the rows, for each of them.
    assert deaths <= len(poison) * (2 + 5)


def test_chance_deaths_blame_nobody() -> None:
    ledger = Ledger(2, 8)
    for _ in range(2):
        assert not ledger.begin(0, 4).probe
        ledger.died({0: [1, 2], 1: [7]})
    orders = ledger.begin(0, 4)
    assert orders.probe == {1}
    orders = ledger.survived(0)
    assert orders.probe == {2}, "each suspect is tried alone"
    orders = ledger.survived(0)
    assert not orders.probe and not orders.quarantined
    assert ledger.read()[0] == {"engine_deaths": 2}


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
