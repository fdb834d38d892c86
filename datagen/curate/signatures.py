"""First pass over a shard: what the gates say of each row alone, and what rows and pictures are compared by.

The results lie beside the output until it is published (`scratch`), so a stopped run decodes no picture twice.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster import storage
from cluster.datasets import read_manifest, read_shard
from datagen.corpus import BadImage, decode_image
from datagen.curate.config import LENGTH, CurateConfig
from datagen.curate.evaluation import load_index
from datagen.curate.shards import Work
from datagen.gates import image_duplicate, near_duplicate
from datagen.gates.decontaminate import EvalIndex
from datagen.gates.image_duplicate import Look
from datagen.gates.language import language
from datagen.records import GateResult, Turn

# ref: shard << 32 | place. order: what decides who stays, see `order`.
SIGNATURE_SCHEMA = pa.schema(
    [
        ("ref", pa.int64()),
        ("order", pa.string()),
        ("keys", pa.list_(pa.uint64())),
        ("sketch", pa.binary()),
        ("image_ids", pa.list_(pa.string())),
    ]
)
FINDING_SCHEMA = pa.schema([("row", pa.int64()), ("gate", pa.string()), ("detail", pa.string())])
STREAMS = ("rows", "pictures", "findings")


class Row(NamedTuple):
    """What the gates look at."""

    id: str
    round: int
    image_ids: tuple[str, ...]
    turns: tuple[Turn, ...]


def order(id: str, round: int = 0) -> str:
    """Sorts the row that stays first: the lowest round, then the smallest id. Independent of shards and workers."""
    return f"{round:04d}:{id}"


def name_of(order: str) -> str:
    """The id in an `order`."""
    return order.partition(":")[2]


def scratch(uri: str, k: int, stream: str) -> str:
    """Where a stream of the first pass over shard ``k`` lies while the output at ``uri`` is made."""
    return storage.join(uri, f"curate/{k:05d}-{stream}.parquet")


def write_table(uri: str, table: pa.Table) -> None:
    """One Parquet object, whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write_bytes(uri, buffer.getvalue())


def read_table(uri: str) -> pa.Table:
    """What `write_table` wrote."""
    return pq.read_table(io.BytesIO(storage.read_bytes(uri)))


def signing(config: dict[str, Any]) -> Work:
    """The work of the first pass."""
    settings = CurateConfig.model_validate(config)
    index = load_index(settings.output) if settings.decontaminate else None

    def sign(k: int) -> dict[str, int]:
        tables = signatures(settings, index, k)
        # Findings are written last: where they are, all of the shard is.
        for stream in STREAMS:
            write_table(scratch(settings.output, k, stream), tables[stream])
        part = read_manifest(settings.source).shards[k].parts.get("rows")
        return {"rows": part.rows if part else 0}

    return sign


def key_count(table: pa.Table) -> int:
    """How many keys a table of signatures holds."""
    return int(pc.sum(pc.list_value_length(table["keys"])).as_py() or 0)


def signatures(config: CurateConfig, index: EvalIndex | None, k: int) -> dict[str, pa.Table]:
    """The streams of the first pass over shard ``k``: signatures of rows and pictures that may stay, and findings."""
    rows = read_rows(config.source, k)
    named = {image for row in rows for image in row.image_ids}
    contents, looks = pictures(config, k, named)
    findings = [_alone(config, index, row, looks) for row in rows]
    left = [n for n, found in enumerate(findings) if not any(f.name in config.dropping for f in found)]
    seen = {image for n in left for image in rows[n].image_ids}
    table = [(n, f.name, f.detail) for n, found in enumerate(findings) for f in found]
    return {
        "rows": _row_signatures(config, k, rows, left, contents),
        "pictures": _picture_signatures(config, k, [i for i in looks if i in seen], looks),
        "findings": pa.Table.from_pylist(
            [dict(zip(FINDING_SCHEMA.names, f, strict=True)) for f in table], FINDING_SCHEMA
        ),
    }


def read_rows(uri: str, k: int) -> list[Row]:
    """The accepted rows of a shard."""
    if "rows" not in read_manifest(uri).shards[k].parts:
        return []
    table = read_shard(uri, k, columns=["id", "round", "image_ids", "conversation"])
    return [
        Row(
            r["id"],
            r["round"] or 0,
            tuple(r["image_ids"] or ()),
            tuple(Turn(**t) for t in r["conversation"] or ()),
        )
        for r in table.to_pylist()
    ]


def pictures(config: CurateConfig, k: int, named: set[str]) -> tuple[dict[str, str], dict[str, Look]]:
    """Of the images ``named``: the sha256 of each, and the look of those that can be decoded, if looks are needed."""
    contents: dict[str, str] = {}
    looks: dict[str, Look] = {}
    if not named or not (config.looks or config.near_duplicate):
        return contents, looks
    columns = ["image_id", "sha256", "image"] if config.looks else ["image_id", "sha256"]
    table = read_shard(config.corpus, k, columns=columns, verify=config.looks)
    for batch in table.to_batches(max_chunksize=16):
        for row in batch.to_pylist():
            if row["image_id"] not in named:
                continue
            contents[row["image_id"]] = row["sha256"]
            if config.looks and (seen := look_at((row["image"] or {}).get("bytes"))):
                looks[row["image_id"]] = seen
    return contents, looks


def look_at(data: bytes | None) -> Look | None:
    """A picture as it is compared; None for what cannot be decoded, which no gate here judges."""
    try:
        return image_duplicate.look(decode_image(data or b""))
    except BadImage:
        return None


def _alone(
    config: CurateConfig, index: EvalIndex | None, row: Row, looks: dict[str, Look]
) -> list[GateResult]:
    """The failed gates of a row that need no other row."""
    found: list[GateResult] = []
    if config.length:
        found.append(answer_length(row.turns, *config.length))
    if config.language:
        found.append(language(row.turns, config.language))
    if index is not None:
        seen = [looks[image] for image in row.image_ids if image in looks]
        results = [index.judge_picture(look, config.picture_distance) for look in seen]
        results.append(index.judge_text(row.turns, pictured=bool(seen)))
        found.append(next((r for r in results if not r.passed), results[0]))
    return [f for f in found if not f.passed]


def answer_length(turns: Sequence[Turn], least: int, most: int) -> GateResult:
    """Whether every answer has between ``least`` and ``most`` words."""
    for turn in turns:
        if turn.role == "assistant" and not least <= (count := len(turn.text.split())) <= most:
            detail = f"answer of {count} words, allowed {least} to {most}"
            return GateResult(name=LENGTH, passed=False, detail=detail)
    return GateResult(name=LENGTH, passed=True)


def _row_signatures(
    config: CurateConfig, k: int, rows: list[Row], left: list[int], contents: dict[str, str]
) -> pa.Table:
    if config.near_duplicate is None:
        return SIGNATURE_SCHEMA.empty_table()
    about = [() if config.across_pictures else rows[n].image_ids for n in left]
    sketches = near_duplicate.sketches([rows[n].turns for n in left])
    groups = np.array(
        [
            near_duplicate.group(rows[n].turns, [contents.get(image, image) for image in images])
            for n, images in zip(left, about, strict=True)
        ],
        dtype=np.uint64,
    )
    bands = near_duplicate.band_keys(sketches, groups, config.near_duplicate)
    # Few rows are about one picture: they are all compared, which needs one key instead of many and misses nothing.
    keys = [[int(g)] if a else b.tolist() for a, g, b in zip(about, groups, bands, strict=True)]
    return pa.table(
        [
            pa.array([k << 32 | n for n in left], pa.int64()),
            pa.array([order(rows[n].id, rows[n].round) for n in left], pa.string()),
            pa.array(keys, pa.list_(pa.uint64())),
            pa.array([sketch.tobytes() for sketch in sketches], pa.binary()),
            pa.array([list(rows[n].image_ids) for n in left], pa.list_(pa.string())),
        ],
        schema=SIGNATURE_SCHEMA,
    )


def _picture_signatures(config: CurateConfig, k: int, images: list[str], looks: dict[str, Look]) -> pa.Table:
    if config.image_duplicate is None:
        return SIGNATURE_SCHEMA.empty_table()
    distance = config.image_duplicate
    return pa.table(
        [
            pa.array([k << 32 | n for n in range(len(images))], pa.int64()),
            pa.array([order(image) for image in images], pa.string()),
            pa.array([image_duplicate.band_keys(looks[i], distance) for i in images], pa.list_(pa.uint64())),
            pa.array([image_duplicate.pack(looks[i]) for i in images], pa.binary()),
            pa.array([[image] for image in images], pa.list_(pa.string())),
        ],
        schema=SIGNATURE_SCHEMA,
    )
