"""LLaVA JSON: one list of conversations, and the images as files.

    train.json    [{"id": …, "image": "train/00000/name.jpg", "conversations": [{"from": "human", "value":
                  "<image>\\n…"}, {"from": "gpt", "value": …}]}, …]
    images/       the image folder: original bytes, every image once, a folder for each shard

Rows with several images have a list under ``image`` and as many markers, as in LLaVA-NeXT's interleaved data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cluster import storage
from datagen.exporters.books import Ledger
from datagen.exporters.config import BOOKS, ExportConfig, ExportPlan, Unexported, Unit
from datagen.exporters.samples import Sample, safe_name, talk

MARKER = "<image>"
SPEAKERS = {"user": "human", "assistant": "gpt"}


def write_unit(
    config: ExportConfig, plan: ExportPlan, unit: Unit, samples: Iterable[Sample | Unexported], folder: Path
) -> Ledger:
    """Images and a piece of the list into ``folder``, as they are to lie in the output."""
    ledger = Ledger()
    piece = folder / BOOKS / config.split / _piece(unit.index)
    piece.parent.mkdir(parents=True)
    with piece.open("w", encoding="utf-8") as file:
        for sample in ledger.fit(samples):
            try:
                row = llava_row(sample, config.split)
            except ValueError as problem:
                ledger.refuse(sample, str(problem))
                continue
            for path, picture in zip(_paths(sample, config.split), sample.pictures, strict=True):
                place = folder / "images" / path
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(picture.data)
                    ledger.images += 1
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            ledger.done(sample)
    return ledger


def llava_row(sample: Sample, split: str) -> dict[str, Any]:
    """A record in LLaVA's form; keys that its loader does not know (``image_ids`` …) are passed over by it.

    Raises:
        ValueError: LLaVA's loader cannot take this row; the message says why.
    """
    turns = talk(sample.record)
    if turns[0].role == "system":
        raise ValueError("a system turn, which LLaVA's format does not have")
    if any(MARKER in turn.text for turn in turns):
        raise ValueError(f"a text holds {MARKER}, which the loader would take for one more image")
    said = [{"from": SPEAKERS[turn.role], "value": turn.text} for turn in turns]
    said[0]["value"] = f"{MARKER}\n" * len(sample.pictures) + said[0]["value"]
    paths = _paths(sample, split)
    record = sample.record
    return {
        "id": record.id,
        **({"image": paths[0] if len(paths) == 1 else paths} if paths else {}),
        "conversations": said,
        "image_ids": list(record.image_ids),
        "kind": record.kind,
        "format": record.format,
        "source": record.source,
    }


def _paths(sample: Sample, split: str) -> list[str]:
    return [f"{split}/{sample.shard:05d}/{safe_name(p.image_id)}.{p.ending}" for p in sample.pictures]


def _piece(index: int) -> str:
    return f"rows-{index:05d}.jsonl"


def finish(config: ExportConfig, units: Sequence[Unit], folder: Path) -> list[str]:
    """Join the pieces into one list, row by row; returns the pieces, which are then no longer needed."""
    pieces = [storage.join(config.output, BOOKS, config.split, _piece(unit.index)) for unit in units]
    with (folder / f"{config.split}.json").open("wb") as file:
        first = True
        for piece in pieces:
            # Only b"\n" ends a row: texts may hold other line ends.
            for line in storage.read_bytes(piece).split(b"\n")[:-1]:
                file.write((b"[\n" if first else b",\n") + line)
                first = False
        file.write(b"[]\n" if first else b"\n]\n")
    return pieces
