"""``l2t train``: train a model on published instruction sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.errors import UserError

EXAMPLES = """examples:
  l2t train starter-tower output=runs/checkpoints/tower
  l2t train demo-l2t epochs=null steps=300 lr.connector=1e-3
  l2t train path/to/config.yaml --dry-run
  l2t train demo-l2t --show-mask 5
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, load the config, train."""
    parser = argparse.ArgumentParser(
        prog="l2t train",
        description="Train a LLaVA on instruction sets, with the loss of L2T or of plain visual instruction tuning.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", help="name in train/presets, or path of a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that win over the preset")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and the plan, do nothing"
    )
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command to continue from the last checkpoint", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from cluster.config import load_config, to_yaml
    from train.config import PRESETS, TrainConfig

    cfg = load_config(TrainConfig, PRESETS, args.preset, args.overrides)
    if args.dry_run:
        from train.prepare import plan

        print(to_yaml(cfg))
        found = plan(cfg)
        print(
            f"# rows {found.rows_per_epoch} an epoch, {found.steps_per_epoch} steps an epoch, {found.steps} steps in all"
        )
        return 0
    from train.launch import launch
    from train.prepare import finished

    before = finished(cfg.output)
    done = before or launch(cfg)
    verb = "was done before" if before else "done"
    print(
        f"{verb}: {done['steps']} steps, {done['used']} samples, {done['rejected']} rejected, model in {cfg.output}/model"
    )
    return 0
