"""The conversations of a mixture of published data sets: counted, filtered, and read shard by shard with their
pictures."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster import datasets
from cluster.errors import UserError
from datagen.records import Turn
from train.config import DataSource
from train.feed.order import Row
from train.mask.render import clean

_COLUMNS = ["id", "image_ids", "kind", "conversation"]


@dataclass(frozen=True)
class Shard:
    """A shard in memory: conversations, about how many tokens each has, and where each picture is."""

    table: pa.Table
    lengths: NDArray[np.int64]
    images: dict[str, int]
    image_table: pa.Table | None

    def image(self, image_id: str) -> tuple[bytes, tuple[int, int]]:
        """(bytes, (width, height)) of a picture of which :meth:`size` knows."""
        assert self.image_table is not None
        index = self.images[image_id]
        image, width, height = (
            self.image_table[name][index].as_py() for name in ("image", "width", "height")
        )
        return (image or {}).get("bytes") or b"", (width or 0, height or 0)

    def size(self, image_id: str) -> tuple[int, int] | None:
        """(width, height) of a picture as the corpus has it."""
        index = self.images.get(image_id)
        if index is None or self.image_table is None:
            return None
        width, height = (self.image_table[side][index].as_py() or 0 for side in ("width", "height"))
        return width, height


class Mixture:
    """The data sets of a config: counts their rows, and reads their shards, of which it keeps the last few."""

    def __init__(self, sources: Sequence[DataSource], *, keep: int = 1, per_image: int = 0) -> None:
        self.sources, self._keep, self._per_image = sources, keep, per_image
        self._shards: OrderedDict[tuple[int, int], Shard] = OrderedDict()

    def row_counts(self) -> list[list[int]]:
        """Rows per source and shard after the filters.

        Raises:
            UserError: a data set is not published, of the wrong kind, made from another corpus, or empty.
        """
        counts = []
        for index, source in enumerate(self.sources):
            manifest = _checked(index, source)
            filtered = source.kinds is not None or source.share < 1
            per_shard = [
                int(pc.sum(_kept(source, shard.index)).as_py() or 0) if filtered else shard.parts["rows"].rows
                for shard in manifest.shards
            ]
            if not sum(per_shard):
                only = f" of kinds {', '.join(source.kinds)}" if source.kinds else ""
                raise UserError(f"data.{index}: {source.instructions} has no rows{only}")
            counts.append(per_shard)
        return counts

    def shard(self, source_index: int, shard: int) -> Shard:
        """Read or find a shard."""
        key = (source_index, shard)
        if key not in self._shards:
            self._shards[key] = self._read(self.sources[source_index], shard)
            while len(self._shards) > self._keep:
                self._shards.popitem(last=False)
        self._shards.move_to_end(key)
        return self._shards[key]

    def _read(self, source: DataSource, shard: int) -> Shard:
        table = filtered_rows(source, shard, _COLUMNS, verify=True)
        image_table = None
        images: dict[str, int] = {}
        if source.corpus is not None and not source.strip_images:
            columns = ["image_id", "image", "width", "height"]
            image_table = datasets.read_shard(source.corpus, shard, columns=columns)
            images = {name: i for i, name in enumerate(image_table["image_id"].to_pylist())}
        return Shard(
            table=table, lengths=text_lengths(table, self._per_image), images=images, image_table=image_table
        )

    def lengths(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """About the number of tokens of each row."""
        return np.array([self.shard(r.source, r.shard).lengths[r.row] for r in rows], np.int64)

    def conversations(self, limit: int | None = None) -> Iterator[tuple[list[Turn], list[str], int]]:
        """(turns, image ids, shard) of every row, source by source, at most ``limit`` of each; for looking at data,
        not for training on it."""
        for source in self.sources:
            given = 0
            for shard in range(len(datasets.read_manifest(str(source.instructions)).shards)):
                for values in filtered_rows(source, shard, _COLUMNS).to_pylist():
                    if limit is not None and given >= limit:
                        break
                    given += 1
                    yield turns_of(values, source), values["image_ids"] or [], shard


def turns_of(values: dict[str, Any], source: DataSource) -> list[Turn]:
    """The conversation of a row, without image markers where the source leaves pictures out."""
    turns = [Turn(role=t["role"] or "", text=t["text"] or "") for t in values["conversation"] or []]
    if source.strip_images:
        return [Turn(role=turn.role, text=clean(turn.text)) for turn in turns]
    return turns


def filtered_rows(source: DataSource, shard: int, columns: list[str], *, verify: bool = False) -> pa.Table:
    """The rows of one shard that a source takes; without their pictures where it leaves those out."""
    assert source.instructions is not None
    table = datasets.read_shard(source.instructions, shard, columns=columns, verify=verify)
    if source.kinds is not None or source.share < 1:
        table = table.filter(_kept(source, shard))
    if source.strip_images and "image_ids" in columns:
        none = pa.array([[]] * len(table), table.schema.field("image_ids").type)
        table = table.set_column(columns.index("image_ids"), "image_ids", none)
    return table.combine_chunks()


def _kept(source: DataSource, shard: int) -> pa.Array:
    """Which rows of a shard pass the filters on kind and share."""
    assert source.instructions is not None
    table = datasets.read_shard(source.instructions, shard, columns=["id", "kind"], verify=False)
    kept = pa.array([True] * len(table))
    if source.kinds is not None:
        kept = pc.is_in(table["kind"], pa.array(source.kinds))
    if source.share < 1:
        within = [_fraction(name or "") < source.share for name in table["id"].to_pylist()]
        kept = pc.and_(kept, pa.array(within))
    return kept


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on a row's id alone, so that smaller shares lie within larger ones."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def _checked(index: int, source: DataSource) -> Any:
    """The manifest of a source's conversations."""
    assert source.instructions is not None
    manifest = datasets.read_manifest(source.instructions)
    if manifest.kind != "instructions":
        raise UserError(
            f"data.{index}.instructions: {source.instructions} holds {manifest.kind}, not instructions"
        )
    if source.corpus is not None:
        corpus = datasets.read_manifest(source.corpus)
        if corpus.kind != "corpus":
            raise UserError(f"data.{index}.corpus: {source.corpus} holds {corpus.kind}, not a corpus")
        if len(corpus.shards) < len(manifest.shards):
            raise UserError(
                f"data.{index}: {source.instructions} has {len(manifest.shards)} shards and the corpus "
                f"{source.corpus} has {len(corpus.shards)}; shard k refers to images of corpus shard k, so "
                "this is another corpus than the one it was made from"
            )
    return manifest


def text_lengths(table: pa.Table, per_image: int) -> NDArray[np.int64]:
    """About the number of tokens of each row, without a tokenizer: words and marks of its text, and image tokens."""
    conversation, image_ids = (table[name].combine_chunks() for name in ("conversation", "image_ids"))
    texts = pc.fill_null(pc.struct_field(pc.list_flatten(conversation), "text"), "")
    words = pc.count_substring_regex(texts, r"\w+|[^\w\s]").to_numpy(zero_copy_only=False)
    owners = pc.list_parent_indices(conversation).to_numpy(zero_copy_only=False)
    pictures = pc.fill_null(pc.list_value_length(image_ids), 0).to_numpy(zero_copy_only=False)
    return (np.bincount(owners, words, len(table)) + per_image * pictures).astype(np.int64)
