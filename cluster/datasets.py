"""Datasets that survive kills: plan, commit shard by shard, freeze, read (contract 1).

    plan = plan_dataset(uri, kind="corpus", name="demo", shards=4, config=cfg)
    for k in pending_shards(uri):
        commit_shard(uri, k, {"rows": table}, counts={"accepted": table.num_rows})
    manifest = freeze(uri)

A worker may be killed anywhere and a shard may be worked on twice: parts have names of their own for every attempt, the
first commit record of a shard wins, and only what the frozen manifest names exists for readers.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from cluster import storage
from cluster.config import hash_of
from cluster.errors import UserError
from cluster.manifest import (
    Kind,
    Manifest,
    Parent,
    Part,
    Plan,
    Pointer,
    ShardEntry,
    Totals,
    code_version,
    dataset_exists,
    manifest_hash,
    parse,
    read_manifest,
    read_plan,
    to_json,
    totals,
)

__all__ = [
    "Kind", "Manifest", "Parent", "Part", "Plan", "ShardEntry", "Totals",
    "commit_shard", "dataset_exists", "freeze", "gc", "iter_tables", "manifest_hash", "pending_shards",
    "plan_dataset", "read_manifest", "read_plan", "read_shard",
]  # fmt: skip

THREADS = 16
DAY = 86_400.0
# Small enough to fetch one column of one group cheaply, large enough for good compression of short texts.
ROW_GROUP_ROWS = 2048
log = logging.getLogger(__name__)


def plan_dataset(
    uri: str,
    *,
    kind: Kind,
    name: str,
    shards: int,
    config: BaseModel | Mapping[str, Any],
    parents: Sequence[Parent | str] = (),
    seeds: Mapping[str, Any] | None = None,
    prompt_versions: Mapping[str, Any] | None = None,
    models: Mapping[str, Any] | None = None,
) -> Plan:
    """Begin a dataset, or continue one begun with the same config, parents and number of shards.

    Args:
        config: the resolved config; stored with the dataset, and what decides whether a run is the same run.
        parents: datasets this one is made from; a URI is pinned to the manifest published there now.

    Raises:
        UserError: a parent is not published, or ``uri`` holds another run; the message says what differs.
    """
    values = config.model_dump(mode="json") if isinstance(config, BaseModel) else dict(config)
    pinned = tuple(p if isinstance(p, Parent) else Parent(uri=p, sha256=manifest_hash(p)) for p in parents)
    existing = read_plan(uri)
    plan = Plan(
        kind=kind,
        name=name,
        shards=shards,
        parents=pinned,
        config=values,
        config_hash=hash_of(values),
        code_version=code_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=dict(seeds or {}),
        prompt_versions=dict(prompt_versions or {}),
        models=dict(models or {}),
        conditional_put=existing.conditional_put if existing else _probe(uri),
    )
    if existing is None and storage.put_if_absent(storage.join(uri, "plan.json"), to_json(plan)):
        return plan
    existing = existing or read_plan(uri) or plan
    if differences := _differences(existing, plan):
        raise UserError(
            f"{uri} holds another run ({'; '.join(differences)}). "
            f"Choose another name, or delete it first: {_delete_command(uri)}"
        )
    return existing


def _probe(uri: str) -> bool:
    sound = _probe_once(uri.rsplit("/", 1)[0] or uri)
    if not sound:
        log.warning(
            "The store of %s does not keep its promise that only one of several writers creates an object "
            "(conditional put, If-None-Match: *). Results stay exact as long as one driver at a time runs for a "
            "dataset; two at once may redo or overwrite each other's commit records until the manifest is frozen.",
            uri,
        )
    return sound


@lru_cache(maxsize=64)
def _probe_once(folder: str) -> bool:
    return storage.probe_conditional_put(folder)


def _differences(there: Plan, here: Plan) -> list[str]:
    """What makes ``here`` another run than ``there``, in words."""
    found = [
        f"{field}: there {getattr(there, field)!r}, now {getattr(here, field)!r}"
        for field in ("kind", "shards")
        if getattr(there, field) != getattr(here, field)
    ]
    if there.config_hash != here.config_hash:
        old, new = _flat(there.config), _flat(here.config)
        changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        found += [f"{key}: there {old.get(key)!r}, now {new.get(key)!r}" for key in changed[:4]]
        found += [f"{len(changed) - 4} more settings"] if len(changed) > 4 else []
    if [parent.sha256 for parent in there.parents] != [parent.sha256 for parent in here.parents]:
        found.append(f"made from {', '.join(p.uri for p in there.parents) or 'nothing'} with other contents")
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return flat


def _delete_command(uri: str) -> str:
    return (
        f"aws s3 rm --recursive {uri}" if uri.startswith("s3://") else f"rm -r {uri.removeprefix('file://')}"
    )


def _plan_of(uri: str) -> Plan:
    plan = read_plan(uri)
    if plan is None:
        raise UserError(f"{uri}: no dataset was begun here (no plan.json). Check the path.")
    return plan


def _record_uri(uri: str, k: int) -> str:
    return storage.join(uri, f"commits/{k:05d}.json")


def pending_shards(uri: str) -> list[int]:
    """Indices of the planned shards that no worker has committed yet, in order."""
    plan = _plan_of(uri)
    if dataset_exists(uri):
        return []
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(lambda k: storage.exists(_record_uri(uri, k)), range(plan.shards)))
    return [k for k, committed in enumerate(done) if not committed]


def commit_shard(
    uri: str,
    k: int,
    tables: Mapping[str, pa.Table],
    *,
    counts: Mapping[str, int] | None = None,
    tokens: Mapping[str, int] | None = None,
    seconds: float = 0.0,
    inputs: int | None = None,
) -> bool:
    """Store the tables of shard ``k`` and commit them.

    Args:
        tables: by stream, ``rows`` (what readers get) and where there are any ``rejects``.
        counts: rows by terminal state over all streams; by default all of ``rows`` are ``accepted`` and all of
            ``rejects`` are ``rejected``.
        inputs: how many rows or drafts were started, where the producer counts them; the counts must account for all.

    Returns:
        False when another worker committed this shard first; what was written here is then an orphan for `gc`.

    Raises:
        ValueError: the books of this shard do not balance (a producer's bug).
    """
    if storage.exists(_record_uri(uri, k)):
        return False
    if counts is None:
        states = {"rows": "accepted", "rejects": "rejected"}
        counts = {states.get(stream, stream): table.num_rows for stream, table in tables.items()}
    rows = sum(table.num_rows for table in tables.values())
    if imbalance := _imbalance(rows, counts, inputs):
        raise ValueError(f"shard {k} of {uri}: {imbalance}")
    entry = ShardEntry(
        index=k,
        parts={stream: _put_part(uri, k, stream, table) for stream, table in tables.items()},
        counts={state: number for state, number in sorted(counts.items()) if number},
        tokens=dict(tokens or {}),
        seconds=round(seconds, 3),
        inputs=inputs,
    )
    return storage.put_if_absent(_record_uri(uri, k), to_json(entry))


def _put_part(uri: str, k: int, stream: str, table: pa.Table) -> Part:
    """Build the whole Parquet file in memory first: an exception inside an open upload would store a part of it."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROW_GROUP_ROWS, compression="zstd", write_page_checksum=True)
    data = buffer.getvalue()
    path = f"data/{k:05d}/{stream}-{uuid.uuid4().hex}.parquet"
    storage.write_bytes(storage.join(uri, path), data)
    return Part(path=path, sha256=hashlib.sha256(data).hexdigest(), rows=table.num_rows, bytes=len(data))


def _imbalance(rows: int, counts: Mapping[str, int], inputs: int | None) -> str:
    """Why the books of a shard do not balance, "" when they do."""
    accounted = sum(counts.values())
    if accounted != rows:
        return f"books do not balance: {accounted} rows by terminal state {dict(counts)}, {rows} rows stored"
    if inputs is not None and accounted != inputs:
        return f"books do not balance: {inputs} inputs were started, {accounted} ended in a terminal state"
    return ""


def freeze(uri: str) -> Manifest:
    """Publish a dataset whose shards are all committed; one already published is returned as it is.

    One driver does this, once. It reads the commit records by index, never by listing, and verifies every part.

    Raises:
        UserError: shards are missing, a part is missing or altered, or the books of a shard do not balance.
    """
    if dataset_exists(uri):
        return read_manifest(uri)
    plan = _plan_of(uri)
    if pending := pending_shards(uri):
        raise UserError(
            f"{uri}: {len(pending)} of {plan.shards} shards are not committed yet ({_some(pending)}). "
            "Run the command that makes it again; it continues."
        )
    with ThreadPoolExecutor(THREADS) as pool:
        shards = tuple(pool.map(lambda k: _verified_entry(uri, k), range(plan.shards)))
    provenance = plan.model_dump(exclude={"shards", "conditional_put", "created"})
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(**provenance, created=created, shards=shards, totals=totals(shards))

    place, data = storage.join(uri, "manifest/v1.json"), to_json(manifest)
    if not storage.put_if_absent(place, data):
        data = storage.read_bytes(place)  # frozen before, by a driver that was killed before the pointer
    pointer = Pointer(manifest="manifest/v1.json", sha256=hashlib.sha256(data).hexdigest())
    storage.write_bytes(storage.join(uri, "manifest.json"), to_json(pointer))
    return read_manifest(uri)


def _verified_entry(uri: str, k: int) -> ShardEntry:
    place = _record_uri(uri, k)
    entry = parse(ShardEntry, storage.read_bytes(place), place)
    rows = sum(part.rows for part in entry.parts.values())
    if entry.index != k or (imbalance := _imbalance(rows, entry.counts, entry.inputs)):
        raise UserError(
            f"shard {k} of {uri}: {imbalance if entry.index == k else f'its record is that of shard {entry.index}'}. "
            f"Delete {place} and run the command again; the shard is made anew."
        )
    for part in entry.parts.values():
        part_uri = storage.join(uri, part.path)
        if not storage.exists(part_uri) or storage.sha256_of(part_uri) != part.sha256:
            raise UserError(
                f"shard {k} of {uri}: {part_uri} is missing or was altered after it was committed. "
                f"Delete {place} and run the command again; the shard is made anew."
            )
    return entry


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (" …" if len(numbers) > 8 else "")


def read_shard(
    uri: str,
    k: int,
    stream: str = "rows",
    columns: Sequence[str] | None = None,
    verify: bool = True,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """One stream of one shard of a published dataset.

    Args:
        columns: only these, in this order.
        verify: read the whole part and compare its sha256; False reads only the columns asked for, with the page
            checksums of Parquet.
        schema: what the reader counts on; names and types are compared.

    Raises:
        UserError: not published, no such shard or stream, or a part that is missing, altered or of another schema.
    """
    manifest = read_manifest(uri)
    if not 0 <= k < len(manifest.shards):
        raise UserError(f"{uri}: there is no shard {k}; it has {len(manifest.shards)}")
    part = manifest.shards[k].parts.get(stream)
    if part is None:
        raise UserError(f"{uri}: shard {k} has no {stream!r}; it has {', '.join(manifest.shards[k].parts)}")
    return _read_part(uri, part, columns, verify, schema)


def iter_tables(
    uri: str,
    stream: str = "rows",
    columns: Sequence[str] | None = None,
    verify: bool = True,
    schema: pa.Schema | None = None,
) -> Iterator[pa.Table]:
    """The tables of one stream, shard by shard in order; shards without that stream are passed over."""
    for shard in read_manifest(uri).shards:
        if part := shard.parts.get(stream):
            yield _read_part(uri, part, columns, verify, schema)


def _read_part(
    uri: str, part: Part, columns: Sequence[str] | None, verify: bool, schema: pa.Schema | None
) -> pa.Table:
    place = storage.join(uri, part.path)
    way_out = "Restore it from a copy, or make the dataset again under another name."
    if not verify:
        filesystem, path = storage.filesystem(place)
        source: Any = filesystem.open_input_file(path)
    else:
        data = storage.read_bytes(place)
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise UserError(f"{place}: differs from the sha256 in the manifest of {uri}. {way_out}")
        source = pa.BufferReader(data)
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            found = file.schema_arrow
            missing = [name for name in columns or () if name not in found.names]
            if missing:
                raise UserError(f"{place}: no column {missing[0]!r}; it has {', '.join(found.names)}")
            if schema is not None and not found.equals(schema):
                raise UserError(f"{place}: {_schema_difference(found, schema)}. {way_out}")
            table = file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{place}: not readable as Parquet ({error}). {way_out}") from error
    return table.select(list(columns)) if columns is not None else table


def _schema_difference(found: pa.Schema, wanted: pa.Schema) -> str:
    version = b"l2t.schema_version"
    for field in wanted:
        if field.name not in found.names:
            return f"the column {field.name!r} is missing"
        if found.field(field.name).type != field.type:
            return f"the column {field.name!r} is {found.field(field.name).type} and should be {field.type}"
    extra = [name for name in found.names if name not in wanted.names]
    if extra:
        return f"there is an unknown column {extra[0]!r}"
    return f"schema version {(found.metadata or {}).get(version)!r}, expected {(wanted.metadata or {}).get(version)!r}"


def gc(uri: str, grace_seconds: float = DAY) -> list[str]:
    """Delete parts that no commit record and no manifest names, and abort unfinished uploads.

    Args:
        grace_seconds: younger objects are left alone: their worker may be about to commit them.

    Returns:
        The URIs of the deleted parts.
    """
    named: set[str] = set()
    if dataset_exists(uri):
        named |= {part.path for shard in read_manifest(uri).shards for part in shard.parts.values()}
    else:
        for k in set(range(_plan_of(uri).shards)) - set(pending_shards(uri)):
            place = _record_uri(uri, k)
            named |= {
                part.path for part in parse(ShardEntry, storage.read_bytes(place), place).parts.values()
            }
    before = time.time() - grace_seconds
    orphans = [
        found.uri
        for found in storage.list_objects(storage.join(uri, "data"))
        if found.modified <= before and found.uri[len(uri.rstrip("/")) + 1 :] not in named
    ]
    for orphan in orphans:
        storage.delete(orphan)
    storage.abort_uploads(uri, grace_seconds)
    return orphans
