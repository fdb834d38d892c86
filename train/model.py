"""Models: build a new small LLaVA, load any LLaVA, and run it so that only learned positions reach the LM head."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cluster.errors import UserError
from train.config import LearningRates, ModelShape, Module
from train.tokenizer import IMAGE

if TYPE_CHECKING:
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )


def starter_config(shape: ModelShape, tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """Configuration of a new model.

    ``vision_feature_layer`` -1 is the last layer before the tower's final norm in transformers and in vLLM alike, so
    both give the same features and no layer is computed in vain; the final norm's weights exist and are never used.
    """
    from transformers import LlavaConfig, Qwen2Config, SiglipVisionConfig

    # Options that transformers takes from keyword arguments without naming them.
    without_head: dict[str, Any] = {"vision_use_head": False}
    ends: dict[str, Any] = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = SiglipVisionConfig(
        hidden_size=shape.vision_hidden,
        intermediate_size=shape.vision_intermediate,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        **without_head,
    )
    text = Qwen2Config(
        # Rounded up to a multiple of 64: both matrix kernels and vLLM's padded vocabulary like it.
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=shape.text_hidden,
        intermediate_size=shape.text_intermediate,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.text_kv_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["Qwen2ForCausalLM"],
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=int(tokenizer.vocab[IMAGE]),
        image_seq_length=(shape.image_size // shape.patch_size) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
        **ends,
    )


def build_starter(
    shape: ModelShape, tokenizer: PreTrainedTokenizerFast
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A new model with random weights, and its processor."""
    from transformers import LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    size = {"height": shape.image_size, "width": shape.image_size}
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer=tokenizer,
        patch_size=shape.patch_size,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    return LlavaForConditionalGeneration(starter_config(shape, tokenizer)), processor


def load(path: str) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Load a LLaVA folder or hub name in fp32.

    Raises:
        UserError: not a LLaVA model, or it cannot be read.
    """
    from transformers import AutoConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    if path.startswith(("/", ".")) and not (Path(path) / "config.json").is_file():
        raise UserError(
            f"model {path}: no config.json there; give a Hugging Face model folder (…/model of a run) or a hub name"
        )
    try:
        config = AutoConfig.from_pretrained(path)
        if config.model_type != "llava":
            raise UserError(f"model {path}: model_type is {config.model_type!r}; the trainer handles 'llava'")
        if not isinstance(config.vision_feature_layer, int):
            raise UserError(
                f"model {path}: takes features from several tower layers; the trainer handles one"
            )
        # The PIL backend gives the same pixels on every machine, whatever torchvision is there.
        processor = LlavaProcessor.from_pretrained(path, backend="pil")
        return LlavaForConditionalGeneration.from_pretrained(path, dtype=torch.float32), processor
    except (OSError, ValueError) as error:
        raise UserError(f"model {path}: cannot be loaded: {error}") from error


def modules(model: LlavaForConditionalGeneration) -> dict[Module, torch.nn.Module]:
    """The three parts that have learning rates of their own; the (possibly tied) LM head is in the language model."""
    llava = model.model
    return {
        "vision_tower": llava.vision_tower,
        "connector": llava.multi_modal_projector,
        "language_model": torch.nn.ModuleList([llava.language_model, model.lm_head]),
    }


def freeze(model: LlavaForConditionalGeneration, lr: LearningRates) -> None:
    """Modules with rate 0 get no gradients; nor do tower weights that no feature depends on, which a group of workers
    would wait for: the layers above the chosen one, the final norm, the pooling head."""
    for name, module in modules(model).items():
        module.requires_grad_(getattr(lr, name) > 0)
    config: Any = model.config
    chosen = config.vision_feature_layer
    used = chosen if chosen >= 0 else config.vision_config.num_hidden_layers + 1 + chosen
    for name, parameter in model.model.vision_tower.named_parameters():
        layer = re.search(r"encoder\.layers\.(\d+)\.", name)
        above = layer is not None and int(layer[1]) >= used
        if above or re.match(r"(vision_model\.)?(post_layernorm|head)\.", name):
            parameter.requires_grad_(False)


def image_features(model: LlavaForConditionalGeneration, pixels: Tensor, *, project: bool = True) -> Tensor:
    """Features [images, tokens, hidden] for the language model, or the tower's own with ``project=False``."""
    config, llava = model.config, model.model
    hidden = llava.vision_tower(pixels, output_hidden_states=True).hidden_states[config.vision_feature_layer]
    if config.vision_feature_select_strategy == "default":
        hidden = hidden[:, 1:]
    return llava.multi_modal_projector(hidden) if project else hidden


def hidden_states(model: LlavaForConditionalGeneration, ids: Tensor, pixels: Tensor | None) -> Tensor:
    """Last hidden states [rows, tokens, hidden].

    Args:
        ids: [rows, tokens], padded on the right. A causal model never looks to the right, so no mask is needed.
        pixels: [images, 3, height, width] in the order of their placeholders, or None.
    """
    language = model.model.language_model
    embeddings = language.embed_tokens(ids)
    if pixels is not None:
        features = image_features(model, pixels)
        # Written at the placeholders' positions: a tenth of masked_scatter's time, and a mismatch is an error.
        rows, columns = (ids == model.config.image_token_id).nonzero(as_tuple=True)
        embeddings = embeddings.to(features.dtype)
        embeddings = embeddings.index_put((rows, columns), features.flatten(0, 1))
    return language(inputs_embeds=embeddings, use_cache=False).last_hidden_state


def explicit_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention as two matrix products, for short sequences in bf16 on CPUs.

    torch's fused CPU kernel has a bf16 backward that takes ten times as long as fp32's (15 ms against 1.8 ms at 32
    rows, 6 heads, 40 tokens), which eats all that bf16 matrix products gain. Autocast would make the softmax fp32 and
    the whole twice as slow at 100 tokens; inside, the kernel adds up in fp32 either way.
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    causal = options.get("is_causal")
    with torch.autocast(query.device.type, enabled=False):
        scores = (query.to(value.dtype) * options["scaling"]) @ key.to(value.dtype).transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        elif getattr(module, "is_causal", False) if causal is None else causal:
            tokens = scores.shape[-1]
            scores = scores + torch.full((tokens, tokens), float("-inf"), dtype=scores.dtype).triu(1)
        output = scores.softmax(-1) @ value
    return output.transpose(1, 2).contiguous(), None


def use_explicit_attention(model: LlavaForConditionalGeneration) -> None:
    """Switch a model to :func:`explicit_attention` (nothing of it is stored with the weights)."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register("explicit", explicit_attention)
    AttentionMaskInterface.register("explicit", sdpa_mask)
    model.set_attn_implementation("explicit")
