"""``l2t corpus``: write a corpus, from the rendered starter world or from a data set that you have."""

from __future__ import annotations

import argparse
from typing import Any

from cluster.errors import UserError
from datagen.importers import cli as importers

EXAMPLES = """examples:
  l2t corpus starter --images 1000 --seed 7 --out runs/world
  l2t corpus llava llava_v1_5_mix665k.json --images data --out runs --name mix665k
  l2t corpus coco instances_val2017.json captions_val2017.json --images val2017 --out s3://bucket/l2t
  l2t corpus webdataset --help
"""
STARTER_EXAMPLES = """examples:
  l2t corpus starter --images 1000 --seed 7 --out runs/world
  l2t corpus starter --images 300 --split test --gold questions --out s3://bucket/world
  l2t corpus starter --images 2000 --habit 0.8 --name habits --out runs/world       circles are mostly red
"""


def main(argv: list[str]) -> int:
    """Parse the command line and write the corpus; returns the exit code."""
    args = parser().parse_args(argv)
    return _starter(args) if args.source == "starter" else importers.run(args)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t corpus",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = made.add_subparsers(dest="source", required=True)
    _add_starter(sources)
    importers.add_parsers(sources)
    return made


def _add_starter(sources: Any) -> None:
    starter = sources.add_parser(
        "starter",
        help="the rendered world: pictures with exact annotations, any number, from a seed",
        epilog=STARTER_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    starter.add_argument("--images", type=int, required=True, help="number of pictures")
    starter.add_argument("--seed", type=int, default=0, help="another seed gives other pictures (default 0)")
    starter.add_argument("--split", choices=("train", "validation", "test"), default="train")
    starter.add_argument(
        "--habit", type=float, default=0.0, metavar="SHARE",
        help="of things whose colour follows from their shape, and of bars whose height from their colour: shortcuts "
        "that a model can take and other pictures punish (default 0)",
    )  # fmt: skip
    starter.add_argument(
        "--gold",
        default="questions",
        help="gold sets, comma separated: dense, tasks, drill, judging, evolving, questions, foreign, rating, or none",
    )
    starter.add_argument("--name", help="name of the data sets (default starter-<split>)")
    starter.add_argument(
        "--out", required=True, help="root URI: data sets go to <out>/corpora and <out>/instructions"
    )


def _starter(args: argparse.Namespace) -> int:
    if args.images < 1:
        raise UserError(f"--images {args.images}: a corpus needs at least one picture")

    from datagen.starter.world import GOLD, WorldConfig, write_world

    if not 0 <= args.habit <= 1:
        raise UserError(f"--habit {args.habit}: a share, 0 to 1")
    gold = () if args.gold == "none" else tuple(args.gold.split(","))
    for name in gold:
        if name not in GOLD:
            raise UserError(f"--gold {name}: no such gold set; there are {', '.join(GOLD)}")
    config = WorldConfig(images=args.images, seed=args.seed, split=args.split, gold=gold, habit=args.habit)
    paths = write_world(args.out, config, args.name)
    print(f"corpus         {paths.corpus}")
    for name, uri in paths.gold.items():
        print(f"gold {name:<10}{uri}")
    return 0
