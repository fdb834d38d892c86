"""WebDataset: tar files of samples, ``<key>.json`` beside ``<key>.jpg`` (several images: ``<key>.0.jpg`` …).

Keys are shard and row, in order; owner, time and mode are fixed, so the same rows give the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datagen.exporters.books import Ledger
from datagen.exporters.config import ExportConfig, ExportPlan, Unexported, Unit
from datagen.exporters.samples import Sample, talk


def file_name(config: ExportConfig, index: int) -> str:
    """Six digits, as ``train-{000000..000003}.tar`` expands."""
    return f"{config.split}-{index:06d}.tar"


def write_unit(
    config: ExportConfig, plan: ExportPlan, unit: Unit, samples: Iterable[Sample | Unexported], folder: Path
) -> Ledger:
    """One tar file into ``folder``, sample by sample."""
    ledger = Ledger()
    with tarfile.open(folder / file_name(config, unit.index), "w", format=tarfile.USTAR_FORMAT) as file:
        for sample in ledger.fit(samples):
            try:
                text = sample_json(sample)
            except ValueError as problem:
                ledger.refuse(sample, str(problem))
                continue
            key = f"{sample.shard:05d}-{sample.position:07d}"
            _add(file, f"{key}.json", json.dumps(text, ensure_ascii=False).encode())
            for number, picture in enumerate(sample.pictures):
                which = "" if len(sample.pictures) == 1 else f"{number}."
                _add(file, f"{key}.{which}{picture.ending}", picture.data)
            ledger.images += len(sample.pictures)
            ledger.done(sample)
    return ledger


def sample_json(sample: Sample) -> dict[str, Any]:
    """What stands beside the image.

    Raises:
        ValueError: no conversation to train on.
    """
    record = sample.record
    return {
        "id": record.id,
        "image_ids": list(record.image_ids),
        "messages": [{"role": t.role, "content": t.text} for t in talk(record)],
        "kind": record.kind,
        "format": record.format,
        "options": list(record.options),
        "answer_index": record.answer_index,
        "state": record.state,
        "source": record.source,
    }


def _add(file: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    file.addfile(entry, io.BytesIO(data))
