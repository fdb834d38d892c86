"""A LLaVA from two checkpoints keeps both to the bit, and what cannot be one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cluster.errors import UserError
from tests.train import chat_tokenizers
from train.models.assemble import assemble

SIDE, PATCH = 32, 8
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
TOWER = SIZES | {"image_size": SIDE, "patch_size": PATCH}
LANGUAGE = SIZES | {"num_key_value_heads": 2, "max_position_embeddings": 512}


def _save_tower(folder: Path, kind: str) -> Path:
    from transformers import (
        CLIPConfig,
        CLIPModel,
        CLIPVisionConfig,
        CLIPVisionModel,
        SiglipConfig,
        SiglipModel,
        SiglipVisionConfig,
        SiglipVisionModel,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(1)
    text = {**SIZES, "vocab_size": 50, "max_position_embeddings": 16}
    model: Any = {
        "clip": lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=TOWER)),
        "clip_vision_model": lambda: CLIPVisionModel(CLIPVisionConfig(**TOWER)),
        "siglip": lambda: SiglipModel(SiglipConfig(text_config=text, vision_config=TOWER)),
        "siglip_vision_model": lambda: SiglipVisionModel(SiglipVisionConfig(**TOWER)),
    }[kind]()
    model.save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    if kind.startswith("clip"):
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    else:
        SiglipImageProcessorPil(size=square).save_pretrained(folder)
    return folder


def _save_language(
    folder: Path, kind: str, *, vocabulary: int | None = None, chat: str | None = None
) -> Path:
    """``vocabulary``: rows of the embedding; None for as many as the tokenizer has tokens."""
    from transformers import (
        Gemma2Config,
        Gemma2ForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
        PhiConfig,
        PhiForCausalLM,
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    tokenizer = chat_tokenizers.qwen_tokenizer()
    if kind == "llama":
        (folder.parent / "bare.json").write_text(chat_tokenizers.sentencepiece(()))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder.parent / "bare.json"), eos_token="</s>", bos_token="<s>"
        )
    tokenizer.chat_template = chat
    rows = vocabulary or len(tokenizer)
    settings = LANGUAGE | {"vocab_size": rows, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    torch.manual_seed(2)
    model: Any = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**settings)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**settings, tie_word_embeddings=True)),
        "phi": lambda: PhiForCausalLM(PhiConfig(**settings)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**settings, final_logit_softcapping=0.1)),
    }[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tower", ["clip", "clip_vision_model", "siglip", "siglip_vision_model"])
@pytest.mark.parametrize("language", ["qwen2", "llama"])
def test_both_parts_stay_what_they_were(tower: str, language: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel, SiglipVisionModel

    vision, text = _save_tower(tmp_path / "tower", tower), _save_language(tmp_path / "lm", language)
    model, processor = assemble(str(vision), str(text))

    alone = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32).eval()
    sentence = "Where is the square? It is in row 1."
    ids = AutoTokenizer.from_pretrained(text)(sentence, return_tensors="pt")["input_ids"]
    assert torch.equal(processor.tokenizer(sentence, return_tensors="pt")["input_ids"], ids)
    with torch.no_grad():
        found, wanted = model(input_ids=ids).logits, alone(ids).logits
    if found.shape == wanted.shape:
        assert torch.equal(found, wanted)
    else:  # a product with a matrix of more rows is rounded otherwise
        torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted)

    kind = CLIPVisionModel if tower.startswith("clip") else SiglipVisionModel
    alone_tower = kind.from_pretrained(vision, dtype=torch.float32).eval()
    pixels = processor.image_processor(images=_picture(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        hidden = alone_tower(pixels, output_hidden_states=True).hidden_states[-2]
        wanted = model.model.multi_modal_projector(hidden[:, 1:] if tower.startswith("clip") else hidden)
        found = model.model.get_image_features(pixel_values=pixels).pooler_output[0]
    assert torch.equal(found, wanted[0])
    assert not any("head" in name for name, _ in model.model.vision_tower.named_parameters())


@pytest.mark.parametrize("tower", ["clip", "siglip"])
@pytest.mark.parametrize("select", [None, "default", "full"])
def test_pictures_get_as_many_tokens_as_they_have_features(tower: str, select: Any, tmp_path: Path) -> None:
    vision, text = _save_tower(tmp_path / "tower", tower), _save_language(tmp_path / "lm", "qwen2")
    model, processor = assemble(str(vision), str(text), select=select)
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        add_generation_prompt=True,
    )
    batch = processor(text=[prompt] * 2, images=[_picture(), _picture((200, 40))], return_tensors="pt")
    tokens = (batch["input_ids"] == model.config.image_token_id).sum().item() // 2
    assert tokens == model.config.image_seq_length
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()


def test_a_saved_one_is_the_same_when_loaded(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    vision = _save_tower(tmp_path / "tower", "siglip")
    model, processor = assemble(str(vision), str(_save_language(tmp_path / "lm", "qwen2")), seed=5)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    again = AutoProcessor.from_pretrained(tmp_path / "model", backend="pil")
    picture = _picture()
    batches = [
        p(text="USER: <image>\nWhat? ASSISTANT:", images=picture, return_tensors="pt")
        for p in (processor, again)
    ]
    with torch.no_grad():
        assert torch.equal(model(**batches[0]).logits, loaded(**batches[1]).logits)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight, "tied embeddings stay tied"


def test_the_placeholder_gets_a_row_only_where_there_is_none(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    vision = str(_save_tower(tmp_path / "tower", "clip"))
    spare = _save_language(tmp_path / "spare", "qwen2", vocabulary=640)
    model, processor = assemble(vision, str(spare))
    assert model.get_input_embeddings().weight.shape[0] == 640
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == model.config.image_token_id < 640

    full = _save_language(tmp_path / "full", "llama")
    before = AutoModelForCausalLM.from_pretrained(full, dtype=torch.float32)
    rows = before.config.vocab_size
    model, processor = assemble(vision, str(full))
    assert len(processor.tokenizer) == rows + 2, "the placeholder and a padding token"
    for find in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, find)().weight, getattr(model, find)().weight
        assert new.shape[0] % 64 == 0 and torch.equal(new[:rows], old)
        torch.testing.assert_close(new[rows:], old.mean(0).expand(len(new) - rows, -1))


def test_same_seed_same_connector(tmp_path: Path) -> None:
    vision, text = str(_save_tower(tmp_path / "tower", "clip")), str(_save_language(tmp_path / "lm", "qwen2"))
    first, second, other = (
        assemble(vision, text, seed=seed)[0].model.multi_modal_projector.linear_1.weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_chat_template(tmp_path: Path) -> None:
    vision = str(_save_tower(tmp_path / "tower", "clip"))
    talk = [
        {"role": "user", "content": [{"type": "text", "text": "Hi?"}, {"type": "image"}]},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "More"},
    ]
    processor = assemble(vision, str(_save_language(tmp_path / "lm", "qwen2")))[1]
    assert processor.apply_chat_template(talk, add_generation_prompt=True) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. "
        "USER: <image>\nHi? ASSISTANT: Ho<|im_end|>USER: More ASSISTANT:"
    )
    system = [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, *talk]
    assert processor.apply_chat_template(system).startswith("Be kind. USER: <image>\nHi?")

    own = _save_language(tmp_path / "own", "qwen2", chat="{{ messages[0]['role'] }}")
    assert assemble(vision, str(own))[1].chat_template == "{{ messages[0]['role'] }}"


def test_a_head_with_a_bias_is_dropped_only_when_asked(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    vision, phi = str(_save_tower(tmp_path / "tower", "siglip")), _save_language(tmp_path / "lm", "phi")
    with pytest.raises(UserError, match="head has a bias"):
        assemble(vision, str(phi))
    model, _ = assemble(vision, str(phi), drop_head_bias=True)
    alone = AutoModelForCausalLM.from_pretrained(phi, dtype=torch.float32).eval()
    ids = torch.arange(9)[None]
    with torch.no_grad():
        wanted = alone(ids).logits - alone.lm_head.bias
        torch.testing.assert_close(model(input_ids=ids).logits[..., : wanted.shape[-1]], wanted)


def _without(folder: Path, name: str) -> Path:
    (folder / name).unlink()
    return folder


def _other_size(folder: Path) -> Path:
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["size"] = {"height": 40, "width": 40}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, lm: (lm, lm, {}), "model_type is 'qwen2'"),
        (lambda t, lm: (t, t, {}), "cannot be read|not built|cannot be loaded"),
        (lambda t, lm: (_without(t, "preprocessor_config.json"), lm, {}), "image processor cannot be read"),
        (lambda t, lm: (_other_size(t), lm, {}), "the tower wants 32 x 32"),
        (lambda t, lm: (t, lm, {"feature_layer": 4}), "has 3 layers"),
        (lambda t, lm: (t, lm, {"connector": "linear"}), "linear cannot be exported"),
        (lambda t, lm: (t / "no", lm, {}), "there is no model folder"),
        (lambda t, lm: (t, _save_language(lm.parent / "g", "gemma2"), {}), "answers otherwise"),
    ],
)
def test_what_is_refused(
    spoil: Callable[[Path, Path], tuple[Path, Path, dict[str, Any]]], message: str, tmp_path: Path
) -> None:
    tower, lm = _save_tower(tmp_path / "tower", "siglip"), _save_language(tmp_path / "lm", "qwen2")
    vision, language, options = spoil(tower, lm)
    with pytest.raises(UserError, match=message):
        assemble(str(vision), str(language), **options)


def _picture(size: tuple[int, int] = (90, 60)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")
