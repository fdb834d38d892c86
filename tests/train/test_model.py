"""New models, their folders, the tower's targets and the schedule."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from cluster.errors import UserError
from cluster.revision import weights_revision
from tests.train.conftest import SHAPE, picture
from train.build import _freeze
from train.config import LearningRates, ModelShape, Optimizer, TrainConfig
from train.feed.pictures import Pictures
from train.models import model as models
from train.models.export import save_model
from train.models.families import FAMILIES
from train.models.tokenizer import NUMBERS, train_tokenizer
from train.optim import build, rate_factor
from train.tower import patch_targets


def test_numbers_and_words_are_single_tokens() -> None:
    texts = ["USER: <image>\nGive the box. ASSISTANT: [1, 17, 33, 64]</s>"] * 50
    tokenizer = train_tokenizer(texts, 600)
    for n in range(NUMBERS + 1):
        assert len(tokenizer(f" {n}")["input_ids"]) == 1, n
    assert tokenizer.convert_ids_to_tokens(tokenizer("Give the box.")["input_ids"]) == [
        "Give",
        "Ġthe",
        "Ġbox",
        ".",
    ]
    text = "odd Text, 漢 🙂\n  two  blanks"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folder_round_trip(small_model: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    model, processor = small_model
    save_model(model, processor, tmp_path, dtype=dtype)
    again, processor_again = models.load(str(tmp_path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.to(dtype).float()), name
    assert processor_again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert processor_again.chat_template == processor.chat_template
    assert not list(tmp_path.glob("*.bin"))
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert "vision_tower.vision_model.embeddings.patch_embedding.weight" in names
    assert not any(name.endswith("lm_head.weight") for name in names), "tied to the embedding"


def test_revision_names_the_weights(small_model: Any, tmp_path: Path) -> None:
    model, processor = small_model
    for name in ("a", "b"):
        save_model(model, processor, tmp_path / name)
    assert weights_revision(tmp_path / "a") == weights_revision(tmp_path / "b")
    with torch.no_grad():
        model.lm_head.weight[3, 3] += 1e-3
    save_model(model, processor, tmp_path / "b")
    assert weights_revision(tmp_path / "a") != weights_revision(tmp_path / "b")
    with pytest.raises(UserError, match=r"no \.safetensors"):
        weights_revision(tmp_path)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        models.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(UserError, match="'qwen2'"):
        models.load(str(tmp_path))


def test_features_are_those_of_transformers(small_model: Any) -> None:
    model, _ = small_model
    pixels = torch.randn(2, 3, 64, 64)
    theirs = torch.stack(list(model.get_image_features(pixels, vision_feature_layer=-1).pooler_output))
    assert torch.equal(torch.stack(models.image_features(model, {"pixel_values": pixels})), theirs)


@pytest.mark.parametrize("size", [(64, 64), (64, 40), (200, 90), (16, 16)])
def test_pixels_equal_the_processor(small_model: Any, size: tuple[int, int]) -> None:
    _, processor = small_model
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    pictures = Pictures(processor, FAMILIES["llava"])
    one = pictures.get("a", lambda: (buffer.getvalue(), size))
    other = pictures.get("b", lambda: (picture("red", 3), (64, 64)))
    mine = pictures.batch([one, other])["pixel_values"]
    theirs = processor.image_processor([Image.fromarray(noise)], return_tensors="pt")["pixel_values"]
    assert torch.allclose(mine[:1], theirs, atol=1e-6)


def test_pixels_forget_what_does_not_fit(small_model: Any) -> None:
    def get(pictures: Pictures, data: bytes) -> Any:
        return pictures.get("a", lambda: (data, (64, 64)))

    forgetful = Pictures(small_model[1], FAMILIES["llava"], cache_mb=0)
    first, second = (get(forgetful, picture(color, 3)) for color in ("red", "blue"))
    assert (first.arrays["pixel_values"] != second.arrays["pixel_values"]).any()
    kept = Pictures(small_model[1], FAMILIES["llava"], cache_mb=1)
    first = get(kept, picture("red", 3))
    assert get(kept, b"not looked at") is first


def test_frozen_modules_get_no_gradient(small_model: Any) -> None:
    model, _ = small_model
    models.freeze(model, LearningRates(vision_tower=0, connector=1e-3, language_model=0))
    names = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"multi_modal_projector"}
    models.freeze(model, LearningRates(vision_tower=1, connector=0, language_model=0))
    _freeze(model, models.unreached(model, models.probe(model, {"pixel_values": torch.ones(1, 3, 64, 64)})))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert not any("post_layernorm" in name for name in trained), "no feature depends on it"


def test_groups_have_their_own_rates(small_model: Any, make_config: Any) -> None:
    model, _ = small_model
    cfg: TrainConfig = make_config(
        lr={"vision_tower": 1e-4, "connector": 2e-3, "language_model": 3e-3}, optimizer={"weight_decay": 0.1}
    )
    models.freeze(model, cfg.lr)
    optimizer = build(model, cfg)
    assert {g["peak_lr"] for g in optimizer.param_groups} == {1e-4, 2e-3, 3e-3}
    assert all((g["weight_decay"] > 0) == (g["params"][0].dim() > 1) for g in optimizer.param_groups)
    listed = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert len(listed) == len(set(listed)) == sum(p.requires_grad for p in model.parameters())


def test_schedules() -> None:
    cosine = [rate_factor(s, 100, Optimizer(schedule="cosine", warmup_ratio=0.1)) for s in range(100)]
    assert cosine[0] == pytest.approx(0.1)
    assert cosine[9] == cosine[10] == pytest.approx(1.0)
    assert cosine[55] == pytest.approx(0.5)
    assert 0 < cosine[99] < 0.01
    flat = [rate_factor(s, 100, Optimizer(schedule="constant", warmup_ratio=0)) for s in range(100)]
    assert set(flat) == {1.0}
    wsd = Optimizer(schedule="wsd", warmup_ratio=0, decay_ratio=0.2, final_ratio=0.1)
    assert rate_factor(80, 100, wsd) == 1.0
    assert rate_factor(90, 100, wsd) == pytest.approx(0.55)


def test_patch_targets() -> None:
    index = {"blue": 0, "red": 1, "square": 2}
    objects = [
        {"name": "square", "attributes": ["red", "unheard-of"], "box": [17, 33, 31, 47]},
        {"name": "bar", "attributes": ["blue"], "box": [48, 0, 64, 64]},
        {"name": "square", "attributes": [], "box": [3, 3, 5, 5]},
    ]
    targets = patch_targets(objects, 64, 64, 4, index).reshape(4, 4, 3)
    assert np.argwhere(targets[..., 1]).tolist() == [[2, 1]]
    assert np.argwhere(targets[..., 0]).tolist() == [[row, 3] for row in range(4)]
    assert np.argwhere(targets[..., 2]).tolist() == [[0, 0], [2, 1]], "a small box counts where its centre is"
    doubled = [{**o, "box": [2 * v for v in o["box"]]} for o in objects]
    assert (patch_targets(doubled, 128, 128, 4, index).reshape(4, 4, 3) == targets).all()


def test_shape_of_a_new_model(tokenizer: Any) -> None:
    model, processor = models.build_starter(ModelShape.model_validate(SHAPE), tokenizer)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    batch = processor(
        images=[Image.new("RGB", (80, 30))], text="USER: <image>\nhi ASSISTANT:", return_tensors="pt"
    )
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 16
    assert model(**batch).logits.shape[-1] % 64 == 0


def test_layers_above_the_chosen_one_are_frozen(tokenizer: Any) -> None:
    """LLaVA-1.5 takes the layer before the last."""
    model, _ = models.build_starter(ModelShape.model_validate({**SHAPE, "vision_layers": 3}), tokenizer)
    model.config.vision_feature_layer = -2
    models.freeze(model, LearningRates(vision_tower=1, connector=1, language_model=1))
    blank = {"pixel_values": torch.randn(1, 3, 64, 64)}
    _freeze(model, models.unreached(model, models.probe(model, blank)))
    models.image_features(model, blank)[0].sum().backward()
    for name, parameter in model.model.vision_tower.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    assert not model.model.vision_tower.encoder.layers[2].mlp.fc1.weight.requires_grad
