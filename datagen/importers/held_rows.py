"""Rows that hold their pictures as bytes (Parquet, tar): ids, pictures and conversations of one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datagen.importers import fields
from datagen.importers.conversations import conversation_record
from datagen.importers.options import ImportOptions
from datagen.importers.pictures import Annotations, Picture
from datagen.importers.rejects import BadRow, CorpusReject
from datagen.importers.roots import MAX_BYTES
from datagen.records import Record


def image_ids(name: str, count: int) -> list[str]:
    """Ids of a row's pictures: the row's own, or with a number where there are several."""
    return [name] if count == 1 else [f"{name}/{number}" for number in range(count)]


def row_pictures(
    options: ImportOptions, name: str, where: str, row: Mapping[str, Any], images: list[Any]
) -> Iterator[Picture | CorpusReject]:
    """The pictures of a row; its annotations belong to its only one."""
    talks = fields.value_of("conversations", options.columns, row) is not None
    if not images:
        if not talks:
            yield CorpusReject(
                image_id=name, reason="no_image", detail="a row without a picture", where=where
            )
        return
    try:
        notes = fields.read_annotations(options.columns, row) if len(images) == 1 else Annotations()
    except BadRow as error:
        yield CorpusReject(image_id=name, reason=error.reason, detail=str(error), where=where)
        return
    for image_id, image in zip(image_ids(name, len(images)), images, strict=True):
        try:
            data = image_bytes(image)
        except BadRow as error:
            yield CorpusReject(image_id=image_id, reason=error.reason, detail=str(error), where=where)
        else:
            yield Picture(image_id=image_id, where=where, read=data.__bytes__, annotations=notes)


def row_record(
    options: ImportOptions,
    name: str,
    where: str,
    row: Mapping[str, Any],
    images: int,
    pictures: Mapping[str, str],
) -> Record:
    """The conversation of a row that has ``images`` pictures; its own id is ``name``."""
    conversation = fields.value_of("conversations", options.columns, row)
    return conversation_record(options, where, {"id": name}, conversation, image_ids(name, images), pictures)


def image_bytes(value: object) -> bytes:
    """The bytes of a cell: bytes, or Hugging Face's ``{"bytes", "path"}``.

    Raises:
        BadRow: none, or too many. A cell with a path alone is not followed.
    """
    if isinstance(value, dict):
        value = value.get("bytes")
        if value is None:
            raise BadRow(
                "missing_file", "the cell has a path and no bytes; paths in embedded rows are not followed"
            )
    if not isinstance(value, bytes):
        raise BadRow("malformed", f"the picture is {type(value).__name__}, not bytes")
    if len(value) > MAX_BYTES:
        raise BadRow("too_many_bytes", f"{len(value):,} bytes, the limit is {MAX_BYTES:,}")
    return value
