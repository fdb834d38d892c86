"""Beginning a dataset, or finding out that it is the same run and going on with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from cluster import storage
from cluster.config import hash_of
from cluster.errors import UserError
from cluster.manifest import Kind, Parent, Plan, code_version, manifest_hash, read_plan, to_json

CHANGES_SHOWN = 4
log = logging.getLogger(__name__)
_probed: dict[str, bool] = {}


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
    existing = read_plan(uri)
    plan = Plan(
        kind=kind,
        name=name,
        shards=shards,
        parents=tuple(
            p if isinstance(p, Parent) else Parent(uri=p, sha256=manifest_hash(p)) for p in parents
        ),
        config=values,
        config_hash=hash_of(values),
        code_version=code_version(),
        created=now(),
        seeds=dict(seeds or {}),
        prompt_versions=dict(prompt_versions or {}),
        models=dict(models or {}),
        conditional_put=existing.conditional_put if existing else _probe(uri),
    )
    if existing is None and storage.put_if_absent(storage.join(uri, "plan.json"), to_json(plan)):
        return plan
    existing = existing or read_plan(uri)
    assert existing is not None  # a plan refused ours just now
    if changes := _changes(existing, plan):
        raise UserError(
            f"{uri} holds another run ({'; '.join(changes)}). "
            f"Choose another name, or delete it first: {_delete_command(uri)}"
        )
    return existing


def now() -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _probe(uri: str) -> bool:
    """Whether the store keeps conditional puts; asked once per bucket and process, and said aloud when
    not."""
    bucket = "/".join(uri.split("/")[:3]) if "://" in uri else "this machine"
    if bucket not in _probed:
        _probed[bucket] = storage.probe_conditional_put(uri)
        if not _probed[bucket]:
            log.warning(
                "%s does not promise that exactly one of several writers creates an object (conditional put, "
                "If-None-Match: *). Results stay exact as long as one driver at a time runs for a dataset: "
                "two "
                "at once could flip each other's commit records until the manifest is frozen.",
                bucket,
            )
    return _probed[bucket]


def _changes(there: Plan, here: Plan) -> list[str]:
    """What makes ``here`` another run than ``there``, in words."""
    found = [
        f"{field} is {getattr(there, field)!r} there and {getattr(here, field)!r} now"
        for field in ("kind", "shards")
        if getattr(there, field) != getattr(here, field)
    ]
    if there.config_hash != here.config_hash:
        old, new = _flat(there.config), _flat(here.config)
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        found += [f"{key} is {old.get(key)!r} there and {new.get(key)!r} now" for key in keys[:CHANGES_SHOWN]]
        found += [f"and {len(keys) - CHANGES_SHOWN} more settings"] if len(keys) > CHANGES_SHOWN else []
    if [parent.sha256 for parent in there.parents] != [parent.sha256 for parent in here.parents]:
        found.append(f"made from other contents of {', '.join(p.uri for p in there.parents) or 'nothing'}")
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their full key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _delete_command(uri: str) -> str:
    return (
        f"aws s3 rm --recursive {uri}" if uri.startswith("s3://") else f"rm -r {uri.removeprefix('file://')}"
    )
