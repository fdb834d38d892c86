"""``l2t eval corrupt``: copies of a corpus with ImageNet-C corruptions, for robustness (MSCOCO-C, Flickr30k-C)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from eval.corruptions.severities import EXTRA, LEVELS, MAIN, NAMES, SEVERITIES

# Sight Beyond Text, section 4.4: four corruptions, every other severity; the score is the mean of the twelve.
PAPER = (("gaussian_noise", "defocus_blur", "contrast", "brightness"), (1, 3, 5))
PRESETS = {"paper": PAPER, "all": (NAMES, LEVELS), "imagenet-c": (MAIN, LEVELS)}

EXAMPLES = """examples:
  l2t eval corrupt runs/benchmarks runs/coco-c --names coco_karpathy --preset paper   the 4 x 3 of Sight Beyond Text
  l2t eval corrupt runs/benchmarks runs/coco-c --names coco_karpathy --preset all     15 + 4 corruptions x 5 severities
  l2t eval corrupt runs/world/corpora/starter-test runs/starter-c --corruptions fog snow --severities 3
  l2t eval corrupt runs/benchmarks s3://bucket/c --names flickr30k --corruptions frost --frost-images frost/
  l2t eval corrupt --list                                                     what there is

Of benchmarks, <output>/<corruption>/<severity> is a root as `l2t eval import` makes one, with the same questions:
  l2t eval run robustness ... benchmarks=runs/coco-c/fog/3
Of a corpus it is a corpus, for the questions of the old one:
  l2t eval run starter ... corpus=runs/starter-c/fog/3 instructions=runs/world/instructions/starter-test-questions
Pictures are kept as PNG, about 0.5 MB each at 640 x 480 (--encoding jpeg: half of that, and not exact).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and make the corpora; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(None if argv is None else list(argv))
    if args.list:
        for name in NAMES:
            kind = "extra" if name in EXTRA else ""
            print(f"{name:<20}{kind:<8}{'  '.join(str(level) for level in SEVERITIES[name])}")
        return 0
    if not (args.corpus and args.output):
        parser.error("give the corpus and where the corrupted ones go, or --list")
    if args.preset and (args.corruptions or args.severities):
        parser.error("give --preset or --corruptions and --severities, not both")
    names, levels = PRESETS[args.preset] if args.preset else (args.corruptions, args.severities or LEVELS)
    if not names:
        parser.error("give --preset or --corruptions")
    from cluster.errors import UserError

    try:
        picks = [(name, level) for name in dict.fromkeys(names) for level in dict.fromkeys(levels)]
        print(*_make(args, picks), sep="\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _make(args: argparse.Namespace, picks: Sequence[tuple[str, int]]) -> list[str]:
    """The new corpora, or the new roots of benchmarks."""
    from cluster.storage import join
    from eval.corruptions.benchmarks import corrupt_benchmarks
    from eval.corruptions.dataset import CorruptionJob, corrupt_corpora

    how = {"encoding": args.encoding, "photographs": args.frost_images}
    if args.names:
        return corrupt_benchmarks(args.corpus, args.names, args.output, picks, **how)
    return corrupt_corpora([
        CorruptionJob(
            corpus=args.corpus,
            output=join(args.output, name, str(level)),
            corruption=name,
            severity=level,
            **how,
        )
        for name, level in picks
    ])  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="l2t eval corrupt",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "corpus",
        nargs="?",
        help="URI of the corpus to corrupt, with --names the root of imported benchmarks; it stays as it is",
    )
    parser.add_argument("output", nargs="?", help="URI below which the corrupted corpora go")
    parser.add_argument("--names", nargs="+", metavar="BENCHMARK", help="imported benchmarks to corrupt")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="a set of corruptions and severities")
    parser.add_argument("--corruptions", nargs="+", metavar="NAME", help="names from --list")
    parser.add_argument(
        "--severities", nargs="+", type=int, metavar="1-5", help="default with --corruptions: all five"
    )
    parser.add_argument("--encoding", choices=("png", "jpeg"), default="png", help="of the stored pictures")
    parser.add_argument(
        "--frost-images",
        default="",
        metavar="URI",
        help="folder with ImageNet-C's six photographs of frost; without it ice is drawn",
    )
    parser.add_argument("--list", action="store_true", help="print the corruptions and their numbers")
    return parser
