"""The worker: one process of a run, from the start or from where a killed run stopped."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cluster import storage
from cluster.progress import Progress
from train import checkpoint, export, model, optim
from train.checkpoint import RunState
from train.config import TrainConfig
from train.data import LanguageData, StepBatch
from train.encode import Encoder
from train.loss import LanguageLoss
from train.pixels import Pixels
from train.prefetch import prefetch
from train.prepare import chat_format, plan, start_model
from train.templates import TemplateSet
from train.tower import TowerData, TowerLoss, vocabulary
from train.workers import Workers, multiplies_bf16

LOG_FLUSH_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained on what: a module that gives loss sums, its batches, and the weight of each part."""

    module: LanguageLoss | TowerLoss
    data: LanguageData | TowerData
    weights: Tensor
    processor: Any


def build_task(cfg: TrainConfig) -> Task:
    """Load the model and open the data."""
    llava, processor = model.load(start_model(cfg))
    model.freeze(llava, cfg.lr)
    pixels = Pixels(processor, cfg.image_cache_mb)
    vision = llava.config.vision_config
    side = vision.image_size // vision.patch_size
    if cfg.stage == "tower":
        words = vocabulary([str(source.corpus) for source in cfg.data])
        torch.manual_seed(cfg.seed)
        tower = TowerLoss(llava, pixels, len(words))
        data = TowerData(cfg, pixels, words, side)
        return Task(module=tower, data=data, weights=torch.ones(1), processor=processor)
    templates = TemplateSet.from_json(storage.read_bytes(storage.join(cfg.output, "templates.json")).decode())
    encoder = build_encoder(cfg, llava.config, processor.tokenizer, templates)
    weights = torch.tensor([cfg.loss.w_instruction, cfg.loss.w_response])
    return Task(
        module=LanguageLoss(llava, pixels),
        data=LanguageData(cfg, encoder, pixels),
        weights=weights,
        processor=processor,
    )


def build_encoder(cfg: TrainConfig, config: Any, tokenizer: Any, templates: TemplateSet) -> Encoder:
    """The encoder of a config and a model's configuration."""
    patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    # CLIP puts a class token before its patches; "default" takes it away again.
    has_class_token = config.vision_config.model_type == "clip_vision_model"
    extra = int(has_class_token and config.vision_feature_select_strategy == "full")
    return Encoder(
        tokenizer=tokenizer,
        fmt=chat_format(cfg),
        image_token_id=config.image_token_id,
        tokens_per_image=patches + extra,
        # The connector stage has instructions that say nothing about the image (LLaVA): response only.
        mode=cfg.mode if cfg.stage == "finetune" else "vit",
        templates=templates,
        max_length=cfg.max_length,
        text_only_instructions=cfg.loss.instruction_loss_on_text_only,
    )


class Trainer:
    """One worker's run: ``train()`` goes to the last step, stores checkpoints on the way and the model at the end."""

    def __init__(self, cfg: TrainConfig, workers: Workers) -> None:
        torch.set_num_threads(cfg.threads)
        self.cfg, self.workers = cfg, workers
        self.task = build_task(cfg)
        self.steps = plan(cfg).steps
        bf16 = cfg.precision == "bf16" or (cfg.precision == "auto" and multiplies_bf16(workers.device))
        self.autocast = torch.autocast(workers.device.type, torch.bfloat16, enabled=bf16)
        self.llava = self.task.module.model
        if bf16 and workers.device.type == "cpu":
            model.use_explicit_attention(self.llava)
        head = self.task.module.head.parameters() if isinstance(self.task.module, TowerLoss) else ()
        self.optimizer = optim.build(self.llava, cfg, list(head))
        self.state, self.log = RunState(), []
        self._resume()
        self.wrapped = workers.wrap(self.task.module).train()
        self._clear_window()
        self._flushed = 0.0

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.task.module.named_parameters() if p.requires_grad}

    def _resume(self) -> None:
        self.log: list[str] = []
        found = checkpoint.load(self.cfg.output)
        if found is None:
            return
        self.state, weights, self.log = found
        with torch.no_grad():
            for name, parameter in self._trained().items():
                parameter.copy_(weights["model"][name])
        self.optimizer.load_state_dict(weights["optimizer"])

    def train(self) -> RunState:
        """Train to the end; returns the final state."""
        batches = self.task.data.steps(self.state.step, rank=self.workers.rank, world=self.workers.size)
        rows = self.cfg.global_batch
        label = f"train {self.cfg.stage if self.cfg.stage != 'finetune' else self.cfg.mode}"
        with Progress(self.steps * rows, "samples", label, done=self.state.step * rows) as progress:
            started = time.monotonic()
            for batch in prefetch(batches):
                if self.state.step >= self.steps:
                    break
                self._step(batch)
                if self.workers.first:
                    progress.advance(rows)
                last = self.state.step == self.steps
                if self.state.step % self.cfg.log_every == 0 or last:
                    note = self._log_line(time.monotonic() - started)
                    progress.advance(0, note)
                if self.state.step % self.cfg.checkpoint.every == 0 and not last:
                    self.save()
        return self.state

    def _step(self, batch: StepBatch) -> None:
        """Forward and backward over the microbatches, one optimizer step."""
        optim.set_rates(self.optimizer, optim.rate_factor(self.state.step, self.steps, self.cfg.optimizer))
        weights = self.task.weights
        counts = torch.from_numpy(np.stack([m.counts for m in batch.microbatches])).double()
        total = self.workers.sum(counts.sum(0))
        denominator = float((weights * total).sum())
        sums = torch.zeros(len(weights), dtype=torch.float64)
        for i, microbatch in enumerate(batch.microbatches):
            with self.workers.accumulate(self.wrapped, last=i + 1 == len(batch.microbatches)):
                with self.autocast:
                    parts = self.wrapped(microbatch)
                weighted = (parts * weights.to(parts.device)).sum()
                (weighted * self._scale(counts[i], denominator, len(counts))).backward()
            sums += parts.detach().double().cpu()
        self.grad_norm = nn.utils.clip_grad_norm_(list(self._trained().values()), self.cfg.optimizer.clip)
        # A step without a single learned token (all its rows rejected) has no gradient and must not move on momentum.
        if denominator > 0:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        self._account(batch, sums, counts.sum(0))

    def _scale(self, counts: Tensor, denominator: float, microbatches: int) -> float:
        """What a microbatch's weighted sum is multiplied by; workers average gradients, hence their number."""
        if self.cfg.loss.normalisation == "global_token_mean":
            return self.workers.size / denominator if denominator else 0.0
        own = float((self.task.weights * counts).sum())
        return 1.0 / (own * microbatches) if own else 0.0

    def _clear_window(self) -> None:
        parts = len(self.task.weights)
        self.window_sums = torch.zeros(2, parts, dtype=torch.float64)
        self.window_stats: dict[str, int] = {}
        self.window_rejects: list[Any] = []
        self.window_rows, self.window_started = 0, time.monotonic()
        self.grad_norm = torch.zeros(())

    def _account(self, batch: StepBatch, sums: Tensor, counts: Tensor) -> None:
        self.window_sums += torch.stack([sums, counts])
        self.window_rejects += batch.rejects
        self.window_rows += batch.rows
        for key, value in batch.stats.items():
            self.window_stats[key] = self.window_stats.get(key, 0) + value

    def _close_window(self) -> dict[str, Any]:
        """Add the window's sums over workers to the state; the numbers of one log line."""
        sums, counts = self.workers.sum(self.window_sums)
        gathered = self.workers.gather((self.window_stats, self.window_rejects))
        stats: dict[str, int] = {}
        for one, rejects in gathered:
            self.state.add_rejects(rejects)
            for key, value in one.items():
                stats[key] = stats.get(key, 0) + value
        self.state.used += stats.get("samples", 0)
        elapsed = time.monotonic() - self.window_started
        self.state.seconds += elapsed
        weighted = float((self.task.weights * counts).sum())
        line: dict[str, Any] = {
            "step": self.state.step,
            "epoch": round(self.state.step / self.task.data.order.batches_per_epoch, 4),
            "loss": float((self.task.weights * sums).sum()) / weighted if weighted else None,
        }
        for i, part in enumerate(self.task.module.parts):
            line[f"loss_{part}"] = float(sums[i] / counts[i]) if counts[i] else None
            line[f"tokens_{part}"] = int(counts[i])
        masked = {k.removeprefix("masked_"): v for k, v in stats.items() if k.startswith("masked_")}
        if tokens := stats.get("tokens", 0):
            line["tokens"] = tokens
            line["masked_share"] = {k: round(v / tokens, 4) for k, v in sorted(masked.items())}
            line["cut_off_tokens"] = stats.get("cut_off", 0)
        line |= {
            "lr": {f"group_{i}": g["lr"] for i, g in enumerate(self.optimizer.param_groups)},
            "grad_norm": round(float(self.grad_norm), 4),
            "samples_per_s": round(self.window_rows / elapsed, 2) if elapsed else None,
            "used": self.state.used,
            "rejected": self.state.rejected,
            "seconds": round(self.state.seconds, 2),
        }
        self._clear_window()
        return line

    def _log_line(self, elapsed: float) -> str:
        line = self._close_window()
        line = {
            k: round(v, 5) if isinstance(v, float) and k.startswith("loss") else v for k, v in line.items()
        }
        self.log.append(json.dumps(line))
        if self.workers.first and (elapsed - self._flushed > LOG_FLUSH_S or self.state.step == self.steps):
            self._flushed = elapsed
            self._write_log()
        parts = [
            f"{p[:5]} {line[f'loss_{p}']:.3f}"
            for p in self.task.module.parts
            if line[f"loss_{p}"] is not None
        ]
        return "  ".join(["loss", *parts])

    def _write_log(self) -> None:
        storage.write_bytes(
            storage.join(self.cfg.output, "log.jsonl"), "".join(f"{x}\n" for x in self.log).encode()
        )
        rejects = "".join(json.dumps(vars(reject)) + "\n" for reject in self.state.rejects.values())
        storage.write_bytes(storage.join(self.cfg.output, "rejects.jsonl"), rejects.encode())

    def save(self) -> None:
        """Store a checkpoint; the first worker writes, all wait for it at their next exchange."""
        if self.window_rows:
            self.log.append(json.dumps(self._close_window()))
        if self.workers.first:
            weights = {name: p.detach().cpu() for name, p in self._trained().items()}
            checkpoint.save(
                self.cfg.output,
                self.state,
                weights,
                self.optimizer.state_dict(),
                self.log,
                keep=self.cfg.checkpoint.keep,
            )

    def finish(self) -> dict[str, Any]:
        """Export the model and publish ``done.json``."""
        dtype = torch.float32 if self.cfg.export_dtype == "fp32" else torch.bfloat16
        self.save()
        self._write_log()
        with tempfile.TemporaryDirectory() as local:
            folder = Path(local)
            self.llava.set_attn_implementation("sdpa")
            export.save_model(self.llava, self.task.processor, folder, dtype=dtype)
            revision = export.weights_revision(folder)
            storage.upload_dir(folder, storage.join(self.cfg.output, "model"))
        done = {
            "weights_sha256": revision,
            "steps": self.state.step,
            "used": self.state.used,
            "rejected": self.state.rejected,
            "seconds": round(self.state.seconds, 1),
            "last": json.loads(self.log[-1]) if self.log else None,
        }
        storage.write_bytes(storage.join(self.cfg.output, "done.json"), json.dumps(done, indent=1).encode())
        return done


def run_worker(cfg: TrainConfig) -> dict[str, Any] | None:
    """Train in this process (as one of its process group, where there is one); the first worker's result."""
    workers = Workers.current(cfg.use_gpu)
    trainer = Trainer(cfg, workers)
    trainer.train()
    return trainer.finish() if workers.first else None
