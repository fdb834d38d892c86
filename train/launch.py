"""Start a run: in this process, or on Ray Train workers."""

from __future__ import annotations

from typing import Any

from train.config import TrainConfig
from train.prepare import finished, prepare


def launch(cfg: TrainConfig) -> dict[str, Any]:
    """Train to the end and return ``done.json``; a finished run is returned as it is, a killed one continues."""
    done = finished(cfg.output)
    if done is None:
        prepare(cfg)
        if cfg.workers == 0:
            from train.loop import run_worker

            done = run_worker(cfg)
        assert done is not None
    return done
