"""``l2t status <uri>``: what a dataset is, how far it is, and where its rows went; of a run in work also how fast."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from cluster.live import Live
from cluster.manifest import Manifest, Plan
from cluster.progress import clock

# A driver writes every ten seconds: one that has not for this long is gone.
SILENT_S = 60.0
EXAMPLES = """examples:
  l2t status runs/demo/instructions/round-0
  l2t status s3://bucket/instructions/comvint --gpu-price 2.5
"""


def main(argv: list[str]) -> int:
    """Print the state of each dataset named."""
    args = parser().parse_args(argv)
    print("\n\n".join(describe(uri, args.gpu_price) for uri in args.uri))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t status",
        description="Show what a dataset is, how far it is, and where its rows went.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("uri", nargs="+", help="a dataset: a path, file:// or s3://")
    made.add_argument(
        "--gpu-price", type=float, metavar="PER_HOUR", help="of one GPU; shows the cost of an accepted row"
    )
    return made


def describe(uri: str, gpu_price: float | None = None) -> str:
    """The state of one dataset in a few lines.

    Raises:
        UserError: nothing was begun there.
    """
    from cluster.datasets import dataset_exists, pending_shards, read_manifest, read_plan
    from cluster.errors import UserError
    from cluster.live import read_live

    live = read_live(uri)
    if dataset_exists(uri):
        lines = [_published(uri, read_manifest(uri))]
        return "\n".join([*lines, *(_speed(live, gpu_price) if live else [])])
    plan = read_plan(uri)
    if plan is None:
        raise UserError(
            f"{uri}: no dataset was begun here (neither plan.json nor manifest.json). Check the path."
        )
    done = plan.shards - len(pending_shards(uri))
    lines = [_head(uri, plan), f"state    {_state(live)}, {done}/{plan.shards} shards committed"]
    if live:
        lines += _rows(live.counts) + _speed(live, gpu_price)
    return "\n".join([*lines, *_origin(plan)])


def _state(live: Live | None) -> str:
    if live is None:
        return "planned"
    silent = (datetime.now(UTC) - datetime.fromisoformat(live.updated)).total_seconds()
    if silent < SILENT_S:
        return "in work"
    return f"stopped {clock(silent)} ago (run the same command again to continue)"


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
        f"speed    {live.inputs_done}/{live.inputs_total} images in {clock(seconds)}"
        + (f", ETA {_eta(live, seconds)}" if live.inputs_done < live.inputs_total else ""),
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


def _eta(live: Live, seconds: float) -> str:
    if not live.inputs_done:
        return "not known yet"
    return clock((live.inputs_total - live.inputs_done) * seconds / live.inputs_done)


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
    tokens = {name: n for name, n in totals.tokens.items() if not name.startswith("gate:")}
    failed = {name.removeprefix("gate:"): n for name, n in totals.tokens.items() if name.startswith("gate:")}
    for word, found in (("tokens", tokens), ("checks", failed)):
        if found:
            lines.append(f"{word:<8} " + ", ".join(f"{number:,} {name}" for name, number in found.items()))
    return "\n".join([*lines, *_origin(manifest)])


def _sum(rows: dict[str, int]) -> str:
    return " + ".join(f"{number:,} in {stream}" for stream, number in rows.items()) or "0"


def _head(uri: str, what: Plan | Manifest) -> str:
    return f"{uri}\nkind     {what.kind} {what.name!r}"


def _origin(what: Plan | Manifest) -> list[str]:
    parents = [f"parent   {parent.uri} ({parent.sha256[:12]})" for parent in what.parents]
    return [f"config   {what.config_hash}, code {what.code_version}", *parents]
