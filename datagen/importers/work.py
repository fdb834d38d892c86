"""Work lists: what each shard of an import is made from, written before the plan and deleted after the end.

They lie in ``<corpus>/work`` because workers on other machines read them. ``plan.json`` is written when they are
complete, so its presence is the sign that a run may continue with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import Field

from cluster import storage
from cluster.config import Config

# Pictures of one shard are in memory together, several times over while its Parquet file is built.
SHARD_BYTES = 128 << 20
CONTEXT = "context.json"


class Context(Config):
    """What the planning pass found out once for all shards.

    ``instructions``: the source holds conversations. ``rows``: of the source. ``images``: distinct pictures, where
    the pass knows. ``extra``: what the importer's workers need besides (COCO's category names).
    """

    shards: int
    instructions: bool = False
    rows: int = 0
    images: int = 0
    extra: dict[str, Any] = Field(default_factory=dict)


def work_uri(corpus: str, name: str) -> str:
    """Where a work list or the context lies."""
    return storage.join(corpus, "work", name)


@dataclass
class WorkLists:
    """Writes lines into lists, the next list whenever one holds ``shard_images``; ``corpus`` None writes nothing."""

    corpus: str | None
    shard_images: int
    shards: int = 0
    _lines: list[bytes] = field(default_factory=list)
    _weight: int = 0
    _bytes: int = 0

    def add(self, line: bytes, weight: int = 1, size: int = 0) -> None:
        """One line of JSON that stands for ``weight`` pictures of ``size`` bytes together (0: not known)."""
        if self._lines and self.is_full(self._weight + weight, self._bytes + size):
            self._flush()
        self._lines.append(line)
        self._weight += weight
        self._bytes += size

    def is_full(self, weight: int, size: int) -> bool:
        """Whether a shard of this many pictures and bytes would be too large."""
        return weight > self.shard_images or size > SHARD_BYTES

    def close(self) -> int:
        """Write the last list; returns how many there are."""
        if self._lines:
            self._flush()
        return self.shards

    def _flush(self) -> None:
        if self.corpus is not None:
            target = work_uri(self.corpus, f"{self.shards:05d}.jsonl.zst")
            storage.write_bytes(target, _compress(b"\n".join(self._lines)))
        self.shards += 1
        self._lines, self._weight, self._bytes = [], 0, 0


def write_context(corpus: str, context: Context) -> None:
    """Store what the planning pass found out."""
    storage.write_bytes(work_uri(corpus, CONTEXT), context.model_dump_json().encode())


def read_context(corpus: str) -> Context:
    """What the planning pass stored."""
    return Context.model_validate_json(storage.read_bytes(work_uri(corpus, CONTEXT)))


def read_work(corpus: str, k: int) -> Iterator[Any]:
    """The lines of shard ``k``, parsed."""
    packed = storage.read_bytes(work_uri(corpus, f"{k:05d}.jsonl.zst"))
    data = pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read()
    return (json.loads(line) for line in data.split(b"\n"))


def delete_work(corpus: str) -> None:
    """Remove the lists, and the context last: while it is there, a run that was stopped here comes back to finish."""
    for uri in storage.list_prefix(work_uri(corpus, "")):
        if not uri.endswith(CONTEXT):
            storage.delete(uri)
    storage.delete(work_uri(corpus, CONTEXT))


def _compress(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())
