"""``l2t status <uri>``: of a data set or run what it is, how far and how fast, where its rows went, and whether it
lives: running, stalled, stopped, failed, finished. Nothing is needed but the URI."""

from __future__ import annotations

import argparse
import time

from cluster.live import Live
from cluster.log import run_id
from cluster.manifest import Manifest, Plan
from cluster.progress import clock
from cluster.vitals import AGAIN, progress, state_of

EXAMPLES = """examples:
  l2t status runs/demo/instructions/round-0
  l2t status s3://bucket/instructions/comvint --gpu-price 2.5
  l2t status s3://bucket/checkpoints/l2t            a training run
  l2t status runs/demo                              a folder: one line for each data set and run in it
"""


def main(argv: list[str]) -> int:
    """Print the state of each data set or run named."""
    args = parser().parse_args(argv)
    print("\n\n".join(describe(uri, args.gpu_price) for uri in args.uri))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t status",
        description="Show what a data set or run is, how far it is, whether it lives, and where its rows went.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "uri", nargs="+", help="a data set, a run, or a folder of them: a path, file:// or s3://"
    )
    made.add_argument(
        "--gpu-price", type=float, metavar="PER_HOUR", help="of one GPU; shows the cost of an accepted row"
    )
    return made


def describe(uri: str, gpu_price: float | None = None) -> str:
    """The state of one data set, run or folder in a few lines.

    Raises:
        UserError: nothing was begun there.
    """
    from cluster import status_runs
    from cluster.datasets import dataset_exists, read_manifest, read_plan
    from cluster.errors import UserError
    from cluster.live import read_live

    if dataset_exists(uri):
        live = read_live(uri)
        lines = [_published(uri, read_manifest(uri))]
        return "\n".join([*lines, *(_speed(live, gpu_price) if live else [])])
    if plan := read_plan(uri):
        return _unfinished(uri, plan, gpu_price)
    config = status_runs.config_of(uri)
    match status_runs.is_run(config):
        case "training":
            return status_runs.training(uri, config)
        case "bootstrap":
            return status_runs.bootstrap(uri, describe)
    if found := status_runs.folder(uri, _summary):
        return found
    raise UserError(
        f"{uri}: no dataset was begun here (neither plan.json nor manifest.json), and no run (config.yaml). Check the "
        "path."
    )


def _unfinished(uri: str, plan: Plan, gpu_price: float | None) -> str:
    from cluster.datasets import pending_shards
    from cluster.live import read_live

    live = read_live(uri)
    done = plan.shards - len(pending_shards(uri))
    state = state_of(live) if live else _by_commits(uri)
    lines = [_head(uri, plan), f"state    {state}; {done}/{plan.shards} shards committed"]
    if live:
        lines += _rows(live.counts) + _speed(live, gpu_price)
    return "\n".join([*lines, *_origin(plan)])


def _by_commits(uri: str) -> str:
    """Of a data set whose maker has no heartbeat (imports), by the age of its newest shard."""
    from cluster import storage

    stored = storage.list_objects(storage.join(uri, "commits"))
    if not stored:
        return f"planned, nothing committed yet ({AGAIN} if none runs)"
    newest = max(found.modified for found in stored)
    return f"unfinished, a shard was committed {clock(max(0.0, time.time() - newest))} ago ({AGAIN} if none runs)"


def _summary(uri: str) -> str:
    """The line of a data set or run among others."""
    told = dict(line.split(maxsplit=1) for line in describe(uri).splitlines() if len(line.split()) > 1)
    return f"{uri}  {told.get('kind', '')}  {told.get('state', '')}"


def _rows(counts: dict[str, int]) -> list[str]:
    width = max((len(f"{number:,}") for number in counts.values()), default=1)
    order = sorted(counts.items(), key=lambda item: -item[1])
    return [f"rows     {number:>{width},} {state}" for state, number in order]


def _speed(live: Live, gpu_price: float | None) -> list[str]:
    """Rates of the last attempt, and what it cost."""
    seconds = max(live.seconds, 1e-9)
    kept = sum(live.counts.get(state, 0) for state in live.accepted)
    cached = live.tokens_cached / live.tokens_prompt if live.tokens_prompt else 0.0
    lines = [
        f"speed    {progress(live)}",
    ]
    if not live.calls:  # what did not ask engines through a pool
        return lines
    lines += [
        f"         {kept / seconds * 3600:,.0f} accepted rows/h, {live.calls / seconds:,.1f} calls/s",
        f"         {live.tokens_prompt / seconds:,.0f} tokens/s in ({cached:.0%} from the cache), "
        f"{live.tokens_completion / seconds:,.0f} tokens/s out",
        f"         {live.engine_running:,.0f} calls in {live.engine_slots} engine slots",
    ]
    if live.engine_deaths:
        lines.append(f"         engines replaced {live.engine_deaths}x, {live.quarantined} rows quarantined")
    if live.gpus:
        lines.append(f"gpus     {live.gpus:g}, {live.gpu_hours():.2f} GPU-hours")
    if gpu_price is not None:
        cost = live.gpu_hours() * gpu_price
        each = f", {cost / kept:.6f} per accepted row" if kept else ""
        lines.append(f"cost     {cost:.2f} at {gpu_price:g} per GPU-hour{each}")
    return lines


def _published(uri: str, manifest: Manifest) -> str:
    totals = manifest.totals
    lines = [
        _head(uri, manifest),
        f"state    finished: published {manifest.created}, {len(manifest.shards)} shards, {totals.bytes:,} bytes",
    ]
    width = max(
        (len(f"{number:,}") for number in [*totals.rows.values(), sum(totals.rows.values())]), default=1
    )
    lines += [f"rows     {sum(totals.rows.values()):>{width},} = " + _sum(totals.rows)]
    lines += [f"         {number:>{width},} {state}" for state, number in totals.counts.items()]
    tokens = {name: n for name, n in totals.tokens.items() if not name.startswith("gate:")}
    failed = {name.removeprefix("gate:"): n for name, n in totals.tokens.items() if name.startswith("gate:")}
    for word, found in (("tokens", tokens), ("checks", failed)):
        if found:
            lines.append(f"{word:<8} " + ", ".join(f"{number:,} {name}" for name, number in found.items()))
    return "\n".join([*lines, *_origin(manifest)])


def _sum(rows: dict[str, int]) -> str:
    return " + ".join(f"{number:,} in {stream}" for stream, number in rows.items()) or "0"


def _head(uri: str, what: Plan | Manifest) -> str:
    return f"{uri}\nkind     {what.kind} {what.name!r}\nrun      {run_id(uri)}"


def _origin(what: Plan | Manifest) -> list[str]:
    parents = [f"parent   {parent.uri} ({parent.sha256[:12]})" for parent in what.parents]
    return [f"config   {what.config_hash}, code {what.code_version}", *parents]
