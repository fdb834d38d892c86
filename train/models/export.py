"""A stored state to a Hugging Face folder that transformers and vLLM both load."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from cluster import storage
from cluster.errors import UserError
from cluster.revision import weights_revision
from train.build import build_model
from train.checkpoint import Entry, StoredState, entries
from train.config import TrainConfig
from train.mask.chattemplate import serve_as
from train.models.card import model_card
from train.prepare import chat_format

# It says where it saved, which is a temporary folder.
logging.getLogger("huggingface_hub.serialization").setLevel(logging.WARNING)
# Larger weights are split into files of this size, which hubs and loaders handle best.
_FILE_SIZE = "5GB"


def export(cfg: TrainConfig) -> tuple[str, Entry]:
    """Write ``<output>/model`` from the newest stored state, or from the best by held-out loss; returns the hash of
    its weights and the state.

    The model is loaded anew, the state's weights are put in, and adapters are merged: the same for one worker or many,
    sharded or not, and possible long after a run was killed.

    Raises:
        UserError: the run has no state.
    """
    entry = chosen(cfg)
    with tempfile.TemporaryDirectory() as local:
        model, processor, adapters = build_model(cfg, quantized=False)
        stored = StoredState(cfg.output, entry, Path(local) / "state")
        prefix = "model."  # the loss module holds the model under this name
        trained = {f"{prefix}{n}": p for n, p in model.named_parameters() if f"{prefix}{n}" in stored.names()}
        with torch.no_grad():
            for name, parameter in trained.items():
                value = stored.read("weight", name)
                assert value is not None
                parameter.copy_(value)
        if adapters is not None:
            adapters.save_pretrained(Path(local) / "adapter")
            storage.upload_dir(Path(local) / "adapter", storage.join(cfg.output, "adapter"))
            model = adapters.merge_and_unload()
        if cfg.chat != "auto" and (fmt := chat_format(cfg, processor)).keeps_instruction:
            serve_as(processor, fmt)
        folder = Path(local) / "model"
        save_model(
            model, processor, folder, dtype=torch.float32 if cfg.export_dtype == "fp32" else torch.bfloat16
        )
        (folder / "README.md").write_text(model_card(cfg, stored, entry))
        storage.upload_dir(folder, storage.join(cfg.output, "model"))
        return weights_revision(folder), entry


def chosen(cfg: TrainConfig) -> Entry:
    """The state that becomes the model."""
    states = entries(cfg.output)
    if not states:
        raise UserError(f"{cfg.output}: there is no checkpoint to export yet")
    measured = [e for e in states if e.holdout is not None]
    if cfg.checkpoint.export == "best" and measured:
        return min(measured, key=lambda e: (e.holdout, e.step))
    return states[-1]


def save_model(model: Any, processor: Any, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write config, weights (safetensors only), tokenizer and processor to ``folder``."""
    from huggingface_hub import save_torch_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    weights = {
        hub_name(name, model.config.model_type): tensor.detach().to("cpu", dtype).contiguous().clone()
        for name, tensor in model.state_dict().items()
        if name not in tied
    }
    text = model.config.get_text_config()
    if text.model_type == "phi" and "language_model.lm_head.weight" in weights:
        # transformers' LLaVA has no bias in its head; vLLM's Phi has one and leaves it as it finds the memory.
        weights["language_model.lm_head.bias"] = torch.zeros(text.vocab_size, dtype=dtype)
    save_torch_state_dict(weights, folder, max_shard_size=_FILE_SIZE, safe_serialization=True)
    model.config.dtype = dtype
    for part in (text, getattr(model.config, "vision_config", None)):
        if part is not None:
            part.dtype = dtype
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)


# transformers' parameter names to the hub's, by family; the first match counts. transformers 5.13 leaves out
# `vision_model` in the names of LLaVA towers, vLLM 0.29 wants it; transformers reads both spellings.
_LLAVA_NAMES = (
    (r"^model\.vision_tower\.vision_model\.", "vision_tower.vision_model."),
    (r"^model\.vision_tower\.", "vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
    (r"^model\.image_newline$", "image_newline"),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)
_QWEN_NAMES = ((r"^model\.visual\.", "visual."), (r"^model\.language_model\.", "model."))
HUB_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "llava": _LLAVA_NAMES,
    "llava_next": _LLAVA_NAMES,
    "llava_onevision": _LLAVA_NAMES,
    "qwen2_vl": _QWEN_NAMES,
    "qwen2_5_vl": _QWEN_NAMES,
}


def hub_name(name: str, model_type: str) -> str:
    """The hub's name of one of transformers' parameters."""
    for pattern, replacement in HUB_NAMES.get(model_type, ()):
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return name
