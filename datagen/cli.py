"""``python -m datagen <preset> a.b=c … [--dry-run]``: make an instruction data set from a corpus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cluster.errors import UserError

if TYPE_CHECKING:
    from cluster.datasets import Manifest
    from datagen.config import DatagenConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; 0 done, 2 for bad input (one line on stderr)."""
    parser = argparse.ArgumentParser(prog="l2t datagen", description=__doc__)
    parser.add_argument("preset", nargs="?", help="name in datagen/presets or path of a YAML file")
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=c", help="settings, as corpus=… output=… rounds=2"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and the plan, do nothing"
    )
    parser.add_argument(
        "--cluster",
        metavar="FILE",
        help="with --dry-run: whether the actors fit the nodes of this cluster YAML (cluster/launch, cluster/kuberay)",
    )
    args = parser.parse_intermixed_args(argv)
    preset, overrides = args.preset, list(args.overrides)
    if preset and "=" in preset:
        preset, overrides = None, [preset, *overrides]
    if args.cluster and not args.dry_run:
        parser.error("--cluster goes with --dry-run; a run looks at the cluster that it is on")
    try:
        return _datagen(preset, overrides, dry_run=args.dry_run, cluster=args.cluster)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _datagen(preset: str | None, overrides: list[str], *, dry_run: bool, cluster: str | None) -> int:
    from cluster.config import load_config, to_yaml
    from datagen.config import PRESETS_DIR, DatagenConfig
    from datagen.pipeline import plan_run, run

    config = load_config(DatagenConfig, PRESETS_DIR, preset, overrides)
    plan = plan_run(config)
    if dry_run:
        print(to_yaml(config))
        print(f"plan: {len(plan.pending)} of {plan.shards} shards to do, {plan.images} images,")
        print(f"      {plan.drafts} drafts and what is made from them,")
        print(f"      {plan.calls[0]} engine calls at least, about {plan.calls[1]} if every draft passes")
        if cluster:
            print(_fit(config, cluster))
        return 0
    manifests = run(config)
    for name, arm in config.variants().items():
        print(summary(arm, manifests[name]))
    if config.arms:
        print(comparison(config, manifests))
    return 0


def _fit(config: DatagenConfig, cluster: str) -> str:
    from cluster.fleets import read_fleet
    from cluster.nodetypes import check
    from datagen.pipeline import pool

    fleet = read_fleet(cluster)
    return check(pool(config, fleet), fleet)


def summary(config: DatagenConfig, manifest: Manifest) -> str:
    """Where the rows went, adding up, and what they cost."""
    counts, tokens = manifest.totals.counts, manifest.totals.tokens
    total = sum(counts.values())
    width = max(map(len, counts), default=5)
    lines = [f"{config.output}: {total} drafts"]
    for state, n in sorted(counts.items(), key=lambda item: -item[1]):
        lines.append(f"  {state:<{width}}  {n:>8}  {n / total:6.1%}")
    calls, cached, prompt = tokens.get("calls", 0), tokens.get("cached", 0), tokens.get("prompt", 0)
    share = f"{cached / prompt:.0%} from the cache" if prompt else "no prompt tokens"
    lines.append(f"  {calls} calls, {prompt} prompt tokens ({share}), {tokens.get('completion', 0)} written")
    gates = {name.removeprefix("gate:"): n for name, n in tokens.items() if name.startswith("gate:")}
    if gates:
        lines.append("  failed checks: " + ", ".join(f"{name} {n}" for name, n in gates.items()))
    return "\n".join(lines)


def comparison(config: DatagenConfig, manifests: dict[str, Manifest]) -> str:
    """Arms side by side: what each keeps of the same drafts, what it would cost on its own, and on the starter world
    how much of what it keeps is right."""
    from cluster.live import read_live
    from datagen.starter.truth import right_share

    width = max(map(len, manifests))
    heads = f"{'arm':<{width}}  {'drafts':>8}  {'accepted':>8}  {'share':>6}  {'calls alone':>11}"
    shares = {name: right_share(arm.output, arm.corpus) for name, arm in config.variants().items()}
    if any(share is not None for share in shares.values()):
        heads += "  right of accepted"
    lines, alone = [heads], 0
    for name, manifest in manifests.items():
        counts = manifest.totals.counts
        drafts = sum(counts.values())
        kept = counts.get("accepted", 0) + counts.get("kept_original", 0)
        calls = manifest.totals.tokens.get("calls", 0)
        alone += calls
        share = f"{kept / drafts:.1%}" if drafts else "-"
        line = f"{name:<{width}}  {drafts:>8}  {kept:>8}  {share:>6}  {calls:>11}"
        right = shares[name]
        lines.append(line + (f"  {right:>17.1%}" if right is not None else ""))
    live = read_live(next(iter(config.variants().values())).output)
    if live and live.calls:
        lines.append(f"{live.calls} calls were made in the last run; the arms alone would have made {alone}")
    return "\n".join(lines)
