"""In how many images of a corpus each object name stands: document frequencies, as a Ray Data aggregate."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

from cluster import storage
from cluster.datasets import read_manifest, read_shard


def frequencies(corpus: str, output: str) -> dict[str, int]:
    """Document frequency of every object name of a corpus, counted once for a run and kept beside its output; Ray must
    be running.

    ComVint (section 3) takes the object of the highest IDF as the topic entity of an image; with a constant number
    of images that is the one of the lowest document frequency.
    """
    place = storage.join(output, "entities.json")
    if storage.exists(place):
        return dict(json.loads(storage.read_bytes(place)))
    import ray

    shards = len(read_manifest(corpus).shards)
    counted = (
        ray.data.from_items([{"shard": k} for k in range(shards)], override_num_blocks=shards)
        .map_batches(partial(_count, corpus), batch_size=1)
        .groupby("name")
        .sum("images")
    )
    found = {row["name"]: int(row["sum(images)"]) for row in counted.iter_rows()}
    storage.write_bytes(place, json.dumps(dict(sorted(found.items()))).encode())
    return found


def _count(corpus: str, batch: dict[str, Any]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for shard in batch["shard"]:
        objects = read_shard(corpus, int(shard), columns=["objects"]).column("objects").to_pylist()
        counts.update(name for of in objects for name in {o["name"] for o in of or () if o and o["name"]})
    return {"name": list(counts), "images": list(counts.values())}
