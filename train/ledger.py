"""The books of a run: what each log line says, and that used and rejected rows add up."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cluster import storage
from train.checkpoint import RunState
from train.feed.batch import StepBatch
from train.flops import Arithmetic
from train.workers import Workers

LOG_FLUSH_S = 10.0


class Ledger:
    """Sums over the steps since the last log line, on this worker; adds them up over workers when a line is due."""

    def __init__(
        self,
        parts: Sequence[str],
        weights: Tensor,
        workers: Workers,
        state: RunState,
        arithmetic: Arithmetic | None = None,
    ) -> None:
        self.parts, self.weights, self.workers, self.state = parts, weights, workers, state
        self.arithmetic = arithmetic
        self.lines: list[str] = []
        self._flushed = 0.0
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(2, len(self.weights), dtype=torch.float64)
        self._stats: dict[str, int] = {}
        self._rejects: list[Any] = []
        self._rows, self._started = 0, time.monotonic()
        self._waited = 0.0

    def add(self, batch: StepBatch, sums: Tensor, counts: Tensor, waited: float) -> None:
        """One step: its loss sums and token counts by part, and the seconds that it waited for its data."""
        self._waited += waited
        self._sums += torch.stack([sums, counts])
        self._rejects += batch.rejects
        self._rows += batch.rows
        _add(self._stats, batch.stats)

    def close(self, epoch: float, **extra: Any) -> dict[str, Any] | None:
        """The line of the steps since the last one, on every worker; None when there were none.

        All workers call this at the same steps.
        """
        if not self._rows:
            return None
        sums, counts = self.workers.sum(self._sums)
        stats: dict[str, int] = {}
        waited, memory = 0.0, 0.0
        mine = (self._stats, self._rejects, self._waited, self.workers.memory_gb())
        for one, rejects, waits, peak in self.workers.gather(mine):
            self.state.add_rejects(rejects)
            _add(stats, one)
            waited, memory = waited + waits / self.workers.size, max(memory, peak)
        elapsed = max(time.monotonic() - self._started, 1e-9)
        self.state.used += stats.get("samples", 0)
        self.state.moved += stats.get("moved", 0)
        self.state.seconds += elapsed
        line = {
            "step": self.state.step,
            "epoch": round(epoch, 4),
            **self.losses(sums, counts),
            **_tokens(stats, elapsed),
            **extra,
            "samples_per_s": round(self._rows / elapsed, 2),
            "mfu": self.arithmetic.mfu(stats, elapsed * self.workers.size) if self.arithmetic else None,
            "data_wait_share": round(waited / elapsed, 4),
            "memory_gb": round(memory, 2),
            "workers": self.workers.size,
            "used": self.state.used,
            "rejected": self.state.rejected,
            "seconds": round(self.state.seconds, 2),
        }
        self.lines.append(json.dumps(line))
        self._clear()
        return line

    def losses(self, sums: Tensor, counts: Tensor, prefix: str = "") -> dict[str, Any]:
        """Mean losses in nats per token (stage tower: per patch): weighted over all, and by part."""
        weighted = float((self.weights * counts).sum())
        total = float((self.weights * sums).sum()) / weighted if weighted else None
        found: dict[str, Any] = {f"{prefix}loss": _round(total)}
        for i, part in enumerate(self.parts):
            mean = float(sums[i] / counts[i]) if counts[i] else None
            found |= {f"{prefix}loss_{part}": _round(mean), f"{prefix}tokens_{part}": int(counts[i])}
        return found

    def write(self, run: str, *, now: bool = False) -> None:
        """Store ``log.jsonl`` and ``rejects.jsonl``, at most every ten seconds unless ``now``."""
        if not self.workers.first or (not now and time.monotonic() - self._flushed < LOG_FLUSH_S):
            return
        self._flushed = time.monotonic()
        storage.write_bytes(storage.join(run, "log.jsonl"), "".join(f"{x}\n" for x in self.lines).encode())
        rejects = "".join(json.dumps(vars(reject)) + "\n" for reject in self.state.rejects.values())
        storage.write_bytes(storage.join(run, "rejects.jsonl"), rejects.encode())


def _tokens(stats: dict[str, int], elapsed: float) -> dict[str, Any]:
    tokens = stats.get("tokens", 0)
    if not tokens:
        return {}
    masked = {k.removeprefix("masked_"): v for k, v in stats.items() if k.startswith("masked_")}
    return {
        "tokens": tokens,
        "tokens_per_s": round(tokens / elapsed, 1),
        "padding_share": round(1 - tokens / stats["slots"], 4) if stats.get("slots") else 0.0,
        "masked_share": {reason: round(n / tokens, 4) for reason, n in sorted(masked.items())},
        "cut_off_tokens": stats.get("cut_off", 0),
    }


def _add(into: dict[str, int], more: dict[str, int]) -> None:
    for key, value in more.items():
        into[key] = into.get(key, 0) + value


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
