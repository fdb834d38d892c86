"""``l2t train``: train a model on published instruction sets."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cluster.errors import UserError

EXAMPLES = """examples:
  l2t train demo-l2t                                  a preset of train/presets
  l2t train demo-l2t epochs=null steps=300 lr.connector=1e-3
  l2t train demo-l2t workers=2                        two Ray Train workers instead of this process
  l2t train path/to/config.yaml --dry-run             the resolved config, and how many rows and steps
  l2t train demo-l2t --show-mask 5                    which tokens of five rows are learned, and why

A killed run continues when the same command is given again; a finished one says so.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="l2t train",
        description="Train a LLaVA on instruction sets, with the loss of L2T or of visual instruction tuning.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", help="name of a preset, or path of a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that win over the preset")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print the resolved config and the plan")
    what.add_argument("--show-mask", type=int, metavar="N", help="print N rows with the mask and its reasons")
    args = parser.parse_args(argv)
    try:
        return _run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from cluster.config import load_config, to_yaml
    from train.config import PRESETS, TrainConfig

    cfg = load_config(TrainConfig, PRESETS, args.preset, args.overrides)
    if args.dry_run:
        from train.prepare import describe

        print(to_yaml(cfg), end="")
        print(f"# plan: {describe(cfg)}")
        return 0
    if args.show_mask is not None:
        from train.showmask import show

        for line in show(cfg, args.show_mask, color=sys.stdout.isatty() and "NO_COLOR" not in os.environ):
            print(line)
        return 0
    from train.launch import launch
    from train.prepare import finished

    before = finished(cfg.output)
    done = before or launch(cfg)
    print(
        f"{'done before' if before else 'done'}: {done['steps']} steps, {done['used']} rows used, "
        f"{done['rejected']} rejected, {done['seconds']:.0f} s; the model is in {cfg.output}/model"
    )
    return 0
