"""Hugging Face data sets as Parquet: files or folders of them, pictures embedded or named by path.

Embedded pictures (``{"bytes", "path"}``, bytes, or lists of them) stay in the order of the files: a shard is a run of
rows, read group by group, and its ids are ``<file>/<row>`` unless a column is given (``--column id=…``). With paths the
rows are grouped by picture, as in LLaVA JSON. Fields are found by name, see `datagen.importers.fields`.

A data set that is only on the hub is first fetched with its own tool: ``hf download --repo-type dataset …``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import UserError
from datagen.importers import fields
from datagen.importers.grouping import Seen, digest
from datagen.importers.held_rows import row_pictures, row_record
from datagen.importers.importer import Tick
from datagen.importers.json_stream import Element
from datagen.importers.llava import short_names
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Picture
from datagen.importers.rejects import CorpusReject, printable
from datagen.importers.roots import source_files
from datagen.importers.row_lists import RowLists
from datagen.importers.work import SHARD_BYTES, Context, WorkLists
from datagen.records import Record

ROWS = RowLists(talks=False)
BATCH = 32
# What pyarrow raises on damaged bytes, those of names and texts too; found by fuzzing.
DAMAGE = (pa.ArrowException, OSError, ValueError)


class HuggingFace:
    """See the module. A line of a work list is a run of rows, or with paths a group of rows."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        return [found for source in options.sources for found in source_files(source, (".parquet",))]

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = [uri for uri, _ in self.files(options)]
        with open_parquet(files[0]) as first:
            schema = first.schema_arrow
        fields.check_columns(options.columns, schema.names)
        image = fields.column_of("image", options.columns, schema.names)
        if image is None:
            raise UserError(
                f"{files[0]}: no column of pictures among {', '.join(schema.names)}. Name it: --column image=COLUMN"
            )
        talks = fields.column_of("conversations", options.columns, schema.names) is not None
        paths = _is_text(schema.field(image).type)
        extra = {"files": files, "names": short_names(files), "paths": paths, "image": image}
        if paths:
            context = ROWS.scan(options, _json_rows(files), lists, folder, tick)
        else:
            rows = self._runs(options, files, lists, folder, tick)
            context = Context(shards=lists.close(), instructions=talks, rows=rows)
        return context.model_copy(update={"extra": extra})

    def _runs(
        self, options: ImportOptions, files: list[str], lists: WorkLists, folder: Path, tick: Tick
    ) -> int:
        """Runs of rows of one row group each, cut so that none is larger than a shard; returns the rows."""
        left = options.limit
        seen = Seen(folder / "ids.sqlite")
        rows = 0
        for number, uri in enumerate(files):
            with open_parquet(uri) as file:
                at = 0
                for group in range(file.metadata.num_row_groups):
                    facts = file.metadata.row_group(group)
                    count = facts.num_rows if left is None else min(left, facts.num_rows)
                    size = facts.total_byte_size // max(1, facts.num_rows)
                    step = max(1, min(options.shard_images, SHARD_BYTES // max(1, size)))
                    twice = _repeated(file, group, uri, options.columns.get("id"), seen)
                    for start in range(0, count, step):
                        end = min(count, start + step)
                        again = [row for row in twice if start <= row < end]
                        run = {"f": number, "g": group, "from": start, "to": end, "at": at, "twice": again}
                        lists.add(json.dumps(run).encode(), end - start, (end - start) * size)
                        tick(end - start)
                    at, rows = at + facts.num_rows, rows + count
                    left = None if left is None else left - count
        seen.close()
        return rows

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        if context.extra["paths"]:
            yield from ROWS.pictures(options, context.extra["names"], work)
            return
        for name, where, row, twice in _rows(options, context, work):
            if twice:
                yield CorpusReject(
                    image_id=name, reason="duplicate_id", detail="in an earlier row", where=where
                )
            else:
                images = _images(row, context.extra["image"])
                yield from row_pictures(options, name, where, row, images)

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        if context.extra["paths"]:
            yield from ROWS.records(options, context.extra["names"], work, pictures)
            return
        for name, where, row, twice in _rows(options, context, work, texts=True):
            known: Mapping[str, str] = {name: "duplicate_id"} if twice else pictures
            yield row_record(options, name, where, row, len(_images(row, context.extra["image"])), known)


def open_parquet(uri: str) -> pq.ParquetFile:
    """A Parquet file for streaming.

    Raises:
        UserError: missing, or not Parquet.
    """
    filesystem, path = storage.filesystem(uri)
    try:
        file = pq.ParquetFile(filesystem.open_input_file(path), pre_buffer=False)
        file.schema_arrow  # noqa: B018  (built when asked for, of names that may be damaged)
    except DAMAGE as error:
        raise UserError(f"{uri}: not readable as Parquet ({error})") from error
    return file


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _images(row: Mapping[str, Any], column: str) -> list[Any]:
    value = row.get(column)
    return [] if value is None else value if isinstance(value, list) else [value]


def _repeated(file: pq.ParquetFile, group: int, uri: str, column: str | None, seen: Seen) -> list[int]:
    """Rows of a group whose id is that of an earlier row; without an id column there are none."""
    if column is None:
        return []
    ids = (name for batch in _batches(file, group, uri, [column]) for name in batch.column(0).to_pylist())
    return [row for row, name in enumerate(ids) if not seen.add(digest(str(name)))]


def _rows(
    options: ImportOptions, context: Context, work: Iterable[Any], *, texts: bool = False
) -> Iterator[tuple[str, str, Mapping[str, Any], bool]]:
    """Id, place, row, and whether its id was seen before, of every row of a list; ``texts``: pictures without bytes."""
    for run in work:
        uri, short = context.extra["files"][run["f"]], context.extra["names"][run["f"]]
        stem = short.rsplit("/", 1)[-1].removesuffix(".parquet") if "/" not in short else f"{run['f']:05d}"
        with open_parquet(uri) as file:
            position = 0
            columns = _without_bytes(file.schema_arrow, context.extra["image"]) if texts else None
            for batch in _batches(file, run["g"], uri, columns):
                rows = range(max(run["from"], position), min(run["to"], position + batch.num_rows))
                if rows:
                    for row, values in zip(
                        rows, batch.slice(rows[0] - position, len(rows)).to_pylist(), strict=True
                    ):
                        number = run["at"] + row
                        given = values.get(options.columns.get("id", ""))
                        name = f"{stem}/{number:07d}" if given is None else printable(str(given))
                        yield name, f"{short} row {number}", values, row in run["twice"]
                position += batch.num_rows
                if position >= run["to"]:
                    break


def _without_bytes(schema: pa.Schema, image: str) -> list[str]:
    """Columns to read where pictures are only counted: of their struct any other member than the bytes."""
    kind, path = schema.field(image).type, image
    if pa.types.is_list(kind):
        kind, path = kind.value_type, f"{image}.list.element"
    members = [member.name for member in kind if member.name != "bytes"] if pa.types.is_struct(kind) else []
    return [name for name in schema.names if name != image] + (
        [f"{path}.{members[0]}"] if members else [image]
    )


def _batches(
    file: pq.ParquetFile, group: int, uri: str, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    try:
        for batch in file.iter_batches(BATCH, row_groups=[group], columns=columns, use_threads=False):
            batch.validate(full=True)  # texts that are none
            yield batch
    except DAMAGE as error:
        raise UserError(f"{uri}: row group {group} is damaged ({error}). Download the file again.") from error


def _json_rows(files: list[str]) -> Iterator[tuple[int, Element]]:
    for number, uri in enumerate(files):
        at = 0
        with open_parquet(uri) as file:
            for group in range(file.metadata.num_row_groups):
                for batch in _batches(file, group, uri):
                    for row in batch.to_pylist():
                        yield number, _element(at, row)
                        at += 1


def _element(number: int, row: dict[str, Any]) -> Element:
    return Element(number, "", row, json.dumps(row, default=str).encode())


IMPORTER = HuggingFace()
