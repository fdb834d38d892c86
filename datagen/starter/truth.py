"""How much of an instruction set over the starter world is right, by the exact oracle: what a filter is worth."""

from __future__ import annotations

from collections import Counter

from cluster.datasets import read_manifest, read_shard
from datagen.records import from_table
from datagen.starter.oracle import judge
from datagen.starter.scene import Scene


def right_share(instructions: str, corpus: str) -> float | None:
    """Share of the accepted rows that the scenes bear out, of those that the oracle can read; None where the corpus is
    not the starter world or nothing can be read."""
    judged: Counter[bool] = Counter()
    for shard in range(len(read_manifest(instructions).shards)):
        facts = read_shard(corpus, shard, columns=["image_id", "facts", "source"]).to_pylist()
        scenes = {row["image_id"]: row["facts"] for row in facts if row["source"] == "starter"}
        for record in from_table(read_shard(instructions, shard)):
            fact = scenes.get(record.image_ids[0]) if len(record.image_ids) == 1 else None
            if fact:
                correct = judge(record.question, record.answer, Scene.from_json(fact)).correct
                if correct is not None:
                    judged[correct] += 1
    return judged[True] / judged.total() if judged.total() else None
