"""Weak and strong scaling of datagen and of template mining over local Ray nodes.

    python tests/bench/bench_scaling.py                         # 1, 2, 4 nodes, about 5 minutes
    python tests/bench/bench_scaling.py --nodes 1 2 --shards 6 --seconds 0.5 --turns 0
    python tests/bench/bench_scaling.py --shards 0              # mining only

Datagen: an actor per node, an engine that answers every call after ``--seconds`` and computes nothing (the engine is
what a cluster has more of with every node; here it must not compute, since all nodes share this machine's cores).
Weak: as many shards for every node; strong: as many shards in all. Efficiency is images/s per node over that of one
node, in the middle of the run where all actors work (aim: 0.95); ``whole`` is the same from the first row in work to
the last commit, with actors that start one after the other and the tail. ``cores`` is how many cores all processes of
the machine kept busy: near the number of cores the nodes wait for each other, and the number says nothing.

Mining computes, so local nodes cannot be faster together than all cores are beyond those that one of them keeps busy
already (a task reads and counts with Arrow's threads): that is its limit, by ``cores``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def datagen(counts: list[int], shards: int, images: int, seconds: float) -> None:
    """Both kinds of scaling, a cluster for every number of nodes."""
    from tests.bench.latency_run import Work, engine, environment, run
    from tests.chaos.nodes import Nodes

    print(f"datagen, engine answers after {seconds:g} s, shards of {images} images")
    print(f"{'':<8}{'nodes':>6}{'shards':>8}{'images/s':>10}{'efficiency':>12}{'whole':>8}{'cores':>7}")
    base: tuple[float, float] | None = None
    for count in counts:
        with engine(seconds) as (server, _):
            nodes = Nodes(environment(), count, 1)
            try:
                kinds = {"weak": shards * count, "strong": shards * max(counts)}
                for kind, number in kinds.items():
                    found = run(Work(shards=number, images=images, actors=count), nodes.address, server)
                    whole = number * images / (found.ended - found.begun)
                    base = base or (found.rate / count, whole / count)
                    shown = found.rate / count / base[0], whole / count / base[1]
                    print(
                        f"{kind:<8}{count:>6}{number:>8}{found.rate:>10.2f}{shown[0]:>12.3f}{shown[1]:>8.3f}"
                        f"{found.cpu:>7.2f}",
                        flush=True,
                    )
            finally:
                nodes.close()


def mining(counts: list[int], turns: int) -> None:
    """The Ray path of mining on one data set, strong scaling."""
    from tests.bench.bench_mining import write_data
    from tests.bench.latency_run import environment
    from tests.chaos.nodes import Nodes

    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        told = write_data(place, turns)
        print(f"mining, {turns:,} turns in {told['shards']} shards")
        print(f"{'nodes':>6}{'seconds':>9}{'cores':>7}{'speed-up':>10}{'limit':>7}{'efficiency':>12}")
        base = busy_alone = 0.0
        for count in counts:
            nodes = Nodes(environment(), count, 1)
            try:
                command = [sys.executable, __file__, "--mine", place]
                done = subprocess.run(
                    command, env=environment({"RAY_ADDRESS": nodes.address}), capture_output=True, text=True
                )
            finally:
                nodes.close()
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            took, busy = map(float, done.stdout.splitlines()[-1].split())
            base, busy_alone = base or took, busy_alone or busy
            limit = min(count / counts[0], max(1.0, cores / busy_alone))
            print(
                f"{count:>6}{took:>9.1f}{busy:>7.2f}{base / took:>10.2f}{limit:>7.2f}{base / took / limit:>12.2f}",
                flush=True,
            )


def mine(uri: str) -> tuple[float, float]:
    """Seconds of one count by the cluster that the environment names, its workers warm, and cores busy meanwhile."""
    import psutil

    from cluster.runtime import init_ray
    from train.config import DataSource
    from train.mask import mining as module

    module.FEW_SHARDS = 0
    with init_ray():
        module.mine_dataset([DataSource(instructions=uri)], min_share=0.005)
        before, begun = psutil.cpu_times(), time.perf_counter()
        module.mine_dataset([DataSource(instructions=uri)], min_share=0.005)
        took, after = time.perf_counter() - begun, psutil.cpu_times()
        busy = sum(after) - sum(before) - (after.idle - before.idle) - (after.iowait - before.iowait)
        return took, busy / took


def main() -> None:
    """Scaling of both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--shards", type=int, default=12, help="of datagen for each node; 0: mining only")
    parser.add_argument("--images", type=int, default=4, help="of a shard")
    parser.add_argument("--seconds", type=float, default=1.0, help="latency of the engine")
    parser.add_argument("--turns", type=int, default=300_000, help="human turns to mine; 0: datagen only")
    parser.add_argument("--mine", metavar="URI", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mine:
        print(*mine(args.mine))
        return
    from tests.bench.machine import machine

    print(f"on {machine('ray')}")
    if args.shards:
        datagen(args.nodes, args.shards, args.images, args.seconds)
    if args.turns:
        mining(args.nodes, args.turns)


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
