"""The arithmetic of training: how much a step needs, and what share of the device's peak that is (MFU).

Model FLOPs as PaLM's appendix B counts them: products with weights and of attention, nothing that is computed twice
(checkpointing), padding not counted. A backward pass is two forward passes where weights are trained, one where
gradients only pass through, none below the lowest trained module.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from train.models.families import language_model, parameters_by_module, vision_tower

# Dense bf16 TFLOP/s of one device by a part of its name, from the vendors' data sheets.
PEAKS = {
    "H100 PCIe": 756, "H100": 989, "H200": 989, "H800": 989, "B200": 2250, "A100": 312, "A800": 312, "L40S": 362,
    "L40": 181, "L4": 121, "A10G": 70, "A10": 125, "RTX 4090": 165, "RTX 3090": 71, "V100": 125,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What one token or patch costs, in FLOPs, forward and backward.

    Attributes:
        token: per token of the language model without its head and without attention.
        square: per pair of tokens of one conversation (attention; causal, so half of the square is counted).
        learned: per position that goes through the LM head.
        patch: per patch of the tower, without attention (a few percent at the usual number of patches).
        image_token: per image token, in the connector.
        patch_values: values of ``pixel_values`` that make one patch.
        peak: FLOP/s of one device; None where unknown.
    """

    token: float
    square: float
    learned: float
    patch: float
    image_token: float
    patch_values: int
    peak: float | None

    def flops(self, stats: dict[str, int]) -> float:
        """Of the rows that ``stats`` sums over."""
        patches = stats.get("pixel_values", 0) / self.patch_values
        return (
            self.token * stats.get("tokens", 0)
            + self.square * stats.get("squares", 0) / 2
            + self.learned * stats.get("learned", 0)
            + self.patch * patches
            + self.image_token * stats.get("masked_image", 0)
        )

    def mfu(self, stats: dict[str, int], device_seconds: float) -> float | None:
        """Share of the peak that was used, None where the device is unknown."""
        if self.peak is None:
            return None
        return round(self.flops(stats) / device_seconds / self.peak, 4)


def arithmetic(model: Any, device: torch.device, peak_tflops: float | None) -> Arithmetic:
    """Count a model's arithmetic from its weights; call it before they are sharded."""
    modules = parameters_by_module(model)
    trains = {name: any(p.requires_grad for p in found.values()) for name, found in modules.items()}
    below = trains["connector"] or trains["vision_tower"]
    text: Any = model.config.get_text_config()
    language, tower = language_model(model), vision_tower(model)
    # Gradients pass through the language model where anything in or below it is trained.
    passes = 1 + int(trains["language_model"] or below)
    token = 2 * _products(language) * (passes + int(trains["language_model"]))
    width = text.num_attention_heads * (
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    )
    head = text.hidden_size * text.vocab_size
    head_trained = any(p.requires_grad for p in model.lm_head.parameters())
    vision: Any = model.config.vision_config
    connector = {id(parameter) for parameter in modules["connector"].values()}
    channels, temporal = 3, getattr(vision, "temporal_patch_size", 1)
    return Arithmetic(
        token=float(token),
        square=4.0 * text.num_hidden_layers * width * (1 + 2 * int(passes > 1)),
        learned=2.0 * head * (2 + int(head_trained)),
        patch=2.0 * (_products(tower) - _products(tower, connector)) * (3 if trains["vision_tower"] else 1),
        image_token=2.0
        * _products(model.model, connector)
        * (1 + int(trains["vision_tower"]) + int(trains["connector"])),
        patch_values=channels * temporal * vision.patch_size**2,
        peak=_peak(device, peak_tflops),
    )


def _products(module: nn.Module, among: Container[int] | None = None) -> int:
    """Weights of the module that a token is multiplied with: of linear layers and patch embeddings, not of look-up
    tables; with ``among`` only those whose parameter has one of these ids."""
    return sum(
        found.weight.numel()
        for found in module.modules()
        if isinstance(found, nn.Linear | nn.Conv2d | nn.Conv3d)
        and (among is None or id(found.weight) in among)
    )


def _peak(device: torch.device, given: float | None) -> float | None:
    if given is not None:
        return given * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((tflops * 1e12 for part, tflops in PEAKS.items() if part in name), None)
