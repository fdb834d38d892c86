"""What an importer could not take: the ``rejects`` stream of an imported corpus, and the one exception behind it.

A corpus reject is four texts: ``image_id`` (what the source calls the picture, or ""), ``reason`` (a key of
REASONS), ``detail`` (what was found) and ``where`` (source file and row). A conversation that cannot be taken is a
`datagen.records.Record` with state ``rejected`` and a reason of the same list, or ``image:<reason>`` where one of
its pictures is the reason.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pyarrow as pa

REASONS = {
    "missing_file": "the picture is not under the root",
    "outside_root": "a path or link that leaves the root, an absolute path or a URL; never followed",
    "not_a_file": "a folder, device, pipe or link where a picture is expected",
    "unreadable": "the operating system does not let us read it",
    "empty": "zero bytes",
    "corrupt": "not a picture of a known format, or damaged",
    "truncated": "the data end too early",
    "too_many_pixels": "more pixels than the limit: a decompression bomb, or close to one",
    "too_many_bytes": "a larger file than the limit",
    "duplicate_id": "an earlier row has this id",
    "non_utf8": "text that is not UTF-8",
    "malformed": "a row that does not have the form of its format",
    "no_image": "annotations of a picture that the source does not list, or a row that names none",
    "no_conversation": "a row without the conversation that it should have",
    "image_group": "a conversation that would tie too many pictures to one shard",
}

REJECT_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("reason", pa.string()), ("detail", pa.string()), ("where", pa.string())],
    metadata={"l2t.schema": "corpus-reject", "l2t.schema_version": "1"},
)
DETAIL_LENGTH = 300


class BadRow(ValueError):
    """One row, or one picture, cannot be taken; ``reason`` is a key of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class CorpusReject:
    """One row of the ``rejects`` stream."""

    image_id: str
    reason: str
    detail: str
    where: str


def to_table(rejects: list[CorpusReject]) -> pa.Table:
    """Rejects as one Arrow table of ``REJECT_SCHEMA``."""
    rows = [{key: printable(text) for key, text in asdict(reject).items()} for reject in rejects]
    return pa.Table.from_pylist(rows, schema=REJECT_SCHEMA)


def printable(text: str) -> str:
    """Text that can be stored whatever a row held: not too long, and lone surrogates written out."""
    return storable(text[:DETAIL_LENGTH])


def storable(text: str) -> str:
    """Text as UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
