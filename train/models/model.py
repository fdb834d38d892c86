"""Models: build a new small LLaVA, load any of the families, and run one up to its last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cluster.errors import UserError
from train.config import LearningRates, ModelShape
from train.feed.batch import LanguageMicrobatch
from train.models.attention import Spans
from train.models.families import family_of, language_model, parameters_by_module
from train.models.tokenizer import IMAGE

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


def load(path: str, *, quantization: str = "none", empty: bool = False) -> tuple[Any, Any]:
    """Load a model folder or hub name in fp32, with its processor.

    Args:
        quantization: ``nf4`` keeps the language model's linear layers in 4 bits, by bitsandbytes.
        empty: no weights and no memory for them (torch's meta device): another worker has them.

    Raises:
        UserError: not a model of a known family, or it cannot be read.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    if path.startswith(("/", ".")) and not (Path(path) / "config.json").is_file():
        raise UserError(
            f"model {path}: no config.json there; give a Hugging Face model folder (…/model of a run) or a hub name"
        )
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
    try:
        config = AutoConfig.from_pretrained(path)
        family = family_of(config)
        if quantization == "nf4":
            options |= _four_bits(family.tower, family.connector)
        if empty:
            with torch.device("meta"):
                return AutoModelForImageTextToText.from_config(config), load_processor(path)
        return AutoModelForImageTextToText.from_pretrained(path, **options), load_processor(path)
    except UserError as error:
        raise UserError(f"model {path}: {error}") from error
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model {path}: cannot be loaded: {error}") from error


def load_processor(path: str) -> Any:
    """A folder's processor, with pictures prepared by PIL: the same pixels on every machine, whatever torchvision is
    there. (Processors that also know videos do not take ``backend`` themselves.)"""
    from transformers import AutoImageProcessor, AutoProcessor

    processor = AutoProcessor.from_pretrained(path)
    processor.image_processor = AutoImageProcessor.from_pretrained(path, backend="pil")
    return processor


def _four_bits(tower: str, connector: tuple[str, ...]) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    kept = [f"model.{tower}", *("model." + name.rstrip(".") for name in connector), "lm_head"]
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
            llm_int8_skip_modules=kept,
        )
    }


def freeze(model: Any, lr: LearningRates) -> None:
    """Modules with rate 0 get no gradients."""
    for name, parameters in parameters_by_module(model).items():
        for parameter in parameters.values():
            # Quantised weights are integers.
            if parameter.is_floating_point():
                parameter.requires_grad_(getattr(lr, name) > 0)


def unreached(model: Any, outputs: Sequence[Tensor]) -> list[str]:
    """Trained parameters that no output depends on (a tower's layers above the one that is read, its pooling head): to
    be frozen, because a group of workers would wait for their gradients. Found by walking the graph, so it holds for
    any family."""
    reached: set[int] = set()
    seen: set[Any] = set()
    stack: list[Any] = [output.grad_fn for output in outputs]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        stack += [parent for parent, _ in node.next_functions]
    return [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in reached]


def probe(model: Any, blank: dict[str, Tensor]) -> list[Tensor]:
    """What every loss is computed from: logits of two tokens, and features of a blank picture."""
    embeddings = model.get_input_embeddings()(torch.zeros(1, 2, dtype=torch.long, device=model.device))
    hidden = language_model(model)(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    on_device = {name: value.to(model.device) for name, value in blank.items()}
    return [model.lm_head(hidden), *image_features(model, on_device)]


def image_features(model: Any, pictures: dict[str, Tensor]) -> list[Tensor]:
    """What the language model reads of each picture: [tokens, hidden] (or [tiles, tokens, hidden])."""
    return list(model.model.get_image_features(**pictures).pooler_output)


def hidden_states(model: Any, batch: LanguageMicrobatch, stand_in: dict[str, Tensor] | None = None) -> Tensor:
    """Last hidden states [rows, tokens, hidden] of a batch on the model's device.

    Args:
        stand_in: a picture that a batch without pictures is made to look at, in vain: workers meet in the tower (FSDP
            gathers its weights layer by layer, DDP waits for its gradients), so all must pass it at the same point.

    Padding stands on the right of a row and a causal model never looks there, so padded rows need no mask; the
    conversations of a packed row are kept apart by :func:`train.models.attention.packed_attention`.
    """
    embeddings = model.get_input_embeddings()(batch.ids)
    if batch.pictures:
        features = torch.cat([one.flatten(0, -2) for one in image_features(model, batch.pictures)])
        # Written at the placeholders' positions: a tenth of masked_scatter's time, and a mismatch is an error.
        rows, columns = (batch.ids == model.config.image_token_id).nonzero(as_tuple=True)
        embeddings = embeddings.to(features.dtype).index_put((rows, columns), features)
    elif stand_in is not None:
        embeddings = embeddings + 0.0 * sum(one.sum() for one in image_features(model, stand_in))
    positions = batch.positions if batch.positions.shape[0] > 1 else batch.positions[0]
    options: dict[str, Any] = {}
    if batch.lengths:
        options["spans"] = Spans.of(batch.lengths, batch.ids.device)
    return language_model(model)(
        inputs_embeds=embeddings, position_ids=positions, use_cache=False, **options
    ).last_hidden_state
