"""Tiny benchmarks in their real layouts, and what becomes of them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from cluster.datasets import iter_tables, read_manifest
from eval.benchmarks.gold import GoldRow, from_row
from eval.benchmarks.importing import Imported, ImportJob, run_import
from eval.config import GoldSet
from eval.samples import Pictured, load, select
from eval.tasks import TASKS


def drawn(number: int = 0, size: tuple[int, int] = (60, 40), kind: str = "PNG") -> bytes:
    """A picture of one square whose colour and place follow from ``number``."""
    image = Image.new("RGB", size, "white")
    left = 3 + 7 * (number % 5)
    ImageDraw.Draw(image).rectangle([left, 5, left + 9, 14], fill=((37 * number) % 256, 80, 160))
    stored = io.BytesIO()
    image.save(stored, kind)
    return stored.getvalue()


def cell(number: int = 0, **how: Any) -> dict[str, Any]:
    """A picture as Hugging Face stores it."""
    return {"bytes": drawn(number, **how), "path": f"{number}.png"}


def parquet(place: Path, rows: Sequence[dict[str, Any]]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), place)
    return place


def jsonl(place: Path, rows: Sequence[Any]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place


def as_json(place: Path, value: Any, indent: int | None = None) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(value, indent=indent), encoding="utf-8")
    return place


def picture(place: Path, number: int = 0, **how: Any) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(drawn(number, kind="PNG" if place.suffix == ".png" else "JPEG", **how))
    return place


class Made:
    """An imported benchmark; its books are checked on the way."""

    def __init__(self, benchmark: str, source: Path, *more: Path, **options: Any) -> None:
        self.output = source.parent / f"{source.name}-made"
        self.job = ImportJob(
            benchmark=benchmark,
            sources=(str(source), *map(str, more)),
            output=str(self.output),
            **options,
        )
        self.counts: Imported = run_import(self.job)
        self.gold = GoldSet(benchmarks=str(self.output), names=(benchmark,))
        for uri in (self.job.corpus, self.job.gold):
            totals = read_manifest(uri).totals
            assert sum(totals.rows.values()) == sum(totals.counts.values())
        assert sum(self.counts.gold_counts.values()) == self.counts.rows
        assert sum(self.counts.corpus_counts.values()) == self.counts.pictures

    @property
    def rows(self) -> list[GoldRow]:
        return [from_row(row) for table in iter_tables(self.job.gold) for row in table.to_pylist()]

    @property
    def rejects(self) -> dict[str, str]:
        """Reason by place."""
        tables = iter_tables(self.job.gold, "rejects")
        return {row["where"]: row["reason"] for table in tables for row in table.to_pylist()}

    @property
    def pictures(self) -> list[str]:
        return [name for table in iter_tables(self.job.corpus) for name in table["image_id"].to_pylist()]

    def samples(self, task: str, limit: int | None = None) -> list[Pictured]:
        """What a model would be asked, in the order of ids."""
        found = [p for c in select(self.gold, [TASKS[task]], limit, 7) for p in load(self.gold, c)]
        return sorted(found, key=lambda p: p.sample.id)
