"""Second pass: rows of all shards that share a key meet, through a shuffle of Ray Data, and are compared.

Only keys and sketches travel (about 200 bytes for each key of a row). The key space is cut into partitions of a size
that fits a worker; one partition is sorted and searched at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster import storage
from datagen.curate import clusters
from datagen.curate.buckets import ENTRY_SCHEMA, LINK_SCHEMA, links
from datagen.curate.config import CurateConfig
from datagen.curate.shards import quiet
from datagen.curate.signatures import name_of, read_table, scratch, write_table
from datagen.gates import image_duplicate, near_duplicate
from datagen.gates.shingles import mix
from datagen.records import GateResult

# About 64 MB of sketches in a partition.
PARTITION_ENTRIES = 300_000
MAX_PARTITIONS = 4096
# Links that the driver holds before it throws out pairs that it knows already: 100 MB.
UNIQUE_EVERY = 5_000_000
PICTURES, ROWS = "pictures", "rows"
STREAM_OF = {image_duplicate.NAME: PICTURES, near_duplicate.NAME: ROWS}
_PARTITION = "partition"


def collide(config: CurateConfig, gate: str, shards: int, entries: int) -> None:
    """Find what ``gate`` drops and store it by shard; done once, a second call returns at once.

    Args:
        entries: how many keys there are, which decides the number of partitions.
    """
    if not storage.exists(dropped_uri(config.output, gate, shards - 1)):
        found = _links(config, gate, shards, entries) if entries else LINK_SCHEMA.empty_table()
        settle(config, gate, shards, found)


def settle(config: CurateConfig, gate: str, shards: int, found: pa.Table) -> None:
    """Decide who stays, and store the decisions; those of the last shard are the mark of completion."""
    found = clusters.unique(found)
    refs = clusters.involved(found)
    gone = clusters.drops(found, refs, _orders(config, gate, shards, refs))
    owner = gone["ref"].to_numpy() >> 32
    for k in range(shards):
        start, end = np.searchsorted(owner, [k, k + 1])
        write_table(dropped_uri(config.output, gate, k), gone.slice(start, end - start))


def _orders(config: CurateConfig, gate: str, shards: int, refs: np.ndarray) -> list[str]:
    """Order keys of sorted ``refs``, from what their shards have stored."""
    orders: list[str] = []
    for k in range(shards):
        start, end = np.searchsorted(refs, [k << 32, (k + 1) << 32])
        if end > start:
            table = read_table(scratch(config.output, k, STREAM_OF[gate]))
            places = np.searchsorted(table["ref"].to_numpy(), refs[start:end])
            orders += table["order"].take(pa.array(places)).to_pylist()
    return orders


def dropped_uri(output: str, gate: str, k: int) -> str:
    """Where the decisions of a gate about shard ``k`` lie while the output is made."""
    return scratch(output, k, f"dropped-{gate}")


def dropped(config: CurateConfig, gate: str, k: int) -> dict[int, GateResult]:
    """What a gate found in shard ``k``: by place of the row, or of the picture among the shard's pictures."""
    table = read_table(dropped_uri(config.output, gate, k))
    results = {}
    for row in table.to_pylist():
        kept, nearest = name_of(row["kept"]), name_of(row["nearest"])
        place = row["ref"] & 0xFFFFFFFF
        if gate == near_duplicate.NAME:
            results[place] = near_duplicate.result(kept, nearest, row["likeness"])
        else:
            results[place] = image_duplicate.result(kept, nearest, -round(row["likeness"]))
    return results


def dropped_pictures(config: CurateConfig, k: int) -> dict[str, GateResult]:
    """Pictures of shard ``k`` that show the same as another one, by image id."""
    if config.image_duplicate is None:
        return {}
    images = read_table(scratch(config.output, k, PICTURES))["image_ids"]
    found = dropped(config, image_duplicate.NAME, k)
    named = {images[place].as_py()[0]: result for place, result in found.items()}
    return {
        image: GateResult(name=result.name, passed=False, detail=f"{image} {result.detail}")
        for image, result in named.items()
    }


def _links(config: CurateConfig, gate: str, shards: int, entries: int) -> pa.Table:
    import ray

    quiet()
    partitions = max(1, min(MAX_PARTITIONS, -(-entries // PARTITION_ENTRIES)))
    settings = config.model_dump(mode="json")
    sending = partial(_entries_of, config=settings, gate=gate, partitions=partitions)
    comparing = partial(_links_of, config=settings, gate=gate)
    found = (
        ray.data.from_items([{"shard": k} for k in range(shards)], override_num_blocks=shards)
        .map_batches(sending, batch_size=1, batch_format="pyarrow")
        .groupby(_PARTITION, num_partitions=partitions)
        .map_groups(comparing, batch_format="pyarrow")
    )
    links, new = LINK_SCHEMA.empty_table(), 0
    batches: Iterable[Any] = found.iter_batches(batch_size=None, batch_format="pyarrow")
    for batch in batches:
        if batch.num_rows:
            links, new = pa.concat_tables([links, batch.cast(LINK_SCHEMA)]), new + batch.num_rows
        if new > UNIQUE_EVERY:
            links, new = clusters.unique(links), 0
    return links


def _entries_of(batch: pa.Table, config: dict[str, Any], gate: str, partitions: int) -> pa.Table:
    """The keys of shards, one row each, with the partition that a key belongs to."""
    settings = CurateConfig.model_validate(config)
    tables = [entries(settings, gate, k) for k in batch["shard"].to_pylist()]
    table = pa.concat_tables(tables)
    part = mix(table["key"].to_numpy()) % np.uint64(partitions)
    return table.append_column(_PARTITION, pa.array(part.astype(np.int64)))


def entries(config: CurateConfig, gate: str, k: int) -> pa.Table:
    """What shard ``k`` sends to the comparison of ``gate``, as ENTRY_SCHEMA: rows of dropped pictures stay away, so
    that no row goes as the double of one that does not stay."""
    table = read_table(scratch(config.output, k, STREAM_OF[gate]))
    if gate == near_duplicate.NAME and image_duplicate.NAME in config.dropping:
        gone = dropped_pictures(config, k)
        stays = [not gone.keys() & set(images) for images in table["image_ids"].to_pylist()]
        table = table.filter(pa.array(stays, pa.bool_()))
    keys = table["keys"].combine_chunks()
    owner = pc.list_parent_indices(keys)
    columns = [pc.list_flatten(keys), *(table[name].take(owner) for name in ("ref", "order", "sketch"))]
    return pa.table(
        [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns], schema=ENTRY_SCHEMA
    )


def _links_of(group: pa.Table, config: dict[str, Any], gate: str) -> pa.Table:
    settings = CurateConfig.model_validate(config)
    return compare(settings, gate, group.select(ENTRY_SCHEMA.names).cast(ENTRY_SCHEMA))


def compare(config: CurateConfig, gate: str, table: pa.Table) -> pa.Table:
    """Links of one partition."""
    if gate == near_duplicate.NAME:
        assert config.near_duplicate is not None
        return links(table, near_duplicate.similarity, config.near_duplicate)
    assert config.image_duplicate is not None
    return links(table, lambda one, others: -image_duplicate.distances(one, others), -config.image_duplicate)


def stored(shards: int, gates: Sequence[str]) -> list[tuple[int, str]]:
    """(shard, stream) of everything that `collide` leaves behind."""
    return [(k, f"dropped-{gate}") for gate in gates if gate in STREAM_OF for k in range(shards)]
