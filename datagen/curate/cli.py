"""``l2t curate``: drop duplicates, evaluation leaks, other languages and odd lengths of a whole data set, counted.

Writes a new instruction set: rows that stay are unchanged, rows that go stand among its rejects with the reason
``gate:<name>`` and what they collided with. Each gate is on when its option is given.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cluster.errors import UserError

if TYPE_CHECKING:
    from cluster.datasets import Parent

EXAMPLES = """examples:
  l2t curate runs/mix --out runs/mix-clean --near-duplicate --image-duplicate
  l2t curate runs/mix --out runs/mix-clean --near-duplicate 0.9 --decontaminate runs/pope runs/seed
  l2t curate runs/mix --out runs/marked --language en,de --length 1-200 --keep language

of rows that collide the one of the lowest round stays, then the one with the smallest id.
"""
NEAR, PICTURE, LENGTH = 0.8, 4, "1-300"


def main(argv: list[str]) -> int:
    """Parse the command line, curate, print counts by gate; returns the exit code."""
    args = parser().parse_args(argv)

    from cluster.datasets import read_manifest
    from datagen.curate.config import GATES, CurateConfig
    from datagen.curate.run import run, summary

    on = {
        "near_duplicate": args.near_duplicate,
        "image_duplicate": args.image_duplicate,
        "decontaminate": tuple(args.decontaminate),
        "language": tuple(code.strip() for code in args.language.split(",")) if args.language else (),
        "length": _span(args.length) if args.length else None,
    }
    keep = _gates("--keep", args.keep, GATES)
    if args.drop is not None:
        drop = _gates("--drop", args.drop, GATES)
        keep = (*keep, *(name for name in GATES if name not in drop))
    for option, value, low, high in (
        ("--near-duplicate", args.near_duplicate, 0.05, 1.0),
        ("--image-duplicate", args.image_duplicate, 0, 16),
        ("--picture-distance", args.picture_distance, 0, 16),
    ):
        if value is not None and not low <= value <= high:
            raise UserError(f"{option} {value}: out of range, {low} to {high}")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least one")
    config = CurateConfig(
        source=args.instructions,
        corpus=args.corpus or _corpus_of(args.instructions, read_manifest(args.instructions).parents),
        output=args.out,
        across_pictures=args.across_pictures,
        picture_distance=args.picture_distance,
        keep=tuple(sorted(set(keep))),
        **on,
    )
    print(summary(config, run(config, args.workers)))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t curate",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("instructions", help="URI of a published instruction set")
    add("--out", required=True, help="URI of the instruction set to write")
    add("--corpus", help="URI of its images, if they are no longer where the data set says")
    add(
        "--near-duplicate", type=float, nargs="?", const=NEAR, metavar="SIMILARITY",
        help="rows about one picture, or about none, that say the same: Jaccard similarity of word triples, "
        f"estimated (default {NEAR}; 1: the same words only)",
    )  # fmt: skip
    add("--across-pictures", action="store_true", help="compare texts about different pictures too")
    add(
        "--image-duplicate", type=int, nargs="?", const=PICTURE, metavar="BITS",
        help=f"rows whose picture shows the same as another one: pHash distance of 64 bits (default {PICTURE})",
    )  # fmt: skip
    add(
        "--decontaminate", nargs="+", default=[], metavar="URI",
        help="rows that hold 70%% of the 8-grams of an example of these evaluation sets, or one of their pictures; "
        "of examples about another picture than the row only those of 20 words count",
    )  # fmt: skip
    add(
        "--picture-distance", type=int, default=PICTURE, metavar="BITS", help="for their pictures (default 4)"
    )
    add(
        "--language",
        metavar="CODES",
        help="rows in another language than these, as en or en,de; short ones stay",
    )
    add(
        "--length", nargs="?", const=LENGTH, metavar="LOW-HIGH",
        help=f"rows with an answer of fewer or more words (default {LENGTH})",
    )  # fmt: skip
    add("--keep", metavar="GATES", help="these gates write down what they find and drop nothing")
    add("--drop", metavar="GATES", help="only these gates drop, the others write down")
    add(
        "--workers",
        type=int,
        help="shards in work at once (default: the cores of this machine, or of the cluster)",
    )
    return made


def _gates(option: str, names: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    given = tuple(name.strip() for name in names.split(",") if name.strip()) if names else ()
    for name in given:
        if name not in known:
            raise UserError(f"{option} {name}: no such gate; there are {', '.join(known)}")
    return given


def _span(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and int(low) <= int(high)):
        raise UserError(f"--length {text}: give least and most words of an answer, as {LENGTH}")
    return int(low), int(high)


def _corpus_of(uri: str, parents: tuple[Parent, ...]) -> str:
    if not parents:
        raise UserError(f"{uri} names no corpus as its parent; give one with --corpus")
    return parents[0].uri
