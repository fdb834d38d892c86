"""State of a run on object storage: what a killed run continues from.

Written completely under a name of its own, then named by ``state/latest.json``; a kill in between leaves the one
before.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from cluster import storage
from train.data import Reject


@dataclass
class RunState:
    """Progress of a run; the same for every number of workers."""

    step: int = 0
    used: int = 0
    rejected: int = 0
    rejects: dict[str, Reject] = field(default_factory=dict)  # by data set, shard and row: each row once
    seconds: float = 0.0

    def add_rejects(self, rejects: list[Reject]) -> None:
        """Count them, and keep rows not seen before."""
        self.rejected += len(rejects)
        for reject in rejects:
            self.rejects.setdefault(f"{reject.dataset}:{reject.shard}:{reject.row}", reject)


def save(
    run: str,
    state: RunState,
    model: dict[str, torch.Tensor],
    optimizer: dict[str, Any],
    log: list[str],
    *,
    keep: int,
) -> None:
    """Store everything of step ``state.step`` under ``<run>/state/`` and drop all but the last ``keep``."""
    name = f"step-{state.step:08d}"
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"model": model, "optimizer": optimizer}, Path(folder) / "weights.pt")
        (Path(folder) / "state.json").write_text(json.dumps(asdict(state)))
        (Path(folder) / "log.jsonl").write_text("".join(f"{line}\n" for line in log))
        storage.upload_dir(Path(folder), storage.join(run, "state", name))
    pointer = storage.join(run, "state", "latest.json")
    before = json.loads(storage.read_bytes(pointer))["kept"] if storage.exists(pointer) else []
    kept = [*(n for n in before if n != name), name]
    storage.write_bytes(pointer, json.dumps({"step": state.step, "kept": kept[-keep:]}).encode())
    for old in kept[:-keep]:
        for part in ("weights.pt", "state.json", "log.jsonl"):
            storage.delete(storage.join(run, "state", old, part))


def latest_step(run: str) -> int | None:
    """Step of the newest state, None for a run that has none."""
    pointer = storage.join(run, "state", "latest.json")
    return int(json.loads(storage.read_bytes(pointer))["step"]) if storage.exists(pointer) else None


def load(run: str) -> tuple[RunState, dict[str, Any], list[str]] | None:
    """(state, weights, log lines) of the newest state."""
    step = latest_step(run)
    if step is None:
        return None
    folder = storage.join(run, "state", f"step-{step:08d}")
    with tempfile.TemporaryDirectory() as local:
        storage.download_dir(folder, Path(local))
        values = json.loads((Path(local) / "state.json").read_text())
        weights = torch.load(Path(local) / "weights.pt", map_location="cpu", weights_only=True)
        log = (Path(local) / "log.jsonl").read_text().splitlines()
    values["rejects"] = {key: Reject(**reject) for key, reject in values["rejects"].items()}
    return RunState(**values), weights, log
