"""Hugging Face Parquet: `datasets.load_dataset(folder)` shows it with pictures, and so does the hub's viewer.

``data/train-00000-of-00004.parquet`` …, with the features in the schema's metadata. A row has its picture in
``image``; where any row of the set has several, all have a list in ``images``. ``messages`` are roles and contents
as chat templates and trainers take them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.exporters.books import Ledger
from datagen.exporters.config import ExportConfig, ExportPlan, Unexported, Unit
from datagen.exporters.samples import Picture, Sample, safe_name, talk

# The viewer reads a whole group to show a row of it, and refuses groups of more than 300 MB.
GROUP_BYTES = 32 << 20
GROUP_ROWS = 1000

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_SCORE = pa.struct([("name", pa.string()), ("value", pa.float64())])


def schema(many_images: bool) -> pa.Schema:
    """Columns, with the features that `datasets` reads from the metadata."""
    picture = ("images", pa.list_(_IMAGE)) if many_images else ("image", _IMAGE)
    columns = [
        ("id", pa.string()),
        picture,
        ("messages", pa.list_(_MESSAGE)),
        ("kind", pa.string()),
        ("format", pa.string()),
        ("options", pa.list_(pa.string())),
        ("answer_index", pa.int32()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("round", pa.int32()),
        ("rewrite", pa.string()),
        ("scores", pa.list_(_SCORE)),
        ("image_ids", pa.list_(pa.string())),
        ("program", pa.string()),
        ("prompt_set", pa.string()),
        ("model_revision", pa.string()),
        ("source", pa.string()),
    ]
    plain = pa.schema(columns)
    features = {field.name: _feature(field.type) for field in plain}
    return plain.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> Any:
    """A type as `datasets` writes it; a list as ``[feature]``, the one form that all its versions read."""
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {pa.float64(): "float64"}.get(kind, str(kind)), "_type": "Value"}


def file_name(config: ExportConfig, index: int, units: int) -> str:
    """Names by which `datasets` finds the splits."""
    return f"data/{config.split}-{index:05d}-of-{units:05d}.parquet"


def write_unit(
    config: ExportConfig, plan: ExportPlan, unit: Unit, samples: Iterable[Sample | Unexported], folder: Path
) -> Ledger:
    """One Parquet file into ``folder``, group by group."""
    ledger = Ledger()
    place = folder / file_name(config, unit.index, len(plan.units))
    place.parent.mkdir(parents=True)
    columns = schema(plan.many_images)
    rows: list[dict[str, Any]] = []
    size = 0
    with pq.ParquetWriter(place, columns, compression="zstd", write_page_index=True) as file:
        for sample in ledger.fit(samples):
            try:
                rows.append(row(sample, plan.many_images))
            except ValueError as problem:
                ledger.refuse(sample, str(problem))
                continue
            size += sum(len(p.data) for p in sample.pictures)
            ledger.images += len(sample.pictures)
            ledger.done(sample)
            if size >= GROUP_BYTES or len(rows) == GROUP_ROWS:
                file.write_table(pa.Table.from_pylist(rows, schema=columns))
                rows, size = [], 0
        if rows:
            file.write_table(pa.Table.from_pylist(rows, schema=columns))
    return ledger


def row(sample: Sample, many_images: bool) -> dict[str, Any]:
    """A record as a row.

    Raises:
        ValueError: no conversation to train on.
    """
    record = sample.record
    pictures = [_picture(p) for p in sample.pictures]
    shown = {"images": pictures} if many_images else {"image": pictures[0] if pictures else None}
    return {
        "id": record.id,
        **shown,
        "messages": [{"role": t.role, "content": t.text} for t in talk(record)],
        "options": list(record.options),
        "scores": [{"name": name, "value": value} for name, value in record.scores],
        "image_ids": list(record.image_ids),
        **{
            name: getattr(record, name)
            for name in ("kind", "format", "answer_index", "state", "reason", "round", "rewrite")
        },
        **{name: getattr(record, name) for name in ("program", "prompt_set", "model_revision", "source")},
    }


def _picture(picture: Picture) -> dict[str, Any]:
    return {"bytes": picture.data, "path": f"{safe_name(picture.image_id)}.{picture.ending}"}
