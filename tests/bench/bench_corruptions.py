"""Images per second and core of the corruptions, beside imagecorruptions-imaug on the same pictures.

    python tests/bench/bench_corruptions.py                       640 x 480, all corruptions, severities 1, 3 and 5
    python tests/bench/bench_corruptions.py --golden tests/eval/golden_corruptions.npz

Both run in one thread, one picture after the other, PNG and JPEG aside: only the corruption is timed, each at the
best of its rounds. The peer: ``pip install --no-deps imagecorruptions-imaug scikit-image imageio lazy_loader tifffile``
(its own requirement of opencv-python would replace the headless build). ``--golden`` writes what the tests compare
with where the peer is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2

from eval.corruptions.corrupt import corrupt
from eval.corruptions.severities import NAMES
from tests.bench.machine import machine
from tests.eval.corruption_reference import picture, write_golden


def fastest(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of the fastest round, after one that warms up."""
    call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> int:
    """Print a line per corruption and the ratio over all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--severities", type=int, nargs="+", default=(1, 3, 5))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="PATH", help="keep all numbers")
    parser.add_argument("--golden", metavar="PATH", help="write the peer's results for the tests instead")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    from imagecorruptions import corrupt as peer

    if args.golden:
        write_golden(args.golden, peer)
        return 0
    pixels = picture(*args.size)
    print(machine("numpy", "opencv-python-headless", "imagecorruptions-imaug", "scikit-image"))
    print(f"{args.size[1]} x {args.size[0]}, severities {args.severities}, ms a picture, one thread")
    found: dict[str, list[float]] = {}
    for name in NAMES:
        ours = theirs = 0.0
        for severity in args.severities:
            ours += fastest(lambda n=name, s=severity: corrupt(pixels, n, s), args.rounds)
            theirs += fastest(
                lambda n=name, s=severity: peer(pixels, severity=s, corruption_name=n), args.rounds
            )
        found[name] = [ours / len(args.severities), theirs / len(args.severities)]
        mine, other = found[name]
        print(f"{name:<20}{mine * 1e3:8.1f}{other * 1e3:8.1f}{other / mine:8.1f} x")
    mine, other = (sum(times[k] for times in found.values()) / len(found) for k in (0, 1))
    print(f"{'mean':<20}{mine * 1e3:8.1f}{other * 1e3:8.1f}{other / mine:8.1f} x")
    print(f"images/s per core: {1 / mine:.0f} ours, {1 / other:.0f} theirs, ratio {other / mine:.1f}")
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
