"""The share of right rows against sets whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.datasets import commit_shard, freeze, plan_dataset, read_shard
from datagen.records import Turn, from_table, to_table
from datagen.starter.truth import right_share
from datagen.starter.world import WorldConfig, write_world


def test_gold_is_right_and_spoilt_gold_is_not(tmp_path: Path) -> None:
    world = write_world(str(tmp_path), WorldConfig(images=12, seed=2, shard_images=12))
    assert right_share(world.gold["questions"], world.corpus) == 1.0
    records = from_table(read_shard(world.gold["questions"], 0))
    asked = [r for r in records if r.kind == "color"]
    spoilt = [
        replace(r, conversation=(r.conversation[0], Turn(role="assistant", text="beige"))) for r in asked
    ]
    uri = str(tmp_path / "mixed")
    plan_dataset(uri, kind="instructions", name="mixed", shards=1, config={}, parents=[world.corpus])
    commit_shard(uri, 0, {"rows": to_table([*asked, *spoilt])})
    freeze(uri)
    assert right_share(uri, world.corpus) == pytest.approx(0.5)
