"""Our pool against chained ``ray.data.llm`` processors: the same procedure, model, prompts, sampling and pictures.

    python tests/bench/bench_chained.py --images 120

ComVint without reformulation and without second attempts: synthesize → verify → complicate → verify → rewrite → review.
Ours is `datagen.pipeline`; the peer is chained_peer.py, which says how it came to be as it is. Each runs in a process
and a Ray of its own. Printed: accepted rows per hour (aim: twice the peer's), with and without the time in which
engines start; peak bytes in the object store and in all processes; and, with ``--kill``, what a kill -9 of the driver
in the middle leaves: processes, and rows lost or doubled after running the same command again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_engine import REPO, equal_priority, machine, read_tape, run_ours

EXAMPLES = """examples:
  python tests/bench/bench_chained.py                        about 8 minutes on two quiet cores
  python tests/bench/bench_chained.py --images 40 --kill 2   also kills each side and lets it resume
  python tests/bench/bench_chained.py --images 20 --sides peer --batch-size 16
"""
AIM = 2.0
SAMPLE_S = 0.5
# The procedure that a chain of processors can express: no second attempts, no forms with calls of their own.
PROCEDURE = (
    "reformulate={bool_share: 0, choice_share: 0}",
    "rewrite={retries: 0}",
    "sampling={retry_temperatures: []}",
    "gates=[length, degenerate, meta_talk, template_only, preserve]",
)


def main() -> int:
    """Run both sides by turns and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=120, help="pictures of the starter world (default 120)")
    parser.add_argument("--shard-images", type=int, default=10, help="pictures in a shard (default 10)")
    parser.add_argument("--repeats", type=int, default=1, help="rounds of both sides (default 1)")
    parser.add_argument("--sides", nargs="+", choices=("ours", "peer"), default=["ours", "peer"])
    parser.add_argument(
        "--kill", type=float, metavar="SHARE", help="then kill each side at this share of its time"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="peer: rows of a batch (default 16)")
    parser.add_argument("--concurrent-batches", type=int, default=8, help="peer: batches at once (default 8)")
    parser.add_argument("--block-rows", type=int, default=32, help="peer: rows of an input and result file")
    parser.add_argument(
        "--token-stages",
        action="store_true",
        help="peer: tokenize and detokenize in stages of their own, not in vLLM",
    )
    parser.add_argument("--json", metavar="PATH", help="also write all numbers here")
    parser.add_argument("--keep", metavar="DIR", help="work here and keep what was made")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "CORPUS", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        side, corpus, work = args.side
        run_side(side, corpus, Path(work), peer_settings(args))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-chained-") as temporary:
        compare(args, Path(args.keep or temporary).resolve())
    return 0


def peer_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the peer can be tuned by."""
    return {
        "batch_size": args.batch_size,
        "concurrent_batches": args.concurrent_batches,
        "block_rows": args.block_rows,
        "token_stages": args.token_stages,
    }


def compare(args: argparse.Namespace, root: Path) -> None:
    """Make the corpus, run both sides by turns, kill where asked, print and store."""
    from datagen.starter.world import WorldConfig, write_world

    facts = machine()
    print("\n".join(f"{name:<9} {value}" for name, value in facts.items()))
    world = WorldConfig(images=args.images, shard_images=args.shard_images, gold=())
    corpus = write_world(str(root), world).corpus
    rounds: list[dict[str, Any]] = []
    for number in range(args.repeats):
        found = {}
        for side in args.sides if number % 2 == 0 else args.sides[::-1]:
            work = root / f"{side}-{number}"
            ran = Ran(side, corpus, work, args)
            ran.wait()
            found[side] = measured(side, work, ran)
            show(number, side, found[side], first=not rounds and side == args.sides[0])
        rounds.append(found)
    result: dict[str, Any] = {
        "machine": facts,
        "images": args.images,
        "peer": peer_settings(args),
        "rounds": rounds,
    }
    if args.kill:
        result["killed"] = {
            side: killed(side, corpus, root / f"{side}-killed", args, rounds[0][side]) for side in args.sides
        }
    print(verdict(result))
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))


# --- one side, in its own process -----------------------------------------------------------------------------------


def run_side(side: str, corpus: str, work: Path, peer: dict[str, Any]) -> None:
    """Run (or resume) a side in ``work``; ``store.json`` tells what the object store held at most."""
    from cluster.runtime import init_ray

    # What our engine sets for itself (datagen.engine) the peer's engines get too: one thread, not bound to a core.
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    equal_priority()
    work.mkdir(parents=True, exist_ok=True)
    with init_ray(num_cpus=16), store_watched(work / "store.json"):
        if side == "ours":
            run_ours(
                corpus, str(work / f"calls-{os.getpid()}.jsonl"), list(PROCEDURE), output=str(work / "set")
            )
        else:
            import chained_peer

            from cluster.config import load_config
            from datagen.config import PRESETS_DIR, DatagenConfig

            settings = [f"corpus={corpus}", "output=unused", *PROCEDURE]
            chained_peer.run(load_config(DatagenConfig, PRESETS_DIR, "demo", settings), work, peer)


@contextmanager
def store_watched(path: Path) -> Iterator[None]:
    """Ask the node for the use of its object store while the body runs."""
    import ray
    from ray._private.internal_api import node_stats

    node, ended = ray.nodes()[0], threading.Event()
    stats: list[Any] = []

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            stats.append(node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], False).store_stats)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        peak = max((s.object_store_bytes_used for s in stats), default=0)
        made = max((s.cumulative_created_bytes for s in stats), default=0)
        path.write_text(json.dumps({"peak": peak, "made": made}))


# --- the orchestrator -------------------------------------------------------------------------------------------------


class Ran:
    """A side at work in a process of its own, and the memory of all its descendants."""

    def __init__(self, side: str, corpus: str, work: Path, args: argparse.Namespace) -> None:
        import psutil

        command = [sys.executable, __file__, "--side", side, corpus, str(work)]
        for name, value in peer_settings(args).items():
            flag = f"--{name.replace('_', '-')}"
            command += [flag] * value if isinstance(value, bool) else [flag, str(value)]
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.begun = work, time.time()
        self.log = (work / "log.txt").open("a")
        self.process = subprocess.Popen(
            command, cwd=REPO, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.root = psutil.Process(self.process.pid)
        self.family: dict[int, Any] = {}
        self.cpu: dict[int, float] = {}
        self.peak_rss = self.peak_own = self.peak_processes = 0

    def look(self) -> None:
        """One sample of memory: resident in all, and less what is shared (the object store among it)."""
        import psutil

        rss = own = count = 0
        try:
            family = [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            self.family[process.pid] = process
            try:
                memory = process.memory_info()
                self.cpu[process.pid] = sum(process.cpu_times()[:2])
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            rss, own, count = rss + memory.rss, own + memory.rss - memory.shared, count + 1
        self.peak_rss, self.peak_own = max(self.peak_rss, rss), max(self.peak_own, own)
        self.peak_processes = max(self.peak_processes, count)

    def wait(self, pieces: int | None = None) -> bool:
        """Watch until the end; False as soon as so many pieces of the result are there."""
        while self.process.poll() is None:
            self.look()
            if pieces is not None and len(durable(self.work)) >= pieces:
                return False
            time.sleep(SAMPLE_S)
        self.ended = time.time()
        self.log.close()
        if self.process.returncode:
            raise SystemExit(Path(self.log.name).read_text()[-4000:])
        return True

    def kill(self) -> list[str]:
        """kill -9 of the driver alone; names of its processes that are still there after half a minute. They are then
        ended, each by its own id."""
        import psutil

        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        left = [p for p in self.family.values() if p.is_running()]
        _, left = psutil.wait_procs(left, timeout=30)
        names = []
        for process in left:
            try:
                names.append(process.name())
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=10)
        return names


def durable(work: Path) -> list[Path]:
    """What would outlive the driver: our commit records, the peer's result files of any job."""
    places = ("set/commits/*.json", "verified/*.parquet", "complicated/*.parquet", "final/*.parquet")
    return [path for place in places for path in work.glob(place)]


def accepted(side: str, work: Path) -> list[str]:
    """Ids of the result's rows."""
    if side == "peer":
        from chained_peer import results

        return [row["id"] for row in results(work)]
    from cluster.datasets import iter_tables

    return [name for table in iter_tables(str(work / "set")) for name in table.column("id").to_pylist()]


def starting_seconds(side: str, work: Path, begun: float) -> float:
    """Time in which no engine answered yet: up to the first call's end, for the peer of every job."""
    if side == "ours":
        tape = next(iter(sorted(work.glob("calls-*.jsonl"))))
        first = min(call["ended"] for call in read_tape(tape)["calls"])
        return first - time.monotonic() + time.time() - begun
    import pyarrow.parquet as pq

    jobs = [json.loads(line) for line in (work / "jobs.jsonl").read_text().splitlines()]
    folders = {"first": "verified", "harder": "complicated", "manner": "final"}
    waited = jobs[0]["begun"] - begun
    for job in jobs:
        if folder := folders.get(job["job"]):
            tables = [pq.read_table(path, columns=["at"]) for path in (work / folder).glob("*.parquet")]
            times = [at for table in tables for at in table.column("at").to_pylist() if at > job["begun"]]
            waited += min(times, default=job["ended"]) - job["begun"]
    return float(waited)


def measured(side: str, work: Path, ran: Ran) -> dict[str, Any]:
    """Numbers of a side that ran to its end."""
    ids, store = accepted(side, work), json.loads((work / "store.json").read_text())
    wall, waited = ran.ended - ran.begun, starting_seconds(side, work, ran.begun)
    return {
        "accepted": len(ids),
        "ids": sorted(ids),
        "wall_s": wall,
        "starting_s": waited,
        "per_hour": 3600 * len(ids) / wall,
        "per_hour_running": 3600 * len(ids) / (wall - waited),
        "store_peak_mib": store["peak"] / 2**20,
        "store_made_mib": store["made"] / 2**20,
        "rss_peak_gib": ran.peak_rss / 2**30,
        "own_peak_gib": ran.peak_own / 2**30,
        "processes": ran.peak_processes,
        "cpu_s": sum(ran.cpu.values()),
        "cpu_s_per_accepted": sum(ran.cpu.values()) / len(ids),
    }


def killed(
    side: str, corpus: str, work: Path, args: argparse.Namespace, whole: dict[str, Any]
) -> dict[str, Any]:
    """Kill the driver, run the same command again, and compare with the run in one piece."""
    ran = Ran(side, corpus, work, args)
    if ran.wait(args.kill):
        return {"note": "it had ended before the kill"}
    killed_at = time.time() - ran.begun
    left = ran.kill()
    again = Ran(side, corpus, work, args)
    again.wait()
    ids = Counter(accepted(side, work))
    # Sampled texts depend a little on what else is in the batch, so "lost" is against the drafts that passed before.
    there = set(whole["ids"])
    return {
        "killed_at_s": round(killed_at, 1),
        "processes_left": left,
        "resumed_s": round(again.ended - again.begun, 1),
        "in_one_piece_s": round(whole["wall_s"], 1),
        "rows": sum(ids.values()),
        "doubled": sum(n - 1 for n in ids.values()),
        "not_in_whole": len(set(ids) - there),
        "missing_of_whole": len(there - set(ids)),
    }


# --- numbers ------------------------------------------------------------------------------------------------------


def show(number: int, side: str, found: dict[str, Any], *, first: bool) -> None:
    """One side of one round as a line."""
    if first:
        print(f"\n{'round':<6}{'side':<6}{'accepted':>9}{'wall s':>8}{'starting s':>11}{'rows/h':>9}", end="")
        print(
            f"{'running':>9}{'store MiB':>10}{'made MiB':>9}{'RSS GiB':>8}{'own GiB':>8}{'procs':>6}{'CPU s':>7}"
        )
    print(
        f"{number + 1:<6}{side:<6}{found['accepted']:>9}{found['wall_s']:>8.1f}{found['starting_s']:>11.1f}"
        f"{found['per_hour']:>9.0f}{found['per_hour_running']:>9.0f}{found['store_peak_mib']:>10.2f}"
        f"{found['store_made_mib']:>9.1f}{found['rss_peak_gib']:>8.1f}{found['own_peak_gib']:>8.1f}"
        f"{found['processes']:>6}{found['cpu_s']:>7.0f}",
        flush=True,
    )


def verdict(result: dict[str, Any]) -> str:
    """Ratios, and what the kills did."""
    rounds, lines = result["rounds"], []
    if all({"ours", "peer"} <= found.keys() for found in rounds):
        titles = {
            "per_hour": "accepted rows per hour, start of engines included",
            "per_hour_running": "accepted rows per hour, without the time in which engines start",
            "cpu_s_per_accepted": "CPU seconds of all processes per accepted row, start of engines included",
            "store_peak_mib": "peak of the object store",
            "rss_peak_gib": "peak resident memory, summed over processes",
        }
        lines.append("\nours / peer: median (least … most)")
        for key, title in titles.items():
            found = [r["ours"][key] / max(r["peer"][key], 1e-9) for r in rounds]
            lines.append(f"  {statistics.median(found):.3f} ({min(found):.3f} … {max(found):.3f})  {title}")
        both = [len(set(r["ours"]["ids"]) & set(r["peer"]["ids"])) for r in rounds]
        lines.append(f"  {both[0]} rows were accepted by both (same ids, round 1)")
        reached = statistics.median(r["ours"]["per_hour"] / r["peer"]["per_hour"] for r in rounds)
        lines.append(f"aim {AIM}: {'reached' if reached >= AIM else 'missed'} with {reached:.2f}")
    for side, found in result.get("killed", {}).items():
        lines.append(f"\n{side}, driver killed: {json.dumps(found)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    sys.exit(main())
