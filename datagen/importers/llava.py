"""LLaVA JSON: instruct-80k/150k/158k, mix-665k, NeXT, and JSON lines of the same rows.

    {"id": …, "image": "coco/train2017/000000033471.jpg" | ["a.jpg", "b.jpg"],
     "conversations": [{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "…"}]}

The corpus holds each picture once under its path; the instruction set holds every conversation in the shard of its
pictures. Rows without a picture become text-only conversations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datagen.importers.importer import Tick
from datagen.importers.json_stream import Element, iter_rows, read_chunks
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Picture
from datagen.importers.rejects import CorpusReject
from datagen.importers.roots import source_files
from datagen.importers.row_lists import RowLists
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

ROWS = RowLists(talks=True)
ENDINGS = (".json", ".jsonl", ".ndjson")


class Llava:
    """See the module."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        return [found for source in options.sources for found in source_files(source, ENDINGS)]

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = [uri for uri, _ in self.files(options)]
        context = ROWS.scan(options, json_rows(files), lists, folder, tick)
        return context.model_copy(update={"extra": {"files": short_names(files)}})

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        return ROWS.pictures(options, context.extra["files"], work)

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        return ROWS.records(options, context.extra["files"], work, pictures)


def json_rows(files: list[str]) -> Iterator[tuple[int, Element]]:
    """File number and row of all files, one after the other."""
    for number, uri in enumerate(files):
        for element in iter_rows(read_chunks(uri), uri):
            yield number, element


def short_names(files: list[str]) -> list[str]:
    """The last part of each path, for messages; the whole one where two files share it."""
    names = [uri.rstrip("/").rsplit("/", 1)[-1] for uri in files]
    return [uri if names.count(name) > 1 else name for name, uri in zip(names, files, strict=True)]


IMPORTER = Llava()
