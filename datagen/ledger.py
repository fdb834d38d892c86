"""What must outlive a worker: progress, and which rows were there when an engine died.

A row that kills engines is found by bisection. After ``deaths_allowed`` deaths at a shard its suspects (rows in work
at every one of them) are tried alone, half by half: a death blames the half, survival clears it. A row that dies alone
is quarantined; the job goes on without it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ShardLedger:
    """One shard's history. ``suspects`` None: any row."""

    begun: bool = False
    deaths: int = 0
    suspects: set[int] | None = None
    probing: set[int] | None = None
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

    def __init__(self, deaths_allowed: int, quarantine_limit: int) -> None:
        self.deaths_allowed, self.quarantine_limit = deaths_allowed, quarantine_limit
        self.totals: Counter[str] = Counter()
        self.engines: dict[str, tuple[float, int]] = {}
        self.shards: dict[int, ShardLedger] = {}

    def begin(self, shard: int, rows: int) -> Orders:
        """A worker takes a shard of ``rows`` rows. One that was begun before and neither finished nor reported died
        with its whole process: then nothing is known but which shards it had."""
        entry = self.shards.setdefault(shard, ShardLedger())
        if entry.begun:
            self._death(entry, None)
        entry.begun = True
        if entry.suspects is None and entry.deaths >= self.deaths_allowed:
            entry.suspects = set(range(rows)) - entry.quarantined
        return self._orders(shard, entry)

    def died(self, in_work: dict[int, list[int]]) -> None:
        """An engine died while these rows (by shard) were in work."""
        self.totals["engine_deaths"] += 1
        for shard, rows in in_work.items():
            entry = self.shards.setdefault(shard, ShardLedger())
            self._death(entry, set(rows))
            entry.begun = False

    def survived(self, shard: int) -> Orders:
        """The rows tried alone did the engine no harm."""
        entry = self.shards[shard]
        assert entry.suspects is not None and entry.probing is not None
        entry.suspects -= entry.probing
        entry.probing = None
        if not entry.suspects:
            entry.suspects, entry.deaths = None, 0  # the deaths had another cause
        return self._orders(shard, entry)

    def finish(self, shard: int) -> None:
        """The shard is committed."""
        self.shards.pop(shard, None)

    def _death(self, entry: ShardLedger, rows: set[int] | None) -> None:
        entry.deaths += 1
        if entry.probing is not None:
            entry.suspects, entry.probing = entry.probing, None
            if len(entry.suspects) == 1:
                entry.quarantined |= entry.suspects
                self.totals["quarantined"] += 1
                # Another such row is then searched for from the beginning.
                entry.suspects, entry.deaths = None, 0
        elif rows:
            # Two rows that each kill are never both in every death: then the last death counts.
            entry.suspects = ((entry.suspects or rows) & rows) or rows

    def _orders(self, shard: int, entry: ShardLedger) -> Orders:
        if len(entry.quarantined) > self.quarantine_limit:
            return Orders(
                stop=f"shard {shard}: {len(entry.quarantined)} rows have killed the engine, so it is hardly the rows. "
                "Look for the engine's own message above; a smaller max_num_seqs or max_model_len helps against too "
                "little memory. What is finished is kept: run the command again to continue."
            )
        if entry.suspects and entry.deaths >= self.deaths_allowed:
            several = sorted(entry.suspects)
            entry.probing = set(several[: max(1, len(several) // 2)])
            return Orders(probe=frozenset(entry.probing), quarantined=frozenset(entry.quarantined))
        return Orders(quarantined=frozenset(entry.quarantined))

    def add(self, counts: dict[str, int]) -> None:
        """More of anything that is counted."""
        self.totals.update(counts)

    def occupancy(self, worker: str, running: float, slots: int) -> None:
        """Calls a worker's engines had in work on average since its last word, of as many slots."""
        self.engines[worker] = (running, slots)

    def read(self) -> tuple[dict[str, int], float, int]:
        """All counts so far; calls in work and slots over all engines."""
        running = sum(r for r, _ in self.engines.values())
        return dict(self.totals), running, sum(slots for _, slots in self.engines.values())
