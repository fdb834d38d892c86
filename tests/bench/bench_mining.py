"""Template mining: sentences/s and peak memory, ours against DuckDB, on the same Parquet files in one run.

    python tests/bench/bench_mining.py                       # 1,000,000 instructions
    python tests/bench/bench_mining.py --turns 100000 --rounds 1
    python tests/bench/bench_mining.py --ray                 # ours as a Ray Data aggregate too

Both read the published shards of one instruction set, take the human turns, cut them into sentences, count in how many
turns each stands, and keep those in 0.5 % of the turns. The kept sentences and their counts have to be those
that `train.mask.templates.sentences` gives in plain Python. DuckDB is
given less to do: it folds just the quotes and spaces that the data holds (it has no NFKC), knows the number of turns
beforehand and writes nothing. It runs with its own default of threads; ours counts shards in as many threads as
there are cores, eight at most.

The instructions are made from a seed, three to a conversation, in the manner of LLaVA-mix-665k: visual questions with
an output format, choices, text recognition, boxes of regions, books, and long free questions; some with curly quotes,
wide spaces and letters beyond ASCII. Nine in ten distinct sentences stand once.

Each runs in a process of its own, in turn, ``--rounds`` times. Peak memory is the high-water mark of the process
(VmHWM), imports included; with ``--ray`` the largest sum of proportional set sizes over its process tree, every 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
MIN_SHARE = 0.005
ROWS = 10_000  # of a shard
TURNS = 3  # of a conversation
PHRASE = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image.\nReference OCR token:"
THINGS = (
    "man woman dog street car bus train table plate shirt sign boat horse bench tree wall bird cat lamp pizza bike "
    "ball kite phone chair clock river bridge window door shelf towel truck umbrella helmet glove laptop mirror café"
)
LOOKS = "red blue green old young small large wooden empty striped left right metal plastic dark bright"
DOINGS = "holding wearing watching eating near behind under beside riding using carrying facing"
NOUNS, KINDS, DEEDS = THINGS.split(), LOOKS.split(), DOINGS.split()
ASKS = [
    "What color is the {a} {n}?", "How many {n}s are there?", "Is the {n} {d} the {m}?", "What is the {n} {d}?",
    "Where is the {a} {n}?", "Who is {d} the {m}?", "Is there a {a} {n} {d} the {m}?", "Which {n} is {a}?",
    "Are there any {n}s to the {b} of the {a} {m} that is {d} the {n}?",
]  # fmt: skip
DUCKDB = """
WITH said AS (
    SELECT translate(replace(t.text, '<image>', chr(10)), '‘’“”' || chr(160) || chr(12288), $quotes) AS text
    FROM (SELECT unnest(conversation) AS t FROM read_parquet($files)) WHERE t.role = 'user'
), cut AS (
    SELECT unnest(list_distinct(list_filter(list_transform(
        string_split(regexp_replace(text, '([.?!:])\\s+', $mark, 'g'), chr(10)),
        lambda s: trim(CASE WHEN contains(s, '  ') THEN regexp_replace(s, ' +', ' ', 'g') ELSE s END)
    ), lambda s: s <> ''))) AS sentence FROM said
)
SELECT sentence, count(*) AS n FROM cut GROUP BY sentence HAVING n >= $floor ORDER BY n DESC, sentence
"""


def instruction(rng: random.Random) -> str:
    """One human turn."""
    pick = rng.random()
    n, m, a, b, d = (rng.choice(words) for words in (NOUNS, NOUNS, KINDS, KINDS, DEEDS))
    ask = rng.choice(ASKS).format(n=n, m=m, a=a, b=b, d=d)
    box = "[" + ", ".join(f"{rng.random():.2f}" for _ in range(4)) + "]"
    if pick < 0.42:
        return f"{ask}\n{PHRASE}"
    if pick < 0.50:
        options = "\n".join(f"{letter}. {rng.choice(KINDS)} {rng.choice(NOUNS)}" for letter in "ABCD")
        return f"{ask}\n{options}\n{LETTER.replace(chr(39), rng.choice(chr(39) + '’'))}"
    if pick < 0.55:
        return f"{CAPTION} {', '.join(rng.choices(NOUNS, k=rng.randrange(1, 12)))}"
    if pick < 0.67:
        return f"Please provide a short description for this region: {box}."
    if pick < 0.77:
        return f"Please provide the bounding box coordinate of the region this sentence describes: {a} {n} {d} {m}."
    if pick < 0.80:
        return rng.choice(
            ["What is the title of this book?", "Who wrote this book?", "What type of book is this?"]
        )
    words = " ".join(rng.choices(NOUNS + KINDS + DEEDS, k=rng.randrange(8, 30)))
    if pick < 0.97:
        return f"{ask} Consider the {words}. Can you explain what the “{n}”  tells about it?"
    return f"{ask} The sign says “{words}”.\u3000Is it the {m}’s\u00a0{n}?"


def write_data(uri: str, turns: int) -> dict[str, Any]:
    """A published instruction set, and what the definition in plain Python counts in it."""
    import pyarrow as pa

    from cluster import datasets
    from train.mask.templates import sentences

    rng = random.Random(665)
    rows = -(-turns // TURNS)
    shards = -(-rows // ROWS)
    kind = pa.struct([("role", pa.string()), ("text", pa.string())])
    truth: Counter[str] = Counter()
    datasets.plan_dataset(uri, kind="instructions", name="bench", shards=shards, config={})
    for shard in range(shards):
        talks = []
        for row in range(shard * ROWS, min(rows, (shard + 1) * ROWS)):
            talk = []
            for turn in range(min(TURNS, turns - row * TURNS)):
                text = ("" if turn else "<image>\n") + instruction(rng)
                truth.update(set(sentences(text)))
                talk += [{"role": "user", "text": text}, {"role": "assistant", "text": rng.choice(NOUNS)}]
            talks.append(talk)
        columns = {"conversation": pa.array(talks, pa.list_(kind)), "kind": pa.array(["mix"] * len(talks))}
        datasets.commit_shard(uri, shard, {"rows": pa.table(columns)})
    stored = sum(shard.parts["rows"].bytes for shard in datasets.freeze(uri).shards)
    kept = sorted((-n, text) for text, n in truth.items() if n >= max(3, MIN_SHARE * turns))
    return {
        "sentences": truth.total(),
        "distinct": len(truth),
        "once": sum(n == 1 for n in truth.values()),
        "shards": shards,
        "mib": stored / 2**20,
        "kept": [[text, -n] for n, text in kept],
    }


def ours(uri: str, turns: int) -> Callable[[], list[tuple[str, int]]]:
    """Mining as a run does it; like DuckDB, Arrow is loaded before the clock starts."""
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    from train.config import DataSource
    from train.mask.mining import mine_dataset

    def count() -> list[tuple[str, int]]:
        found = mine_dataset([DataSource(instructions=uri)], min_share=MIN_SHARE)
        assert found.turns == turns
        return list(found.counts)

    return count


def through_ray(uri: str, turns: int) -> Callable[[], list[tuple[str, int]]]:
    """The same with Ray running; its start is not counted."""
    import atexit
    from contextlib import ExitStack

    from cluster.runtime import init_ray
    from train.mask import mining

    mining.FEW_SHARDS = 0
    running = ExitStack()
    running.enter_context(init_ray())
    atexit.register(running.close)
    return ours(uri, turns)


def theirs(uri: str, turns: int) -> Callable[[], list[tuple[str, int]]]:
    """DuckDB's SQL over the same files."""
    import duckdb

    from cluster.datasets import read_manifest

    values = {
        "files": [f"{uri}/{shard.parts['rows'].path}" for shard in read_manifest(uri).shards],
        "quotes": "''\"\"  ",
        "mark": "\\1\n",
        "floor": max(3, MIN_SHARE * turns),
    }
    return lambda: duckdb.connect().execute(DUCKDB, values).fetchall()


WRITE, RAY = "write", "ours, Ray Data"
SIDES = {"ours": ours, RAY: through_ray, "DuckDB": theirs}


def measure(side: str, uri: str, turns: int) -> dict[str, Any]:
    """One count in this process."""
    if side == WRITE:
        return {"found": write_data(uri, turns), "peak": 0.0}
    count = SIDES[side](uri, turns)
    before, cpu, wall = high_water(), time.process_time(), time.perf_counter()
    found = count()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"found": found, "wall": wall, "cpu": cpu, "peak": high_water(), "before": before}


def high_water() -> float:
    """MiB that this process has had at most; unlike ru_maxrss without what its parent had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tree_memory(root: int) -> float:
    """MiB of a process and all below it, shared pages counted once."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(status.parent.name))

    def family(pid: int) -> Iterator[int]:
        yield pid
        for child in children.get(pid, ()):
            yield from family(child)

    total = 0
    for pid in family(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def in_a_process(side: str, uri: str, turns: int) -> dict[str, Any]:
    """``measure`` elsewhere, with the memory of its whole tree where it has one."""
    command = [sys.executable, __file__, "--turns", str(turns), "--one", side, uri]
    peak = 0.0
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=REPO, stdout=out)
        while process.poll() is None:
            if side == RAY:
                peak = max(peak, tree_memory(process.pid))
            time.sleep(0.05)
        if process.returncode:
            sys.exit(f"{side} failed")
        out.seek(0)
        found = json.loads(out.read().splitlines()[-1])
    return {**found, "peak": max(peak, found["peak"])}


def spread(values: list[float], digits: int) -> str:
    """Median, and the extremes where there are several."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} … {max(values):,.{digits}f})"


def machine() -> str:
    """What this ran on."""
    import duckdb

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
    return (
        f"{os.cpu_count()} cores of {cpu}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, commit {commit.stdout.strip()}"
    )


def report(data: dict[str, Any], runs: dict[str, list[dict[str, Any]]], turns: int) -> None:
    """The tables and the ratios."""
    print(
        f"{turns:,} instructions in {data['shards']} shards ({data['mib']:.0f} MiB), {data['sentences']:,} sentences, "
        f"{data['distinct']:,} distinct, {data['once']:,} of them once; {len(data['kept'])} kept"
    )
    print(f"{'':<14}{'sentences/s':>32}{'CPU s':>20}{'peak MiB':>24}{'before it':>11}")
    for side, found in runs.items():
        rates = spread([data["sentences"] / run["wall"] for run in found], 0)
        cpu = "" if side == RAY else spread([run["cpu"] for run in found], 2)
        peak, before = spread([run["peak"] for run in found], 0), found[0]["before"]
        print(f"{side:<14}{rates:>32}{cpu:>20}{peak:>24}{before:>11,.0f}")
    for side, found in runs.items():
        if side != "DuckDB":
            pairs = list(zip(found, runs["DuckDB"], strict=True))
            speed = spread([theirs["wall"] / ours["wall"] for ours, theirs in pairs], 2)
            work = "" if side == RAY else spread([theirs["cpu"] / ours["cpu"] for ours, theirs in pairs], 2)
            memory = spread([ours["peak"] / theirs["peak"] for ours, theirs in pairs], 2)
            print(
                f"{side} ÷ DuckDB: sentences/s {speed}, sentences per CPU second {work or '?'}, peak memory {memory}"
            )


def main() -> None:
    """Make the data, measure both, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=1_000_000, help="instructions, one human turn each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="count through Ray Data too")
    parser.add_argument("--json", help="keep all numbers in this file")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.turns)))
        return
    sides = [side for side in SIDES if side != RAY or args.ray]
    print(f"on {machine()}")
    with tempfile.TemporaryDirectory() as folder:
        uri = f"{folder}/bench"
        data = in_a_process(WRITE, uri, args.turns)["found"]
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(args.rounds):
            for side in sides:
                runs[side].append(in_a_process(side, uri, args.turns))
                if runs[side][-1]["found"] != data["kept"]:
                    sys.exit(f"{side} counted something else than the definition in plain Python")
    report(data, runs, args.turns)
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": machine(), "data": data, "runs": runs}, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    main()
