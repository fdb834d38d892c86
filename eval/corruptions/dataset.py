"""A corpus whose pictures are corrupted: MSCOCO-C, Flickr30k-C and whatever else, made shard by shard.

    corrupt_corpus("runs/coco/corpus", "runs/coco-c/fog/3", "fog", 3)

The new corpus has the old one's shards, ids and annotations, so the same gold questions go with both. A stopped run
continues; a picture that cannot be opened becomes a reject, and its questions fail by name.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from cluster.datasets import commit_shard, freeze, pending_shards, plan_dataset, read_manifest, read_shard
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.runtime import init_ray
from datagen.corpus import BadImage, decode_image, sha256
from datagen.importers.rejects import CorpusReject, to_table
from eval.corruptions import ice
from eval.corruptions.arrays import Pixels
from eval.corruptions.corrupt import SEED_RULE, check, corrupt
from eval.corruptions.severities import SEVERITIES

Encoding = Literal["png", "jpeg"]
# ImageNet-C's own files are JPEG of quality 85, one more corruption of everything; PNG keeps what was made.
JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class CorruptionJob:
    """One corrupted corpus to make. ``photographs``: folder of ImageNet-C's pictures of frost, "" draws ice."""

    corpus: str
    output: str
    corruption: str
    severity: int
    encoding: Encoding = "png"
    photographs: str = ""


def corrupt_corpus(
    corpus_uri: str,
    output_uri: str,
    corruption: str,
    severity: int,
    *,
    encoding: Encoding = "png",
    photographs: str = "",
) -> str:
    """Make one corrupted corpus with Ray; returns its URI. See `corrupt_corpora`."""
    job = CorruptionJob(
        corpus=corpus_uri,
        output=output_uri,
        corruption=corruption,
        severity=severity,
        encoding=encoding,
        photographs=photographs,
    )
    return corrupt_corpora([job])[0]


def corrupt_corpora(jobs: Sequence[CorruptionJob]) -> list[str]:
    """Make every corpus that is missing, all of them in one queue over the cluster; URIs in order.

    Raises:
        UserError: an unknown corruption, a source that is no corpus, or an output that holds something else.
    """
    shards = {uri: _corpus_shards(uri) for uri in dict.fromkeys(job.corpus for job in jobs)}
    for job in jobs:
        _plan(job, shards[job.corpus])
    todo = [(k, shard) for k, job in enumerate(jobs) for shard in pending_shards(job.output)]
    if todo:
        total = sum(shards[job.corpus] for job in jobs)
        with (
            init_ray(),
            Progress(total, unit="shards", label="corruptions", done=total - len(todo)) as progress,
        ):
            for error in _stream(jobs, todo):
                if error:
                    raise UserError(error)
                progress.advance(1)
    for job in jobs:
        freeze(job.output)
    return [job.output for job in jobs]


def _corpus_shards(uri: str) -> int:
    manifest = read_manifest(uri)
    if manifest.kind != "corpus":
        raise UserError(
            f"{uri} is a data set of kind {manifest.kind!r}; only a corpus has pictures to corrupt"
        )
    return len(manifest.shards)


def _plan(job: CorruptionJob, shards: int) -> None:
    check(job.corruption, job.severity)
    settings: dict[str, Any] = {
        "what": "corruption",
        "corruption": job.corruption,
        "severity": job.severity,
        "level": list(SEVERITIES[job.corruption][job.severity - 1]),
        "seed_rule": SEED_RULE,
        "encoding": job.encoding if job.encoding == "png" else f"jpeg-{JPEG_QUALITY}-444",
    }
    if job.corruption == "frost":
        settings["frost"] = ice.read_photographs(job.photographs)[1] if job.photographs else ice.VERSION
    plan_dataset(
        job.output,
        kind="corpus",
        name=f"{read_manifest(job.corpus).name}-{job.corruption}-{job.severity}",
        shards=shards,
        config=settings,
        parents=[job.corpus],
        seeds={
            SEED_RULE: "sha256 of corruption, severity, size and RGB pixels of each picture",
            **{name: version(name) for name in ("numpy", "pillow")},
            "opencv": _opencv_version(),
        },
    )


def _opencv_version() -> str:
    import cv2

    return str(cv2.__version__)


def _stream(jobs: Sequence[CorruptionJob], todo: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Shards through Ray's tasks; yields "" or what is wrong for each as it finishes."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    work = [{"job": job, "shard": shard} for job, shard in todo]

    def one(batch: dict[str, Any]) -> dict[str, Any]:
        return {
            "error": [_named(jobs[int(j)], int(k)) for j, k in zip(batch["job"], batch["shard"], strict=True)]
        }

    done = ray.data.from_items(work, override_num_blocks=len(work)).map_batches(one, batch_size=1, num_cpus=1)
    for row in done.iter_rows():
        yield row["error"]


def _named(job: CorruptionJob, shard: int) -> str:
    """Returns what a user can put right; raised in a task it would come out as a Ray traceback."""
    try:
        corrupt_shard(job, shard)
    except UserError as error:
        return str(error)
    return ""


def corrupt_shard(job: CorruptionJob, shard: int) -> None:
    """Make and commit one shard, in this process.

    Raises:
        UserError: the source's shard cannot be read.
    """
    import cv2

    cv2.setNumThreads(1)  # the tasks are the parallelism
    began = time.perf_counter()
    photographs: tuple[Pixels, ...] = ()
    if job.corruption == "frost" and job.photographs:
        photographs = ice.read_photographs(job.photographs)[0]
    table = read_shard(job.corpus, shard)
    kept, pictures, hashes, rejects = [], [], [], []
    for row, (image_id, image) in enumerate(zip(table["image_id"], table["image"], strict=True)):
        try:
            picture = decode_image(image["bytes"].as_py() or b"")
        except BadImage as error:
            where = f"{job.corpus} shard {shard} row {row}"
            rejects.append(
                CorpusReject(image_id=image_id.as_py(), reason=error.reason, detail=str(error), where=where)
            )
            continue
        data = _encode(corrupt(picture, job.corruption, job.severity, photographs=photographs), job.encoding)
        kept.append(row)
        pictures.append({"bytes": data, "path": None})
        hashes.append(sha256(data))
    rows = _with_column(table.take(pa.array(kept, pa.int64())), "image", pictures)
    tables = {"rows": _with_column(rows, "sha256", hashes)}
    if rejects:
        tables["rejects"] = to_table(rejects)
    commit_shard(job.output, shard, tables, seconds=time.perf_counter() - began, inputs=table.num_rows)


def _with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    return table.set_column(at, field, pa.array(values, type=field.type))


def _encode(pixels: Pixels, encoding: Encoding) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if encoding == "png":
        picture.save(data, "PNG", compress_level=1)  # higher levels take three times as long for a tenth less
    else:
        picture.save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()
