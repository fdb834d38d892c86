"""What must outlive a worker: progress, and which rows were there when an engine died.

A row that kills engines is found by bisection. After ``deaths_allowed`` deaths at a shard its suspects (rows in work
at every one of them) are tried alone, half by half: a death blames the half, survival clears it. A row that dies alone
is quarantined once the engine has survived other rows since the search began; where it survives none, nothing is wrong
with the rows and the run stops.

A worker whose node is gone says nothing about its rows: machines are taken away all the time. A shard is forgiven
`LOST_NODES` of them, then a row that takes whole nodes down is searched for like any other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

CONTROLS = 3
# A worker reports whenever a row ends; one that has said nothing for so long is gone or idle.
SILENT_S = 120.0
LOST_NODES = 8


@dataclass
class ShardLedger:
    """One shard's history. ``suspects`` None: any row. ``condemned`` has died alone and waits for a control.
    ``probing`` are the rows to be tried alone; only while ``trying`` are they."""

    rows: int = 0
    begun: bool = False
    node: str = ""
    lost_nodes: int = 0
    deaths: int = 0
    suspects: set[int] | None = None
    probing: set[int] | None = None
    trying: bool = False
    survived: bool = False
    condemned: int | None = None
    controls: list[int] = field(default_factory=list)
    outage: bool = False
    quarantined: set[int] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a worker is to do with a shard: try ``probe`` alone and report back, or where it is empty run all rows but
    the quarantined ones. ``stop`` is why the run must end instead."""

    probe: frozenset[int] = frozenset()
    quarantined: frozenset[int] = frozenset()
    stop: str = ""


class Ledger:
    """Actor state outside the workers. All methods are called remotely; none waits."""

    def __init__(
        self, deaths_allowed: int, quarantine_limit: int, is_lost: Callable[[str], bool] = lambda node: False
    ) -> None:
        self.deaths_allowed, self.quarantine_limit = deaths_allowed, quarantine_limit
        self.is_lost = is_lost
        self.totals: Counter[str] = Counter()
        # Of shards in work only: to sum up 100,000 for every look at the progress takes a third of each second.
        self.rows: dict[int, Counter[str]] = {}
        self.finished: set[int] = set()
        self.engines: dict[str, tuple[float, int, float]] = {}
        self.shards: dict[int, ShardLedger] = {}

    def begin(self, shard: int, rows: int, node: str = "") -> Orders:
        """A worker on ``node`` takes a shard of ``rows`` rows. One that was begun before and neither finished nor
        reported died with its whole process: then nothing is known but which shards it had, and where it was."""
        entry = self.shards.setdefault(shard, ShardLedger())
        self.rows.pop(shard, None)  # what was counted of it is done again
        # A trial that waited for its turn while another shard had it says nothing about its rows.
        waited = entry.probing is not None and not entry.trying
        if entry.begun and entry.lost_nodes < LOST_NODES and self.is_lost(entry.node):
            entry.lost_nodes += 1
        elif entry.begun and not waited:
            self._death(entry, None)
        entry.begun, entry.rows, entry.node, entry.trying = True, rows, node, False
        if entry.suspects is None and entry.condemned is None and entry.deaths >= self.deaths_allowed:
            entry.suspects, entry.survived = set(range(rows)) - entry.quarantined, False
        return self._orders(shard, entry)

    def died(self, worker: str, in_work: dict[int, list[int]]) -> None:
        """A worker lost its engine while these rows were in work, by shard, for all shards it had begun: one that had
        none in work is not charged with anything."""
        self.totals["engine_deaths"] += 1
        self.engines.pop(worker, None)
        for shard, rows in in_work.items():
            entry = self.shards.setdefault(shard, ShardLedger())
            entry.begun = False
            if rows:
                self._death(entry, set(rows))

    def trying(self, shard: int) -> None:
        """The rows of the shard's orders are asked for now, and nothing else is."""
        self.shards.setdefault(shard, ShardLedger(begun=True)).trying = True

    def survived(self, shard: int) -> Orders:
        """The rows tried alone did the engine no harm. A ledger that was made anew meanwhile knows of no trial."""
        entry = self.shards.setdefault(shard, ShardLedger(begun=True))
        entry.trying = False
        if entry.probing is None:
            return self._orders(shard, entry)
        if entry.condemned is not None:
            self._quarantine(entry, entry.condemned)
        else:
            assert entry.suspects is not None
            entry.suspects -= entry.probing
            entry.survived = True
            if not entry.suspects:
                entry.suspects, entry.deaths = None, 0  # the deaths had another cause
        entry.probing = None
        return self._orders(shard, entry)

    def finish(self, shard: int) -> None:
        """The shard is committed: its counts stand, also where Ray has it done once more."""
        self.shards.pop(shard, None)
        self.totals.update(self.rows.pop(shard, {}))
        self.finished.add(shard)

    def _death(self, entry: ShardLedger, rows: set[int] | None) -> None:
        entry.deaths += 1
        probed, entry.probing = entry.probing, None
        if probed is None:
            if rows:
                # Two rows that each kill are never both in every death: then the last death counts.
                entry.suspects = ((entry.suspects or rows) & rows) or rows
        elif entry.condemned is not None:
            entry.outage = not entry.controls  # the engine did not survive any other row either
        elif len(probed) > 1:
            entry.suspects = probed
        elif entry.survived or entry.rows == 1:
            self._quarantine(entry, *probed)
        else:
            (entry.condemned,) = probed
            others = [r for r in range(entry.rows) if r not in (entry.condemned, *entry.quarantined)]
            step = max(1, len(others) // CONTROLS)
            entry.controls = others[step // 2 :: step][:CONTROLS]
            entry.outage = not others

    def _quarantine(self, entry: ShardLedger, row: int) -> None:
        entry.quarantined.add(row)
        self.totals["quarantined"] += 1
        # Another such row is then searched for from the beginning.
        entry.condemned, entry.suspects, entry.deaths = None, None, 0

    def _orders(self, shard: int, entry: ShardLedger) -> Orders:
        if entry.outage or len(entry.quarantined) > self.quarantine_limit:
            return Orders(
                stop=f"shard {shard}: the engine dies whatever row it is given, so it is hardly the rows. "
                "Look for the engine's own message above; a smaller max_num_seqs or max_model_len helps against too "
                "little memory. What is finished is kept: run the command again to continue."
            )
        if entry.probing is not None:
            pass  # its node was lost, or another shard's trial killed the process: once more
        elif entry.condemned is not None:
            entry.probing = {entry.controls.pop()}
        elif entry.suspects and entry.deaths >= self.deaths_allowed:
            several = sorted(entry.suspects)
            entry.probing = set(several[: max(1, len(several) // 2)])
        return Orders(probe=frozenset(entry.probing or ()), quarantined=frozenset(entry.quarantined))

    def add(
        self, worker: str, calls: dict[str, int], rows: dict[int, dict[str, int]], load: tuple[int, int]
    ) -> None:
        """More calls and tokens, more rows and states by shard, and a worker's calls in work of its slots."""
        self.totals.update(calls)
        for shard, counts in rows.items():
            if shard in self.finished:
                continue
            self.rows.setdefault(shard, Counter()).update(counts)
        self.engines[worker] = (*load, time.monotonic())

    def read(self) -> tuple[dict[str, int], int, int, int]:
        """All counts so far; calls in work, slots and workers heard of lately."""
        counts = self.totals.copy()
        for of in self.rows.values():
            counts.update(of)
        lately = [e for e in self.engines.values() if time.monotonic() - e[2] < SILENT_S]
        return dict(counts), sum(int(e[0]) for e in lately), sum(e[1] for e in lately), len(lately)


def lost(node: str) -> bool:
    """Whether Ray has given up a node that it once had."""
    import ray

    return any(known["NodeID"] == node and not known["Alive"] for known in ray.nodes())
