"""Weights to a Hugging Face folder that transformers and vLLM both load, and the name of a folder's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor


def save_model(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write config, weights (safetensors only), tokenizer and processor to ``folder``.

    transformers 5.13 leaves out ``vision_model`` in the tower's weight names, vLLM 0.29 wants it; transformers reads
    both spellings, so the hub's is written.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        weights[hub_name(name)] = tensor.detach().to("cpu", dtype).contiguous().clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = dtype
    parts: list[Any] = [model.config.vision_config, model.config.text_config]
    for part in parts:
        part.dtype = dtype
    model.config.architectures = ["LlavaForConditionalGeneration"]
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)


def hub_name(name: str) -> str:
    """The hub's name of one of transformers' parameters."""
    for ours, theirs in (
        ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
        ("model.vision_tower.", "vision_tower.vision_model."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
