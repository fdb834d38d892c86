"""Which rows a page shows: a seeded sample of images in which every terminal state and every kind occurs.

Shards are chosen from the counts that `facts` found, images from four narrow columns, and only the rows of chosen
images are read whole; memory is that of one shard.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.datasets import Manifest, read_shard
from datagen.gallery.facts import Facts, is_of
from datagen.programs.draft import outcome
from datagen.records import Record, from_table

# Shards whose rows are shown: a few where they hold every state and kind, up to MAX_SHARDS where they do not.
FEW_SHARDS, MAX_SHARDS = 4, 12
MAX_ROWS = 48


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the user asked to see; ``state`` also stands for all states that begin with it."""

    images: int | None
    seed: int = 0
    state: str = ""
    kind: str = ""

    def wants(self, kind: str, key: str) -> bool:
        """Whether a row is asked for."""
        return is_of(key, self.state) and self.kind in ("", kind)


@dataclass(frozen=True, kw_only=True)
class Group:
    """What is shown as one card: all conversations about the same images, or one text-only family.

    ``covers`` are the states and kinds of its wanted rows, ``ids`` the rows to show, of ``rows`` in all.
    """

    shard: int
    place: int
    image_ids: tuple[str, ...]
    ids: tuple[str, ...]
    rows: int
    covers: frozenset[str] = frozenset()


@dataclass(kw_only=True)
class _Family:
    rows: list[str] = field(default_factory=list)
    covers: set[str] = field(default_factory=set)


def choose(uri: str, manifest: Manifest, facts: Facts, choice: Choice) -> tuple[list[Group], list[Group]]:
    """The groups to show: those that make every state and kind occur, and others at random.

    With ``choice.images`` None the second are all groups there are, in order.
    """
    rng = random.Random(f"{choice.seed}-groups")
    shards = _shards(facts, choice, rng)
    groups = [group for shard in shards for group in _groups(uri, manifest, shard, choice)]
    if choice.images is None:
        return [], groups
    return _cover(groups, choice.images, rng)


def missing(facts: Facts, choice: Choice, groups: Iterable[Group]) -> list[str]:
    """States and kinds that rows were asked for and found of, and that none of the groups shows."""
    there = {target for cells in facts.cells.values() for target in _targets(cells, choice)}
    return sorted(there.difference(*(group.covers for group in groups)))


def records_of(uri: str, manifest: Manifest, shard: int, groups: Sequence[Group]) -> dict[str, Record]:
    """The rows of groups of one shard, by id."""
    wanted = pa.array(sorted({name for group in groups for name in group.ids}), pa.string())
    found: dict[str, Record] = {}
    for stream in manifest.shards[shard].parts:
        table = read_shard(uri, shard, stream)
        found |= {r.id: r for r in from_table(table.filter(pc.is_in(table["id"], value_set=wanted)))}
    return found


def _covered(kind: str, key: str) -> set[str]:
    return {f"state {key}", f"kind {kind}"}


def _targets(cells: Counter[tuple[str, str]], choice: Choice) -> set[str]:
    wanted = (_covered(kind, key) for (kind, key), rows in cells.items() if rows and choice.wants(kind, key))
    return set().union(*wanted)


def _shards(facts: Facts, choice: Choice, rng: random.Random) -> list[int]:
    """Shards that together hold every state and kind asked for, greedily; for ``--all`` every shard."""
    covers = {k: _targets(cells, choice) for k, cells in facts.cells.items()}
    covers = {k: targets for k, targets in covers.items() if targets}
    if choice.images is None:
        return sorted(covers)
    order = rng.sample(sorted(covers), len(covers))
    left = {t for targets in covers.values() for t in targets}
    chosen: list[int] = []
    while order and len(chosen) < MAX_SHARDS and (left or len(chosen) < FEW_SHARDS):
        best = max(order, key=lambda k: len(covers[k] & left))
        order.remove(best)
        chosen.append(best)
        left -= covers[best]
    return sorted(chosen)


def _groups(uri: str, manifest: Manifest, shard: int, choice: Choice) -> list[Group]:
    columns = ["id", "image_ids", "parents", "kind", "state", "reason"]
    rows: list[dict[str, Any]] = []
    for stream in manifest.shards[shard].parts:
        rows += read_shard(uri, shard, stream, columns=columns, verify=False).to_pylist()
    parents = {str(r["id"]): tuple(r["parents"] or ()) for r in rows}
    cards: dict[tuple[tuple[str, ...], str], dict[str, _Family]] = {}
    for row in rows:
        name, images = str(row["id"]), tuple(row["image_ids"] or ())
        root = _root(name, parents)
        family = cards.setdefault((images, "" if images else root), {}).setdefault(root, _Family())
        family.rows.append(name)
        kind, key = str(row["kind"] or ""), outcome(str(row["state"]), str(row["reason"] or ""))
        if choice.wants(kind, key):
            family.covers |= _covered(kind, key)
    return [
        _group(shard, place, images, list(families.values()))
        for place, ((images, _), families) in enumerate(cards.items())
        if any(family.covers for family in families.values())
    ]


def _group(shard: int, place: int, images: tuple[str, ...], families: list[_Family]) -> Group:
    """Families that were asked for first; of an image with hundreds of conversations the first MAX_ROWS rows."""
    rows = sum(len(f.rows) for f in families)
    ids: list[str] = []
    covers: set[str] = set()
    for family in sorted(families, key=lambda f: not f.covers):
        if ids and len(ids) + len(family.rows) > MAX_ROWS:
            continue
        ids += family.rows[:MAX_ROWS]
        covers |= family.covers
    return Group(
        shard=shard, place=place, image_ids=images, ids=tuple(ids), rows=rows, covers=frozenset(covers)
    )


def _root(name: str, parents: dict[str, tuple[str, ...]]) -> str:
    """The first draft of a row's lineage; rows of other tools may go in circles."""
    seen = {name}
    while up := next((p for p in parents.get(name, ()) if p in parents and p not in seen), None):
        seen.add(up)
        name = up
    return name


def _cover(groups: list[Group], images: int, rng: random.Random) -> tuple[list[Group], list[Group]]:
    order = rng.sample(groups, len(groups))
    left = {t for group in groups for t in group.covers}
    chosen: list[Group] = []
    while left and order and len(chosen) < images:
        best = max(order, key=lambda group: len(group.covers & left))
        order.remove(best)
        chosen.append(best)
        left -= best.covers
    return chosen, order[: images - len(chosen)]
