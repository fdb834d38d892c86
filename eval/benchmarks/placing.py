"""Which row of an import lies in which shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from eval.benchmarks.gold import GoldReject, GoldRow
from eval.benchmarks.subset import smallest


@dataclass
class Shard:
    """What one shard of both data sets will hold."""

    images: list[str] = field(default_factory=list)
    rows: list[GoldRow] = field(default_factory=list)
    rejects: list[GoldReject] = field(default_factory=list)


def limited(rows: list[GoldRow], limit: int | None) -> list[GoldRow]:
    """The rows of the lite subset, in their old order; a limit is per part, since each part is a task."""
    if limit is None:
        return rows
    parts: dict[str, list[GoldRow]] = {}
    for row in rows:
        parts.setdefault(row.part, []).append(row)
    keep = {id(row) for part in parts.values() for row in smallest(part, limit)}
    return [row for row in rows if id(row) in keep]


def place(rows: Sequence[GoldRow], rejects: list[GoldReject], size: int) -> list[Shard]:
    """Rows into shards of about ``size`` pictures, each with all rows about its pictures; a row without one weighs as
    much as a picture."""
    shards = [Shard()]
    weight = 0
    home: dict[str, int] = {}
    for row in rows:
        there = {home[name] for name in row.image_ids if name in home}
        if len(there) > 1:
            detail = "its pictures are those of rows in different shards; import with a larger --shard-images"
            rejects.append(GoldReject(id=row.id, reason="image_group", detail=detail, where=row.where))
            continue
        fresh = [name for name in dict.fromkeys(row.image_ids) if name not in home]
        if not there:
            if weight >= size:
                shards.append(Shard())
                weight = 0
            weight += max(1, len(fresh))
        at = there.pop() if there else len(shards) - 1
        home |= dict.fromkeys(fresh, at)
        shards[at].images += fresh
        shards[at].rows.append(row)
    shards[-1].rejects += rejects
    return shards
