"""WebDataset: tars (``.tar``, ``.tar.gz`` …) whose members with one name up to the first dot are a sample.

``jpg``, ``jpeg``, ``png``, ``webp`` … is the picture (several such parts are several pictures), ``txt`` and
``caption`` a caption, ``json`` further fields as in `datagen.importers.fields`; other parts are left out. Ids are
``<tar>/<key>``. A plain tar is entered where a shard begins; a compressed one is read from its beginning for every
shard, so plain tars are faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datagen.importers import fields
from datagen.importers.grouping import Seen, digest
from datagen.importers.held_rows import row_pictures, row_record
from datagen.importers.importer import Tick
from datagen.importers.json_stream import too_deep
from datagen.importers.llava import short_names
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Picture
from datagen.importers.rejects import BadRow, CorpusReject, printable
from datagen.importers.roots import source_files
from datagen.importers.tar_stream import Sample, TarDamage, is_compressed, samples
from datagen.importers.work import Context, WorkLists
from datagen.records import Record

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
CAPTIONS = ("txt", "text", "caption")
PEEK = 64  # samples that are looked into for conversations


class WebDataset:
    """See the module. A line of a work list is a run of samples of one tar."""

    def files(self, options: ImportOptions) -> list[tuple[str, int]]:
        return [found for source in options.sources for found in source_files(source, ENDINGS)]

    def scan(self, options: ImportOptions, lists: WorkLists, folder: Path, tick: Tick) -> Context:
        files = [uri for uri, _ in self.files(options)]
        fields.check_columns(options.columns)
        seen = Seen(folder / "keys.sqlite")
        rows = 0
        for number, uri in enumerate(files):
            rows += _plan_tar(options, number, uri, lists, seen, tick, rows)
        seen.close()
        talks = any(_talks(options, uri) for uri in files)
        extra = {"files": files, "names": short_names(files)}
        return Context(shards=lists.close(), instructions=talks, rows=rows, extra=extra)

    def pictures(
        self, options: ImportOptions, context: Context, work: Iterable[Any]
    ) -> Iterator[Picture | CorpusReject]:
        for name, where, sample, bad in _samples(context, work):
            for reason, detail in bad:
                yield CorpusReject(image_id=name, reason=reason, detail=detail, where=where)
            if sample is None:
                continue
            try:
                row, images = read_sample(sample)
            except BadRow as error:
                yield CorpusReject(image_id=name, reason=error.reason, detail=str(error), where=where)
            else:
                if images or not bad:
                    yield from row_pictures(options, name, where, row, images)

    def records(
        self, options: ImportOptions, context: Context, work: Iterable[Any], pictures: Mapping[str, str]
    ) -> Iterator[Record]:
        for name, where, sample, _ in _samples(context, work, _is_text):
            if sample is None:
                continue
            try:
                row, images = read_sample(sample)
            except BadRow:
                continue  # a reject of the corpus
            if fields.value_of("conversations", options.columns, row) is not None:
                yield row_record(options, name, where, row, len(images), pictures)


def read_sample(sample: Sample) -> tuple[dict[str, Any], list[bytes | None]]:
    """The fields of a sample, and its pictures in the order of the tar (None where they were not read).

    Raises:
        BadRow: its JSON or its text cannot be read.
    """
    row: dict[str, Any] = {}
    images: list[bytes | None] = []
    for ending, data in sample.parts.items():
        last = ending.rsplit(".", 1)[-1]
        if last in IMAGES:
            images.append(data)
        elif data is None:
            continue
        elif last in CAPTIONS:
            row.setdefault("captions", []).append(_utf8(data, ending))
        elif ending == "json":
            row = {**_json(_utf8(data, ending)), **row}
    return row, images


def _json(written: str) -> dict[str, Any]:
    try:
        value = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise BadRow("malformed", f"json: {error}") from error
    if isinstance(value, dict | list) and too_deep(value):
        raise BadRow("malformed", "json is nested too deeply")
    if not isinstance(value, dict):
        raise BadRow("malformed", f"json holds {type(value).__name__}, not an object")
    # The picture is the member beside it; what the fields call a path is not looked at.
    return {key: item for key, item in value.items() if key not in fields.USUAL["image"]}


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow("non_utf8", f"{what} is not UTF-8") from error


def _plan_tar(
    options: ImportOptions, number: int, uri: str, lists: WorkLists, seen: Seen, tick: Tick, before: int
) -> int:
    """Cut one tar into runs; returns its samples. A damaged tar ends with what could be read, and a reject."""
    run: dict[str, Any] = {}
    size = count = 0

    def close() -> None:
        nonlocal run, size
        if run:
            lists.add(json.dumps(run).encode(), run["samples"], size)
            tick(run["samples"])
        run, size = {}, 0

    def begin(offset: int) -> dict[str, Any]:
        skip = count if is_compressed(uri) else 0
        return {
            "f": number,
            "offset": 0 if skip or is_compressed(uri) else offset,
            "skip": skip,
            "samples": 0,
            "twice": [],
        }

    try:
        for sample in samples(uri, wanted=lambda ending: False):
            if options.limit is not None and before + count >= options.limit:
                break
            if run and lists.is_full(run["samples"] + 1, size + sample.size):
                close()
            run = run or begin(sample.offset)
            if not seen.add(digest(f"{number} {sample.key}")):
                run["twice"].append(run["samples"])
            run["samples"] += 1
            size += sample.size
            count += 1
    except TarDamage as error:
        close()
        damage = {"f": number, "damage": [error.reason, printable(str(error))]}
        lists.add(json.dumps(damage).encode())
    close()
    return count


def _samples(
    context: Context, work: Iterable[Any], wanted: Callable[[str], bool] = lambda ending: True
) -> Iterator[tuple[str, str, Sample | None, list[tuple[str, str]]]]:
    """Id, place, sample (None where there is none to use) and what was wrong, of every sample of a list."""
    for run in work:
        uri, short = context.extra["files"][run["f"]], context.extra["names"][run["f"]]
        stem = short.rsplit("/", 1)[-1].split(".tar")[0] if "/" not in short else f"{run['f']:05d}"
        if "damage" in run:
            yield "", short, None, [tuple(run["damage"])]
            continue
        last = run["skip"] + run["samples"]
        for position, sample in enumerate(_until_damage(uri, run["offset"], last, wanted)):
            if position < run["skip"]:
                continue
            name = printable(f"{stem}/{sample.key}")
            where = f"{short} sample {printable(sample.key)}"
            if position - run["skip"] in run["twice"]:
                yield name, where, None, [("duplicate_id", "an earlier sample of this tar has this key")]
            else:
                yield name, where, sample, sample.bad


def _until_damage(uri: str, offset: int, count: int, wanted: Callable[[str], bool]) -> Iterator[Sample]:
    """The first ``count`` samples; the scan has seen any damage behind them."""
    for number, sample in enumerate(samples(uri, offset=offset, wanted=wanted), 1):
        yield sample
        if number == count:
            return


def _is_text(ending: str) -> bool:
    return ending.rsplit(".", 1)[-1] not in IMAGES


def _talks(options: ImportOptions, uri: str) -> bool:
    """Whether one of the first samples of a tar holds a conversation."""
    try:
        for number, sample in enumerate(samples(uri, wanted=_is_text)):
            if number == PEEK:
                return False
            try:
                row, _ = read_sample(sample)
            except BadRow:
                continue
            if fields.value_of("conversations", options.columns, row) is not None:
                return True
    except TarDamage:
        return False
    return False


IMPORTER = WebDataset()
