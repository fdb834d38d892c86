"""Third pass over a shard: rows that stay, rows that go with the reason, and all that had gone before."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

from cluster.datasets import ShardEntry, commit_shard, read_manifest, read_shard
from datagen.curate.collisions import dropped, dropped_pictures
from datagen.curate.config import CurateConfig
from datagen.curate.shards import Work
from datagen.curate.signatures import read_table, scratch
from datagen.gates import image_duplicate, near_duplicate
from datagen.programs.draft import outcome
from datagen.records import GateResult, Record, from_table, to_table


def writing(config: dict[str, Any]) -> Work:
    """The work of the third pass."""
    settings = CurateConfig.model_validate(config)
    return lambda k: write(settings, k)


def write(config: CurateConfig, k: int) -> dict[str, int]:
    """Commit shard ``k``: the same rows as in the source, some of them now rejected.

    The rejects of the source are carried over, so that the books and the families of rows stay whole in one place.
    """
    begun = time.monotonic()
    entry = read_manifest(config.source).shards[k]
    before = {stream: from_table(read_shard(config.source, k, stream)) for stream in entry.parts}
    rows = before.get("rows", [])
    found = findings(config, k, rows)
    judged = [judge(row, found.get(n, []), config.dropping) for n, row in enumerate(rows)]
    kept = [row for row in judged if row.state != "rejected"]
    gone = [row for row in judged if row.state == "rejected"]
    rejects = before.get("rejects", []) + gone
    states = Counter(outcome(r.state, r.reason) for r in kept + rejects)
    commit_shard(
        config.output,
        k,
        {"rows": to_table(kept), "rejects": to_table(rejects)},
        counts=dict(sorted(states.items())),
        tokens=_account(entry, config, found, gone),
        seconds=time.monotonic() - begun,
        inputs=sum(len(stream) for stream in before.values()),
    )
    return {"rows": len(rows)}


def findings(config: CurateConfig, k: int, rows: list[Record]) -> dict[int, list[GateResult]]:
    """Failed gates by place of the row, in the order of the gates."""
    found: dict[int, list[GateResult]] = {}
    for values in read_table(scratch(config.output, k, "findings")).to_pylist():
        result = GateResult(name=values["gate"], passed=False, detail=values["detail"])
        found.setdefault(values["row"], []).append(result)
    pictures = dropped_pictures(config, k)
    for n, row in enumerate(rows):
        same = next((pictures[image] for image in row.image_ids if image in pictures), None)
        if same is not None and image_duplicate.NAME in config.gates:
            found.setdefault(n, []).append(same)
    if near_duplicate.NAME in config.gates:
        for n, result in dropped(config, near_duplicate.NAME, k).items():
            found.setdefault(n, []).append(result)
    return found


def judge(row: Record, found: list[GateResult], dropping: tuple[str, ...]) -> Record:
    """The row with what was found; rejected when a gate that drops is among it, else in its old state.

    A finding replaces an older one of the same gate, so that curating again changes nothing.
    """
    if not found:
        return row
    names = {result.name for result in found}
    gates = (*(g for g in row.gates if g.name not in names), *found)
    reason = next((f"gate:{result.name}" for result in found if result.name in dropping), "")
    if reason:
        return replace(row, state="rejected", reason=reason, gates=gates)
    return replace(row, gates=gates)


def _account(
    entry: ShardEntry, config: CurateConfig, found: dict[int, list[GateResult]], gone: list[Record]
) -> dict[str, int]:
    """What the rows cost when they were made, and what each gate found and dropped now: books by terminal state do not
    tell a row that two gates would drop."""
    before = {name: n for name, n in entry.tokens.items() if not name.startswith(("found.", "dropped."))}
    now = Counter(f"found.{result.name}" for results in found.values() for result in results)
    now.update(f"dropped.{row.reason.removeprefix('gate:')}" for row in gone)
    return {
        **before,
        **{f"{what}.{gate}": now[f"{what}.{gate}"] for gate in config.gates for what in ("found", "dropped")},
    }
