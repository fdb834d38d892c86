"""``l2t export``: an instruction set with its images in a format that other tools read.

  llava        <out>/<split>.json and <out>/images: for LLaVA's trainer and everything that reads its data
  huggingface  <out>/data/*.parquet: `datasets.load_dataset` and the hub's viewer show it with pictures
  webdataset   <out>/*.tar: a .json and an image file for every row, for streaming

Every export has a data set card (README.md) with its lineage. A stopped export continues when run again.
"""

from __future__ import annotations

import argparse

from cluster.errors import UserError

EXAMPLES = """examples:
  l2t export llava runs/mix --out exports/mix-llava
  l2t export huggingface s3://bucket/mix --out s3://bucket/hub/mix --license cc-by-4.0 --workers 8
  l2t export huggingface runs/mix-test --out exports/hub --split test
  l2t export webdataset runs/mix --out exports/mix-wds --max-rows 1000 --part-mb 64
"""
LAYOUTS = ("llava", "huggingface", "webdataset")


def main(argv: list[str]) -> int:
    """Parse the command line, export, say what was written; returns the exit code."""
    args = parser().parse_args(argv)
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least one")

    from cluster.datasets import read_manifest
    from datagen.exporters.config import ExportConfig
    from datagen.exporters.run import report, run

    parents = read_manifest(args.instructions).parents
    config = ExportConfig(
        layout=args.layout,
        source=args.instructions,
        corpus=args.corpus or (parents[0].uri if parents else ""),
        output=args.out,
        states=tuple(state.strip() for state in args.states.split(",")),
        max_rows=args.max_rows,
        split=args.split,
        license=args.license,
        part_mb=args.part_mb,
    )
    print(report(config, run(config, args.workers)))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t export",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("layout", choices=LAYOUTS, help="the format")
    add("instructions", help="URI of a published instruction set")
    add("--out", required=True, help="folder or URI to write to")
    add("--corpus", help="URI of its images, if they are no longer where the data set says")
    add(
        "--states", default="accepted,kept_original",
        help="terminal states to export, comma separated (default accepted,kept_original)",
    )  # fmt: skip
    add("--max-rows", type=int, help="the first so many rows of these states")
    add(
        "--split",
        default="train",
        help="name of the split; several splits can share a folder (default train)",
    )
    add("--license", default="unknown", help="for the data set card, as cc-by-4.0 (default unknown)")
    add("--part-mb", type=int, default=256, help="about the size of a file, in MB (default 256)")
    add("--workers", type=int, default=1, help="files in work at once, on Ray when more than one (default 1)")
    return made
