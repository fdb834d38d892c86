"""Instruction sets with planted collisions."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.datasets import commit_shard, freeze, plan_dataset
from cluster.storage import join
from datagen import corpus
from datagen.corpus import CorpusRow
from datagen.programs.draft import outcome
from datagen.records import ACCEPTED_STATES, Record, Turn, to_table


def photo(seed: int, kind: str = "PNG", quality: int = 80) -> bytes:
    """A picture with the structure of a photograph; the same seed shows the same."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(128 + 60 * rng.normal(size=(6, 8, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    picture = Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)
    picture.save(buffer, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return buffer.getvalue()


def image(name: str, data: bytes) -> CorpusRow:
    return CorpusRow(image_id=name, image=data, width=96, height=72, sha256=corpus.sha256(data))


def record(
    name: str, images: Sequence[str] = (), question: str = "", answer: str = "", **more: object
) -> Record:
    turns = (
        Turn(role="user", text=question or f"What does the picture of {name} show in its upper half?"),
        Turn(role="assistant", text=answer or f"It shows the thing that everybody here calls {name}."),
    )
    values = {"kind": "test", "format": "open", "state": "accepted", "conversation": turns, **more}
    return Record(id=name, image_ids=tuple(images), **values)  # type: ignore[arg-type]


Write = Callable[[str, list[list[CorpusRow]], list[list[Record]]], str]


@pytest.fixture
def write_set(tmp_path: Path) -> Write:
    """Publish shards of pictures and of records; returns the URI of the instruction set."""
    return lambda name, pictures, records: publish(tmp_path, name, pictures, records)


def publish(root: Path | str, name: str, pictures: list[list[CorpusRow]], records: list[list[Record]]) -> str:
    images, uri = join(str(root), "corpora", name), join(str(root), "instructions", name)
    plan_dataset(images, kind="corpus", name=name, shards=len(pictures), config={})
    for k, rows in enumerate(pictures):
        commit_shard(images, k, {"rows": corpus.to_table(rows)})
    freeze(images)
    plan_dataset(uri, kind="instructions", name=name, shards=len(records), config={}, parents=[images])
    for k, shard in enumerate(records):
        kept = [r for r in shard if r.state in ACCEPTED_STATES]
        rejects = [r for r in shard if r.state not in ACCEPTED_STATES]
        states = [outcome(r.state, r.reason) for r in shard]
        counts = {state: states.count(state) for state in states}
        commit_shard(
            uri, k, {"rows": to_table(kept), "rejects": to_table(rejects)}, counts=counts, tokens={"calls": 3}
        )
    freeze(uri)
    return uri
