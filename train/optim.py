"""AdamW with a rate per module, and the rate over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from train.config import Optimizer, TrainConfig
from train.models.families import parameters_by_module


def build(model: Any, cfg: TrainConfig, extra: Sequence[nn.Parameter] = ()) -> torch.optim.AdamW:
    """Groups by module, and within it by weight decay: matrices decay, vectors (norms, biases) do not.

    Args:
        extra: parameters outside of the model (the tower stage's head); they train at the tower's rate.
    """
    groups = []
    members = {name: list(found.values()) for name, found in parameters_by_module(model).items()}
    members["vision_tower"] += extra
    for name, parameters in members.items():
        lr = getattr(cfg.lr, name)
        trained = [p for p in parameters if p.requires_grad]
        for decay, chosen in (
            (cfg.optimizer.weight_decay, [p for p in trained if p.dim() > 1]),
            (0.0, [p for p in trained if p.dim() <= 1]),
        ):
            if chosen:
                groups.append(
                    {"params": chosen, "lr": lr, "peak_lr": lr, "weight_decay": decay, "module": name}
                )
    return torch.optim.AdamW(groups, betas=cfg.optimizer.betas, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group at ``factor`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The rate of each module that is trained."""
    return {str(group["module"]): float(group["lr"]) for group in optimizer.param_groups}


def rate_factor(step: int, steps: int, cfg: Optimizer) -> float:
    """Share of the peak rate at ``step`` (from 0) of ``steps``: linear warm-up, then the schedule."""
    warmup = math.ceil(cfg.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    if cfg.schedule == "constant":
        return 1.0
    if cfg.schedule == "wsd":
        begin = steps - math.ceil(cfg.decay_ratio * steps)
        progress = max(0.0, (step - begin) / max(1, steps - begin))
        return 1.0 - progress * (1.0 - cfg.final_ratio)
    progress = (step - warmup) / max(1, steps - warmup)
    return cfg.final_ratio + (1.0 - cfg.final_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))
