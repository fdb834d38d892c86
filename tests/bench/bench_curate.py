"""Curate and export at size: rows/s, peak memory of any process, and export against `datasets` writing the same.

    python tests/bench/bench_curate.py --rows 20000 --images 2000

Pictures are JPEG files of 640x480, each asked about several times. Curation runs with all gates on Ray as
``l2t curate`` does; exports run as ``l2t export``, one worker.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.datasets import commit_shard, freeze, plan_dataset
from datagen import corpus
from datagen.corpus import CorpusRow
from datagen.curate import cli as curate
from datagen.exporters import cli as export
from datagen.records import Record, Turn, to_table

SHARD_IMAGES = 250


def photo(seed: int) -> bytes:
    """640x480, about 60 kB."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(128 + 60 * rng.normal(size=(12, 16, 3)), 0, 255).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC), dtype=float)
    buffer = io.BytesIO()
    noisy = np.clip(smooth + 6 * rng.normal(size=(480, 640, 1)), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write(root: Path, rows: int, images: int) -> tuple[str, str]:
    """A corpus and instructions about it; every tenth row says what an earlier one said."""
    rng = random.Random(0)
    vocabulary = [f"word{n}" for n in range(5000)]
    photos = [photo(n) for n in range(min(images, 300))]
    shards = -(-images // SHARD_IMAGES)
    pictures, uri = str(root / "corpus"), str(root / "mix")
    plan_dataset(pictures, kind="corpus", name="corpus", shards=shards, config={})
    names = [[f"img-{n:07d}" for n in range(k, images, shards)] for k in range(shards)]
    for k, shard in enumerate(names):
        made = [_row(name, photos[int(name[4:]) % len(photos)]) for name in shard]
        commit_shard(pictures, k, {"rows": corpus.to_table(made)})
    freeze(pictures)
    plan_dataset(uri, kind="instructions", name="mix", shards=shards, config={}, parents=[pictures])
    for k, shard in enumerate(names):
        records: list[Record] = []
        for n in range(rows // shards):
            text = " ".join(rng.choices(vocabulary, k=40)) if n % 10 or not records else records[-1].answer
            image = shard[n % len(shard)] if n % 10 or not records else records[-1].image_ids[0]
            turns = (Turn(role="user", text="Describe it."), Turn(role="assistant", text=text))
            records.append(
                Record(
                    id=f"{k:05d}-{n:06d}",
                    image_ids=(image,),
                    kind="bench",
                    format="open",
                    conversation=turns,
                    state="accepted",
                )
            )
        commit_shard(uri, k, {"rows": to_table(records)})
    freeze(uri)
    return pictures, uri


def _row(name: str, data: bytes) -> CorpusRow:
    return CorpusRow(
        image_id=name, image=data, width=640, height=480, sha256=corpus.sha256(data + name.encode())
    )


class Peak(threading.Thread):
    """Largest resident set, in MB, of this process and of the workers that Ray started below it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.worker = 0.0
        self.start()

    def run(self) -> None:
        import psutil

        here = psutil.Process(os.getpid())
        while not self.ended.wait(0.2):
            for child in here.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if child.name().startswith("ray::"):
                        self.worker = max(self.worker, child.memory_info().rss / 1e6)

    def stop(self) -> float:
        """The peak of a worker."""
        self.ended.set()
        self.join()
        return self.worker


def measured(label: str, rows: int, work: Callable[[], Any]) -> float:
    """Run it; print rows/s and memory; returns the seconds."""
    peak = Peak()
    begun = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    seconds = time.monotonic() - begun
    worker, own = peak.stop(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    more = f", worker {worker:.0f} MB" if worker else ""
    print(
        f"{label:<28}{rows / seconds:>9.0f} rows/s{seconds:>8.1f} s   driver {own:.0f} MB{more}", flush=True
    )
    return seconds


def with_datasets(uri: str, pictures: str, out: Path) -> None:
    """What people write by hand: a generator of rows, and `to_parquet`."""
    import datasets

    from cluster.datasets import iter_tables

    def rows() -> Any:
        for images, talks in zip(iter_tables(pictures), iter_tables(uri), strict=True):
            data = {row["image_id"]: row["image"]["bytes"] for row in images.to_pylist()}
            for row in talks.to_pylist():
                messages = [{"role": t["role"], "content": t["text"]} for t in row["conversation"]]
                image = {"bytes": data[row["image_ids"][0]], "path": None}
                yield {"id": row["id"], "image": image, "messages": messages}

    message = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    features = datasets.Features(
        {"id": datasets.Value("string"), "image": datasets.Image(), "messages": datasets.List(message)}
    )
    made = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(out / "cache"))
    made.to_parquet(str(out / "train.parquet"))


def main() -> None:
    """Write the set, curate it, export it; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=2_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pictures, uri = write(root, args.rows, args.images)
        texts = [
            "--near-duplicate",
            "--across-pictures",
            "--language",
            "en",
            "--keep",
            "language",
            "--length",
        ]
        measured("curate, texts", args.rows, lambda: curate.main([uri, "--out", str(root / "texts"), *texts]))
        look = ["--near-duplicate", "--image-duplicate"]
        measured(
            "curate, texts and pictures",
            args.rows,
            lambda: curate.main([uri, "--out", str(root / "all"), *look]),
        )
        taken = {
            layout: measured(
                f"export {layout}",
                args.rows,
                lambda layout=layout: export.main([layout, uri, "--out", str(root / layout)]),  # type: ignore[misc]
            )
            for layout in ("llava", "webdataset", "huggingface")
        }
        peer = measured("datasets to_parquet", args.rows, lambda: with_datasets(uri, pictures, root))
        print(f"export huggingface against datasets: ratio {peer / taken['huggingface']:.2f}")


if __name__ == "__main__":
    main()
