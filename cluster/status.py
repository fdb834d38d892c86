"""``l2t status <uri>``: what a dataset is, how far it is, and where its rows went."""

from __future__ import annotations

import argparse

from cluster.manifest import Manifest, Plan


def main(argv: list[str]) -> int:
    """Print the state of each dataset named."""
    parser = argparse.ArgumentParser(
        prog="l2t status",
        description="Show what a dataset is, how far it is, and where its rows went.",
        epilog="example: l2t status runs/demo/instructions/round0",
    )
    parser.add_argument("uri", nargs="+", help="a dataset: a path, file:// or s3://")
    args = parser.parse_args(argv)
    print("\n\n".join(describe(uri) for uri in args.uri))
    return 0


def describe(uri: str) -> str:
    """The state of one dataset in a few lines.

    Raises:
        UserError: nothing was begun there.
    """
    from cluster.datasets import dataset_exists, pending_shards, read_manifest, read_plan
    from cluster.errors import UserError

    if dataset_exists(uri):
        return _published(uri, read_manifest(uri))
    plan = read_plan(uri)
    if plan is None:
        raise UserError(
            f"{uri}: no dataset was begun here (neither plan.json nor manifest.json). Check the path."
        )
    done = plan.shards - len(pending_shards(uri))
    return "\n".join(
        [_head(uri, plan), f"state    planned, {done}/{plan.shards} shards committed", *_origin(plan)]
    )


def _published(uri: str, manifest: Manifest) -> str:
    totals = manifest.totals
    lines = [
        _head(uri, manifest),
        f"state    published {manifest.created}, {len(manifest.shards)} shards, {totals.bytes:,} bytes",
    ]
    width = max(
        (len(f"{number:,}") for number in [*totals.rows.values(), sum(totals.rows.values())]), default=1
    )
    lines += [f"rows     {sum(totals.rows.values()):>{width},} = " + _sum(totals.rows)]
    lines += [f"         {number:>{width},} {state}" for state, number in totals.counts.items()]
    if totals.tokens:
        lines.append("tokens   " + ", ".join(f"{number:,} {name}" for name, number in totals.tokens.items()))
    return "\n".join([*lines, *_origin(manifest)])


def _sum(rows: dict[str, int]) -> str:
    return " + ".join(f"{number:,} in {stream}" for stream, number in rows.items()) or "0"


def _head(uri: str, what: Plan | Manifest) -> str:
    return f"{uri}\nkind     {what.kind} {what.name!r}"


def _origin(what: Plan | Manifest) -> list[str]:
    parents = [f"parent   {parent.uri} ({parent.sha256[:12]})" for parent in what.parents]
    return [f"config   {what.config_hash}, code {what.code_version}", *parents]
