"""Importing mix-665k-shaped JSON: rows/s and peak memory, ours against `datasets`, on the same file in one run.

    python tests/bench/bench_import.py                 # 50,000 rows
    python tests/bench/bench_import.py --rows 665000

Ours: `l2t corpus llava` as it is, which reads the JSON, groups it, opens and checks every picture, and commits a corpus
with the pictures and an instruction set with parsed conversations.

`datasets`, three times: `load_dataset("json")` and `to_parquet`, which copies the rows (pictures stay paths); with the
pictures embedded through its `Image` feature, which stores them unopened, one copy for every row; and with every
picture opened too, as an import that must not pass on damaged ones has to. None of them parses the conversations.

Each runs in a process of its own. CPU seconds are those of its process tree, for machines that do other things too.
Peak memory is the largest sum of proportional set sizes over the process tree (Ray included; shared memory counts
once), sampled every 50 ms.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VOCABULARY = "the of a in on with man woman dog street red blue near standing while image shows people table"
WORDS = VOCABULARY.split()
TURNS = 3.0  # mix-665k has about three exchanges a row
OURS = """
import sys
from cluster.cli import main
sys.exit(main(["corpus", "llava", sys.argv[1], "--images", sys.argv[2], "--out", sys.argv[3], "--name", "mix"]))
"""
SCAN = """
import sys
from datagen.importers.job import look
from datagen.importers.options import ImportOptions
look(ImportOptions(importer="llava", sources=(sys.argv[1],), images=sys.argv[2], out=sys.argv[3], name="mix"))
"""
THEIRS = """
import sys
import datasets
rows = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3] + "/cache")
rows.to_parquet(sys.argv[3] + "/rows.parquet")
"""
EMBEDDED = """
import os, sys
import datasets
rows = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3] + "/cache")
rows = rows.map(lambda row: {"image": os.path.join(sys.argv[2], row["image"]) if row["image"] else None})
rows.cast_column("image", datasets.Image()).to_parquet(sys.argv[3] + "/rows.parquet")
"""


CHECKED = """
import os, sys
import datasets
rows = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3] + "/cache")
rows = rows.map(lambda row: {"image": os.path.join(sys.argv[2], row["image"]) if row["image"] else None})
rows = rows.cast_column("image", datasets.Image())
rows = rows.filter(lambda image: image is None or image.convert("RGB").width > 0, input_columns=["image"])
rows.to_parquet(sys.argv[3] + "/rows.parquet")
"""


def write_source(folder: Path, rows: int, images: int, seed: int = 0) -> tuple[Path, Path]:
    """A JSON array as LLaVA writes it, and pictures of 64x64 noise; 6 % of the rows are text alone."""
    import numpy as np
    from PIL import Image

    rng, noise = random.Random(seed), np.random.default_rng(seed)
    root = folder / "images"
    for number in range(images):
        place = root / f"{number % 100:02}" / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG", quality=70)
        place.write_bytes(buffer.getvalue())
    file = folder / "mix.json"
    with file.open("w") as out:
        for number in range(rows):
            row = json.dumps(_row(rng, number, images), indent=2)
            out.write(("[\n" if number == 0 else ",\n") + row)
        out.write("\n]\n")
    return file, root


def _row(rng: random.Random, number: int, images: int) -> dict[str, object]:
    turns = []
    for turn in range(1 + int(rng.expovariate(1 / (TURNS - 1)))):
        question = " ".join(rng.choices(WORDS, k=rng.randint(6, 14))) + "?"
        turns.append({"from": "human", "value": question if turn else f"<image>\n{question}"})
        turns.append({"from": "gpt", "value": " ".join(rng.choices(WORDS, k=rng.randint(1, 60)))})
    image = rng.randrange(images)
    # A column has to be there in every row for `datasets`; LLaVA's text rows leave it out, which ours takes too.
    path = f"{image % 100:02}/{image}.jpg" if rng.random() > 0.06 else ""
    return {"id": f"{number:09}", "image": path, "conversations": turns}


def measure(program: str, file: Path, root: Path, out: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MiB of a program in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    begun, peak = time.monotonic(), 0
    spent: dict[int, float] = {}
    log = out / "log.txt"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(file), str(root), str(out)],
            env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None:
            peak = max(peak, _tree(process.pid, spent))
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}:\n{log.read_text()[-3000:]}")
    return time.monotonic() - begun, sum(spent.values()), peak / 1024


def _tree(session: int, spent: dict[int, float]) -> int:
    """KiB of proportional set size of all processes of a session; their CPU seconds so far go to ``spent``."""
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.getsid(int(entry.name)) != session:
                continue
            lines = (entry / "smaps_rollup").read_text().splitlines()
            times = (entry / "stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            continue
        spent[int(entry.name)] = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument(
        "--images", type=int, help="distinct pictures (default: half the rows, as in mix-665k)"
    )
    parser.add_argument(
        "--only", choices=("scan", "ours", "rows", "embedded", "checked"), help="one of the measurements"
    )
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="l2t-bench-"))
    try:
        file, root = write_source(folder, args.rows, args.images or max(1, args.rows // 2))
        size = file.stat().st_size / 1e6
        print(f"{args.rows:,} rows, {size:.0f} MB of JSON; {platform.machine()}, {os.cpu_count()} cores,")
        print(f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start")
        programs = {
            "scan": ("ours, scan alone", SCAN),
            "ours": ("ours, whole import", OURS),
            "rows": ("datasets, rows only", THEIRS),
            "embedded": ("datasets, pictures embedded", EMBEDDED),
            "checked": ("datasets, embedded and opened", CHECKED),
        }
        found = {}
        print(f"{'':<30}{'seconds':>9}{'rows/s':>10}{'CPU s':>8}{'peak MiB':>10}")
        for key, (label, program) in programs.items():
            if args.only in (None, key):
                seconds, busy, peak = found[key] = measure(program, file, root, folder / key)
                print(
                    f"{label:<30}{seconds:>9.1f}{args.rows / seconds:>10.0f}{busy:>8.1f}{peak:>10.0f}",
                    flush=True,
                )
        for key in ("rows", "embedded", "checked"):
            if key in found and "ours" in found:
                seconds, busy, peak = (b / a for a, b in zip(found["ours"], found[key], strict=True))
                print(
                    f"ours against {programs[key][0]}: {seconds:.2f} x rows/s, "
                    f"{busy:.2f} x rows per CPU second, {1 / peak:.2f} x peak memory"
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
