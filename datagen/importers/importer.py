"""What an importer is: a scan on the driver that writes work lists, and two readers of them in the workers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Picture
from datagen.importers.rejects import CorpusReject
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

Tick = Callable[[int], None]

NAMES = ("llava", "coco", "flickr30k", "visual-genome", "huggingface", "webdataset", "folder")


class Importer(Protocol):
    """One source format; stateless, since each call may run on another machine."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        """URIs and sizes of the files that hold the rows: what the identity of an import is made of.

        Raises:
            UserError: they are not there.
        """
        ...

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        """Stream the source into work lists, in memory that does not grow with it.

        Args:
            folder: an empty local folder for what has to be sorted on disk.
            tick: called with the number of rows just read.

        Raises:
            UserError: the source as a whole cannot be used; single bad rows go into the lists.
        """
        ...

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        """The pictures of one work list, and what could not even become one."""
        ...

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        """The conversations of one work list; ``pictures`` maps the ids of its shard to "" or why it was rejected."""
        ...


def importer_of(name: str) -> Importer:
    """The importer behind a word of the command line."""
    if name not in NAMES:
        raise ValueError(f"no importer {name!r}")
    module = importlib.import_module(f"datagen.importers.{name.replace('-', '_')}")
    found: Importer = module.IMPORTER
    return found
