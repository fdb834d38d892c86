"""Tiny random models of every family that the trainer knows: transformers' own classes, real processors, tokenizers
trained here. Nothing is read from outside.

``build(name)`` gives ``(model, processor)``, always the same weights for a name, in fp32 and eval mode. Pictures of
any size cost tens of tokens. Heads are 32 wide, which vLLM's CPU attention accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from tests.train.chat_tokenizers import (
    MISTRAL,
    VICUNA,
    idefics_tokenizer,
    llama_tokenizer,
    onevision_tokenizer,
    qwen_tokenizer,
    tinyllava_tokenizer,
)

HEAD = 32  # width of a head, in towers and language models alike
PATCH = 8
GRID = [[24, 48], [48, 24], [48, 48]]


def _text(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """Settings of a language model of two layers and two heads."""
    # The vocabulary is longer than the tokenizer's, as most checkpoints' are.
    return {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "hidden_size": 2 * HEAD,
        "intermediate_size": 3 * HEAD,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    } | settings


def _tower(side: int, **settings: Any) -> dict[str, Any]:
    """Settings of a tower of three layers (the last is not used where features come from layer -2)."""
    return {
        "hidden_size": 2 * HEAD,
        "intermediate_size": 3 * HEAD,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": PATCH,
    } | settings


def _clip_processor(side: int, kind: Any, **settings: Any) -> Any:
    return kind(size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **settings)


def _llava() -> tuple[Any, Any]:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = llama_tokenizer(VICUNA)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_tower(32)),
        text_config=LlamaConfig(**_text(tokenizer, architectures=["LlamaForCausalLM"])),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(32 // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        **_ends(tokenizer),
    )
    processor = _llava_processor(tokenizer, _clip_processor(32, CLIPImageProcessorPil), "default", 1)
    return LlavaForConditionalGeneration(config), processor


def _llava_processor(tokenizer: Any, image_processor: Any, select: str, additional: int) -> Any:
    from transformers import LlavaProcessor

    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy=select,
        num_additional_image_tokens=additional,
        chat_template=tokenizer.chat_template,
    )


def _ends(tokenizer: Any) -> dict[str, Any]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def _tinyllava(text: Callable[[Any], Any], *, qwen: bool) -> tuple[Any, Any]:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = tinyllava_tokenizer(qwen=qwen)
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**_tower(32), **cast(Any, {"vision_use_head": False})),
        text_config=text(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(32 // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="full",
        tie_word_embeddings=qwen,
        **_ends(tokenizer),
    )
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return LlavaForConditionalGeneration(config), _llava_processor(tokenizer, images, "full", 0)


def _tinyllava_qwen2() -> tuple[Any, Any]:
    from transformers import Qwen2Config

    return _tinyllava(
        lambda tokenizer: Qwen2Config(
            **_text(tokenizer, tie_word_embeddings=True, architectures=["Qwen2ForCausalLM"])
        ),
        qwen=True,
    )


def _tinyllava_phi() -> tuple[Any, Any]:
    from transformers import PhiConfig

    return _tinyllava(
        lambda tokenizer: PhiConfig(
            **_text(
                tokenizer,
                num_key_value_heads=2,
                intermediate_size=8 * HEAD,  # vLLM takes four times the hidden size, whatever the config says
                partial_rotary_factor=0.5,
                tie_word_embeddings=False,
                architectures=["PhiForCausalLM"],
            )
        ),
        qwen=False,
    )


def _llava_next() -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextProcessor,
        MistralConfig,
    )
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    tokenizer = llama_tokenizer(MISTRAL)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**_tower(24)),
        text_config=MistralConfig(
            **_text(tokenizer, sliding_window=None, head_dim=HEAD, architectures=["MistralForCausalLM"])
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=GRID,
        image_seq_length=(24 // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        **_ends(tokenizer),
    )
    processor = LlavaNextProcessor(
        image_processor=_clip_processor(24, LlavaNextImageProcessorPil, image_grid_pinpoints=GRID),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    return LlavaNextForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any]:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    tokenizer = onevision_tokenizer()
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_tower(24), **cast(Any, {"vision_use_head": False})),
        text_config=Qwen2Config(
            **_text(tokenizer, tie_word_embeddings=True, architectures=["Qwen2ForCausalLM"])
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        tie_word_embeddings=True,
        **_ends(tokenizer),
    )
    size = {"height": 24, "width": 24}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=GRID),
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        tokenizer=tokenizer,
        num_image_tokens=(24 // PATCH) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=tokenizer.chat_template,
    )
    return LlavaOnevisionForConditionalGeneration(config), processor


def _qwen_processor(kind: Any, tokenizer: Any) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    # A token is 16 x 16 pixels; every picture becomes 4 to 36 of them.
    size = {"shortest_edge": 4 * 256, "longest_edge": 36 * 256}
    grid = {"patch_size": PATCH, "temporal_patch_size": 2, "merge_size": 2}
    return kind(
        image_processor=Qwen2VLImageProcessorPil(size=size, **grid),
        video_processor=Qwen2VLVideoProcessor(size=size, **grid),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def _qwen_ids(tokenizer: Any) -> dict[str, Any]:
    names = ("vision_start", "vision_end", "image_pad", "video_pad")
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    return {
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
    }


# Half a head's width, split over time, height and width.
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}


def _qwen2_vl() -> tuple[Any, Any]:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig

    tokenizer = qwen_tokenizer()
    config = Qwen2VLConfig(
        vision_config=Qwen2VLVisionConfig(
            depth=2, embed_dim=2 * HEAD, hidden_size=2 * HEAD, num_heads=2, mlp_ratio=2, patch_size=PATCH
        ),
        text_config=Qwen2VLTextConfig(
            **_text(tokenizer, tie_word_embeddings=True, rope_parameters=dict(MROPE))
        ),
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    return Qwen2VLForConditionalGeneration(config), _qwen_processor(Qwen2VLProcessor, tokenizer)


def _qwen2_5_vl() -> tuple[Any, Any]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
        Qwen2_5_VLTextConfig,
        Qwen2_5_VLVisionConfig,
    )

    tokenizer = qwen_tokenizer()
    config = Qwen2_5_VLConfig(
        vision_config=Qwen2_5_VLVisionConfig(
            depth=2,
            hidden_size=2 * HEAD,
            intermediate_size=3 * HEAD,
            out_hidden_size=2 * HEAD,
            num_heads=2,
            patch_size=PATCH,
            window_size=4 * PATCH,  # windows of two tokens a side, so that they are not the whole picture
            fullatt_block_indexes=[1],
        ),
        text_config=Qwen2_5_VLTextConfig(
            **_text(tokenizer, tie_word_embeddings=False, rope_parameters=dict(MROPE))
        ),
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )
    return Qwen2_5_VLForConditionalGeneration(config), _qwen_processor(Qwen2_5_VLProcessor, tokenizer)


# Pictures are 64 pixels on the longer side, cut into tiles of 32: 4 tiles and the whole, of 4 tokens each.
_TILES: dict[str, Any] = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
_TILE_TOKENS = (32 // PATCH) ** 2 // 4


def _idefics3() -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = idefics_tokenizer("<|begin_of_text|>", "<|pad|>")
    config = Idefics3Config(
        vision_config=Idefics3VisionConfig(**_tower(32)),
        text_config=LlamaConfig(
            **_text(tokenizer, tie_word_embeddings=False, architectures=["LlamaForCausalLM"])
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
        **_ends(tokenizer),
    )
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(**_TILES),
        tokenizer=tokenizer,
        image_seq_len=_TILE_TOKENS,
        chat_template=tokenizer.chat_template,
    )
    return Idefics3ForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    from transformers import (
        LlamaConfig,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMProcessor,
    )
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    tokenizer = idefics_tokenizer("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    config = SmolVLMConfig(
        vision_config=SmolVLMVisionConfig(**_tower(32)),
        text_config=LlamaConfig(
            **_text(tokenizer, tie_word_embeddings=True, architectures=["LlamaForCausalLM"])
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
        **_ends(tokenizer),
    )
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessorPil(**_TILES),
        video_processor=SmolVLMVideoProcessor(
            size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, num_frames=2
        ),
        tokenizer=tokenizer,
        image_seq_len=_TILE_TOKENS,
        chat_template=tokenizer.chat_template,
    )
    return SmolVLMForConditionalGeneration(config), processor


_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "tinyllava": _tinyllava_qwen2,
    "tinyllava_phi": _tinyllava_phi,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
}
NAMES = tuple(_BUILDERS)


def build(name: str, folder: Path | None = None) -> tuple[Any, Any]:
    """``(model, processor)`` of a family; with ``folder`` also saved there by transformers' own ``save_pretrained``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NAMES.index(name))
        model, processor = _BUILDERS[name]()
        # Large enough that answers depend on the picture; biases and norms off 0 and 1, so that a lost weight shows.
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    parameter.mul_(4 if "embed" in path or "lm_head" in path else 7)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    if folder is not None:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return model.eval(), processor


def prompt(processor: Any, question: str, images: int = 1) -> str:
    """A user's turn of ``images`` pictures and a question, ready to be answered."""
    content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
