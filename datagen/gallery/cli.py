"""`l2t view`: a page of images, what was written about them, the verdicts, and where every row went."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cluster.errors import UserError

EXAMPLES = """examples:
  l2t view runs/world/instructions/mine
  l2t view runs/world/instructions/mine --state rejected:unverified --images 40 --out rejects.html
  l2t view runs/world/corpora/starter-train --all
  l2t view s3://bucket/instructions/a s3://bucket/instructions/b --kind count --seed 1

A page shows a seeded sample in which every terminal state and every kind occurs, and says what it is a sample of.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; 0 done, 2 for bad input."""
    args = parser().parse_args(argv)
    try:
        return _write(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t view",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("datasets", nargs="+", help="URIs of published instruction sets or corpora")
    made.add_argument("--out", default="gallery.html", help="file or URI of the page (gallery.html)")
    made.add_argument("--images", type=int, default=24, help="images shown of each data set (24)")
    made.add_argument("--all", action="store_true", help="all images, up to the size of a page")
    made.add_argument("--state", default="", help="only images with such rows: rejected, rejected:unverified")
    made.add_argument("--kind", default="", help="only images with rows of this kind")
    made.add_argument("--seed", type=int, default=0, help="another sample (0)")
    made.add_argument("--max-mb", type=float, default=20.0, help="size of the page at most (20)")
    made.add_argument("--corpus", help="URI of the corpus, if it is no longer where it was")
    return made


def _write(args: argparse.Namespace) -> int:
    if args.images < 1:
        raise UserError(f"--images {args.images}: a page shows at least one image")
    if args.max_mb < 1:
        raise UserError(f"--max-mb {args.max_mb}: a page needs at least 1")

    from cluster import storage
    from datagen.gallery.page import build
    from datagen.gallery.sample import Choice

    images = None if args.all else args.images
    choice = Choice(images=images, seed=args.seed, state=args.state, kind=args.kind)
    page = build(args.datasets, choice, corpus=args.corpus, max_bytes=int(args.max_mb * 1e6))
    storage.write_bytes(args.out, page.html.encode())
    for note in page.notes:
        print(note)
    print(f"{args.out}  {len(page.html.encode()) / 1e6:.1f} MB")
    return 0
