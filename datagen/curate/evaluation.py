"""The index of the evaluation sets: built once by the driver, stored beside the output, loaded by every worker."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from cluster import storage
from cluster.datasets import read_manifest, read_shard
from cluster.errors import UserError
from datagen.corpus import BadImage, decode_image
from datagen.gates import image_duplicate
from datagen.gates.decontaminate import EvalIndex, Examples, build_index
from datagen.gates.image_duplicate import Look
from datagen.records import Turn


def index_uri(output: str) -> str:
    """Where the index lies while the output is made."""
    return storage.join(output, "curate/evaluation.npz")


def store_index(output: str, evaluations: Sequence[str], distance: int) -> None:
    """Build the index of the evaluation sets, if it is not there yet.

    Raises:
        UserError: one of them is not a published dataset.
    """
    if not storage.exists(index_uri(output)):
        index = build_index([examples(uri) for uri in evaluations], distance)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(index))
        storage.write_bytes(index_uri(output), buffer.getvalue())


def load_index(output: str) -> EvalIndex:
    """What `store_index` stored."""
    with np.load(io.BytesIO(storage.read_bytes(index_uri(output))), allow_pickle=False) as arrays:
        return EvalIndex(**{name: arrays[name] for name in arrays.files})


def examples(uri: str) -> Examples:
    """An evaluation set, instructions with the pictures of its corpus, or a corpus: pictures only."""
    manifest = read_manifest(uri)
    if manifest.kind == "corpus":
        return Examples(name=manifest.name, texts=(), pictures=_pictures(uri, None))
    if not manifest.parents:
        return Examples(name=manifest.name, texts=_texts(uri), pictures=())
    return Examples(name=manifest.name, texts=_texts(uri), pictures=_pictures(manifest.parents[0].uri, uri))


def _texts(uri: str) -> Iterator[tuple[str, list[Turn], bool]]:
    for k, shard in enumerate(read_manifest(uri).shards):
        if "rows" in shard.parts:
            for row in read_shard(uri, k, columns=["id", "conversation", "image_ids"]).to_pylist():
                turns = [Turn(**turn) for turn in row["conversation"] or ()]
                yield row["id"], turns, bool(row["image_ids"])


def _pictures(corpus: str, instructions: str | None) -> Iterator[tuple[str, Look]]:
    """Pictures of a corpus, or of those only that an instruction set asks about."""
    shards = read_manifest(corpus).shards if instructions is None else read_manifest(instructions).shards
    for k, shard in enumerate(shards):
        if "rows" not in shard.parts:
            continue
        asked: set[str] | None = None
        if instructions is not None:
            lists = read_shard(instructions, k, columns=["image_ids"])["image_ids"].to_pylist()
            asked = {image for images in lists for image in images or ()}
        for batch in read_shard(corpus, k, columns=["image_id", "image"]).to_batches(max_chunksize=16):
            for row in batch.to_pylist():
                if asked is None or row["image_id"] in asked:
                    try:
                        picture = decode_image((row["image"] or {}).get("bytes") or b"")
                    except BadImage:
                        continue
                    yield row["image_id"], image_duplicate.look(picture)


def check_evaluations(evaluations: Sequence[str], source: str) -> None:
    """Evaluation sets are published, and none is the set that is curated.

    Raises:
        UserError: names the set.
    """
    for uri in evaluations:
        manifest = read_manifest(uri)
        if uri.rstrip("/") == source.rstrip("/"):
            raise UserError(
                f"--decontaminate {uri}: that is the data set to curate; all of it would be dropped"
            )
        if manifest.kind == "eval":
            raise UserError(
                f"--decontaminate {uri}: holds results; give the instruction set or corpus measured on"
            )
        if manifest.kind == "instructions" and manifest.parents:
            read_manifest(manifest.parents[0].uri)
