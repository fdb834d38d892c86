"""One shard of an import: its pictures into the corpus, then its conversations into the instruction set."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from cluster.datasets import commit_shard, read_manifest, read_shard
from cluster.errors import UserError
from datagen import corpus, records
from datagen.corpus import CorpusRow
from datagen.importers import rejects as reject_stream
from datagen.importers.conversations import rejected_record
from datagen.importers.importer import importer_of
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Picture, corpus_row
from datagen.importers.rejects import BadRow, CorpusReject
from datagen.importers.roots import Root
from datagen.importers.work import read_context, read_work
from datagen.records import Record, record_id

# Reads in flight from an object store, which answers one after tens of milliseconds; a disk answers at once.
READERS = 8
# Arrow counts the bytes of one column chunk in 31 bits.
SHARD_LIMIT = 1536 << 20

Found = Picture | CorpusReject
Opened = bytes | BadRow | None


def corpus_shard(options: ImportOptions, k: int) -> dict[str, int]:
    """Read, check and commit the pictures of shard ``k``; returns the rows by terminal state.

    Raises:
        UserError: the store does not answer, or the pictures of a shard are too large together.
    """
    begun = time.monotonic()
    context = read_context(options.corpus)
    importer = importer_of(options.importer)
    rows: list[CorpusRow] = []
    rejects: list[CorpusReject] = []
    taken: set[str] = set()
    inputs = size = 0
    readers = 1 if options.images is None or Root(options.images).is_local else READERS
    for found, data in _read_ahead(
        importer.pictures(options, context, read_work(options.corpus, k)), readers
    ):
        inputs += 1
        try:
            if isinstance(found, CorpusReject):
                rejects.append(found)
                continue
            if isinstance(data, BadRow):
                raise data
            if found.image_id in taken:
                raise BadRow("duplicate_id", "an earlier row of this shard has this id")
            rows.append(
                corpus_row(found, data or b"", f"{options.importer}:{found.where}", options.max_pixels)
            )
        except BadRow as error:
            rejects.append(_reject(found, error))
        else:
            taken.add(found.image_id)
            size += len(rows[-1].image)
        if size > SHARD_LIMIT:
            raise UserError(
                f"the first {len(rows)} pictures of shard {k} have {size:,} bytes; a shard has to fit into memory. "
                f"Delete {options.corpus} and import again with --shard-images {max(1, len(rows) // 4)}"
            )
    counts = {"accepted": len(rows), **Counter(f"rejected:{reject.reason}" for reject in rejects)}
    tables = {"rows": corpus.to_table(rows)}
    if rejects:
        tables["rejects"] = reject_stream.to_table(rejects)
    seconds = time.monotonic() - begun
    commit_shard(options.corpus, k, tables, counts=counts, inputs=inputs, seconds=seconds)
    return counts


def instruction_shard(options: ImportOptions, k: int) -> dict[str, int]:
    """Commit the conversations about the pictures of shard ``k`` of the published corpus; returns rows by state."""
    begun = time.monotonic()
    context = read_context(options.corpus)
    found = importer_of(options.importer).records(
        options, context, read_work(options.corpus, k), _verdicts(options.corpus, k)
    )
    made: dict[str, Record] = {}
    inputs = 0
    for record in found:
        inputs += 1
        if record.id in made:
            name = record_id(record.id, "again", inputs)
            where = record.source.removeprefix(f"{options.importer}:")
            record = rejected_record(
                options, where, "duplicate_id", f"the same row as {made[record.id].source}", name=name
            )
        made[record.id] = record
    kept = [record for record in made.values() if record.state == "accepted"]
    refused = [record for record in made.values() if record.state != "accepted"]
    counts = {"accepted": len(kept), **Counter(f"rejected:{record.reason}" for record in refused)}
    tables = {"rows": records.to_table(kept)}
    if refused:
        tables["rejects"] = records.to_table(refused)
    seconds = time.monotonic() - begun
    commit_shard(options.instructions, k, tables, counts=counts, inputs=inputs, seconds=seconds)
    return counts


def _read_ahead(found: Iterable[Found], readers: int) -> Iterator[tuple[Found, Opened]]:
    """Each picture with its bytes, or why there are none, in order, ``readers`` of them read at the same time."""
    if readers == 1:
        for item in found:
            yield item, _open(item) if isinstance(item, Picture) else None
        return
    with ThreadPoolExecutor(readers) as pool:
        window: deque[tuple[Found, Future[Opened] | None]] = deque()
        for item in found:
            window.append((item, pool.submit(_open, item) if isinstance(item, Picture) else None))
            if len(window) >= 2 * readers:
                yield _finished(window.popleft())
        while window:
            yield _finished(window.popleft())


def _open(picture: Picture) -> Opened:
    try:
        return picture.read()
    except BadRow as error:
        return error


def _finished(pair: tuple[Found, Future[Opened] | None]) -> tuple[Found, Opened]:
    found, reading = pair
    return found, reading.result() if reading else None


def _reject(found: Found, error: BadRow) -> CorpusReject:
    return CorpusReject(image_id=found.image_id, reason=error.reason, detail=str(error), where=found.where)


def _verdicts(uri: str, k: int) -> dict[str, str]:
    """Image ids of a published shard: "" for rows, the reason for rejects."""
    found: dict[str, str] = {}
    if "rejects" in read_manifest(uri).shards[k].parts:
        table = read_shard(uri, k, "rejects", columns=["image_id", "reason"], verify=False)
        found = dict(zip(table["image_id"].to_pylist(), table["reason"].to_pylist(), strict=True))
    rows = read_shard(uri, k, columns=["image_id"], verify=False)
    return found | dict.fromkeys(rows["image_id"].to_pylist(), "")
