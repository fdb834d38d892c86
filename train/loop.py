"""The worker: one process of a run, from the start or from where a killed run stopped."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cluster import storage
from cluster.progress import Progress
from cluster.revision import weights_revision
from train import checkpoint, export, model, optim
from train.checkpoint import RunState
from train.config import TrainConfig
from train.data import StepBatch
from train.ledger import Ledger
from train.prefetch import prefetch
from train.prepare import plan
from train.task import build_task, holdout_data
from train.tower import TowerLoss
from train.workers import Workers, multiplies_bf16

# Called with every log line, on every worker at the same steps.
OnLog = Callable[[dict[str, Any]], None]


class Trainer:
    """One worker's run: :meth:`train` goes to the last step and stores checkpoints, :meth:`finish` exports."""

    def __init__(self, cfg: TrainConfig, workers: Workers) -> None:
        torch.set_num_threads(cfg.threads)
        self.cfg, self.workers = cfg, workers
        self.task = build_task(cfg)
        self.steps = plan(cfg).steps
        self.llava = self.task.module.model
        bf16 = cfg.precision == "bf16" or (cfg.precision == "auto" and multiplies_bf16(workers.device))
        self.autocast = torch.autocast(workers.device.type, torch.bfloat16, enabled=bf16)
        if bf16 and workers.device.type == "cpu":
            model.use_explicit_attention(self.llava)
        self.task.module.to(workers.device)
        head = self.task.module.head.parameters() if isinstance(self.task.module, TowerLoss) else ()
        self.optimizer = optim.build(self.llava, cfg, list(head))
        self.state = RunState()
        lines = self._resume()
        self.ledger = Ledger(self.task.module.parts, self.task.weights, workers, self.state)
        self.ledger.lines = lines
        self.wrapped = workers.wrap(self.task.module).train()
        self._holdout: list[StepBatch] = []
        self._measured = self.state.step
        self.grad_norm = 0.0

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.task.module.named_parameters() if p.requires_grad}

    def _resume(self) -> list[str]:
        """Continue from the newest checkpoint, if any; the log lines up to there."""
        found = checkpoint.load(self.cfg.output)
        if found is None:
            return []
        self.state, weights, lines = found
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(weights["model"][name])
        self.optimizer.load_state_dict(weights["optimizer"])
        return lines

    def train(self, on_log: OnLog | None = None) -> RunState:
        """Train to the last step; returns the final state."""
        cfg, rows = self.cfg, self.cfg.global_batch
        label = f"train {cfg.mode if cfg.stage == 'finetune' else cfg.stage}"
        remaining = self.steps - self.state.step
        batches = self.task.data.steps(self.state.step, rank=self.workers.rank, world=self.workers.size)
        progress: AbstractContextManager[Progress | None] = nullcontext()
        if self.workers.first:
            progress = Progress(self.steps * rows, "samples", label, done=self.state.step * rows)
        with progress as shown:
            for batch in prefetch(islice(batches, remaining)):
                self._step(batch)
                last = self.state.step == self.steps
                note = None
                if self.state.step % cfg.log_every == 0 or last:
                    note = self._log(on_log)
                if shown:
                    shown.advance(rows, note)
                if self.state.step % cfg.checkpoint.every == 0 and not last:
                    self.save()
        return self.state

    def _step(self, batch: StepBatch) -> None:
        """Forward and backward over the microbatches, then one optimizer step."""
        optim.set_rates(self.optimizer, optim.rate_factor(self.state.step, self.steps, self.cfg.optimizer))
        weights = self.task.weights
        counts = torch.from_numpy(np.stack([m.counts for m in batch.microbatches])).double()
        denominator = float((weights * self.workers.sum(counts.sum(0))).sum())
        sums = torch.zeros(len(weights), dtype=torch.float64)
        for i, microbatch in enumerate(batch.microbatches):
            with self.workers.accumulate(self.wrapped, last=i + 1 == len(batch.microbatches)):
                with self.autocast:
                    parts = self.wrapped(microbatch)
                scale = self._scale(counts[i], denominator, len(counts))
                ((parts * weights.to(parts.device)).sum() * scale).backward()
            sums += parts.detach().double().cpu()
        self.grad_norm = float(
            nn.utils.clip_grad_norm_(list(self._trained().values()), self.cfg.optimizer.clip)
        )
        # A step without a learned token (all its rows rejected) has no gradient and must not move on momentum.
        if denominator > 0:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        self.ledger.add(batch, sums, counts.sum(0))

    def _scale(self, counts: Tensor, denominator: float, microbatches: int) -> float:
        """What a microbatch's weighted sum is multiplied by. Workers average gradients, hence their number."""
        if self.cfg.loss.normalisation == "global_token_mean":
            return self.workers.size / denominator if denominator else 0.0
        own = float((self.task.weights * counts).sum())
        return 1.0 / (own * microbatches) if own else 0.0

    def _close(self, **extra: Any) -> dict[str, Any] | None:
        rates = {f"group_{i}": g["lr"] for i, g in enumerate(self.optimizer.param_groups)}
        epoch = self.state.step / self.task.data.order.batches_per_epoch
        return self.ledger.close(epoch, lr=rates, grad_norm=round(self.grad_norm, 4), **extra)

    def _log(self, on_log: OnLog | None) -> str:
        """Write a log line; returns what the progress line says."""
        holdout = self.cfg.holdout
        due = holdout and self.state.step // holdout.every > self._measured // holdout.every
        line = self._close(**(self._measure_holdout() if due else {}))
        self.ledger.write(self.cfg.output, now=self.state.step == self.steps)
        if line is None:
            return ""
        if on_log:
            on_log(line)
        shown = [(part, line[f"loss_{part}"]) for part in self.task.module.parts]
        return "loss " + "  ".join(f"{part} {value:.3f}" for part, value in shown if value is not None)

    @torch.no_grad()
    def _measure_holdout(self) -> dict[str, Any]:
        """Loss on held-out rows, with the weights as they are."""
        holdout = self.cfg.holdout
        assert holdout is not None
        if not self._holdout:
            data = holdout_data(self.cfg, holdout, self.task)
            batches = min(data.order.batches_per_epoch, -(-holdout.rows // self.cfg.global_batch))
            steps = data.steps(0, rank=self.workers.rank, world=self.workers.size)
            self._holdout = list(islice(steps, batches))
        self._measured = self.state.step
        totals = torch.zeros(2, len(self.task.weights), dtype=torch.float64)
        self.task.module.eval()
        for microbatch in (m for batch in self._holdout for m in batch.microbatches):
            with self.autocast:
                totals[0] += self.task.module(microbatch).double().cpu()
            totals[1] += torch.from_numpy(microbatch.counts)
        self.task.module.train()
        sums, counts = self.workers.sum(totals)
        return self.ledger.losses(sums, counts, prefix="holdout_")

    def save(self) -> None:
        """Store a checkpoint. The first worker writes; the others wait for it at their next exchange."""
        self._close()
        if not self.workers.first:
            return
        weights = {name: p.detach().cpu() for name, p in self._trained().items()}
        optimizer, keep = self.optimizer.state_dict(), self.cfg.checkpoint.keep
        checkpoint.save(self.cfg.output, self.state, weights, optimizer, self.ledger.lines, keep=keep)

    def finish(self) -> dict[str, Any]:
        """Export the model and publish ``done.json``; the first worker alone calls this."""
        dtype = torch.float32 if self.cfg.export_dtype == "fp32" else torch.bfloat16
        self.ledger.write(self.cfg.output, now=True)
        with tempfile.TemporaryDirectory() as local:
            folder = Path(local)
            export.save_model(self.llava, self.task.processor, folder, dtype=dtype)
            revision = weights_revision(folder)
            storage.upload_dir(folder, storage.join(self.cfg.output, "model"))
        done = {
            "weights_sha256": revision,
            "steps": self.state.step,
            "used": self.state.used,
            "rejected": self.state.rejected,
            "seconds": round(self.state.seconds, 1),
            "last": json.loads(self.ledger.lines[-1]) if self.ledger.lines else None,
        }
        storage.write_bytes(storage.join(self.cfg.output, "done.json"), json.dumps(done, indent=1).encode())
        return done


def run_worker(cfg: TrainConfig, device: torch.device, on_log: OnLog | None = None) -> dict[str, Any] | None:
    """Train in this process, one of its process group where there is one; returns the first worker's ``done.json``."""
    workers = Workers.current(device)
    trainer = Trainer(cfg, workers)
    trainer.train(on_log)
    trainer.save()
    return trainer.finish() if workers.first else None
