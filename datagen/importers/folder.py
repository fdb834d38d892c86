"""A folder of pictures, with or without a file of rows (JSON lines or an array).

Without rows every picture below the folder is one corpus row. With rows (``metadata.jsonl`` in the folder, or
``--rows FILE``) a row names its picture by a path below the folder and annotates it, or holds a conversation about one
or several pictures; see `datagen.importers.fields` for the names of fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster import storage
from cluster.errors import UserError
from datagen.importers import fields
from datagen.importers.importer import Tick
from datagen.importers.json_stream import Element
from datagen.importers.llava import json_rows, short_names
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Picture
from datagen.importers.rejects import CorpusReject
from datagen.importers.roots import iter_files, source_files
from datagen.importers.row_lists import RowLists
from datagen.importers.webdataset import IMAGES
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

ROWS = RowLists(talks=False)
METADATA = "metadata.jsonl"
ENDINGS = tuple(f".{ending}" for ending in IMAGES)


class Folder:
    """See the module. The first source is the file of rows where there is one; ``images`` is the folder."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        rows = options.sources[0]
        if rows != options.images:
            return source_files(rows, (".jsonl", ".json"))
        found = sum(1 for _ in _names(rows))
        if not found:
            raise UserError(f"{rows}: no picture below it ({', '.join(ENDINGS)})")
        return [(rows, found)]

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = [uri for uri, _ in self.files(options)]
        fields.check_columns(options.columns)
        rows = json_rows(files) if files != [options.images] else _bare_rows(files[0])
        context = ROWS.scan(options, rows, lists, folder, tick)
        return context.model_copy(update={"extra": {"files": short_names(files)}})

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        return ROWS.pictures(options, context.extra["files"], work)

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        return ROWS.records(options, context.extra["files"], work, pictures)


def rows_of(folder: str, rows: str | None) -> str:
    """The file of rows: the one given, the folder's ``metadata.jsonl``, or the folder itself where there is none."""
    own = storage.join(folder, METADATA)
    return rows or (own if storage.exists(own) else folder)


def _names(folder: str) -> Iterator[str]:
    return (name for name, _ in iter_files(folder) if name.lower().endswith(ENDINGS))


def _bare_rows(folder: str) -> Iterator[tuple[int, Element]]:
    """A row without annotations for every picture."""
    for number, name in enumerate(_names(folder)):
        row = {"image": name}
        yield 0, Element(number, "", row, json.dumps(row).encode())


IMPORTER = Folder()
