"""The loss and its gradient: equal to transformers' own, and the same however a batch is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from train.data import LanguageData
from train.labels import IGNORE, Reason
from train.loss import LanguageLoss
from train.model import use_explicit_attention
from train.pixels import Pixels
from train.task import build_encoder
from train.templates import TemplateSet


@pytest.fixture
def parts(make_config: Any, small_model: Any) -> Any:
    model, processor = small_model
    pixels = Pixels(processor)

    def make(**settings: Any) -> tuple[LanguageLoss, LanguageData]:
        cfg = make_config(**settings)
        encoder = build_encoder(cfg, model.config, processor.tokenizer, TemplateSet())
        return LanguageLoss(model, pixels).train(), LanguageData(cfg, encoder, pixels)

    return make


def gradients(
    module: LanguageLoss, data: LanguageData, step: int = 0
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(mean loss over all learned tokens of a step, its gradients)."""
    (batch,) = islice(data.steps(step), 1)
    module.zero_grad()
    count = sum(int(m.counts.sum()) for m in batch.microbatches)
    total = sum(module(m).sum() for m in batch.microbatches) / count
    total.backward()
    named = module.named_parameters()
    return total.detach(), {name: p.grad.clone() for name, p in named if p.grad is not None}


def test_equals_transformers_with_full_logits(parts: Any) -> None:
    module, data = parts(microbatch=8)
    (batch,) = islice(data.steps(0), 1)
    (micro,) = batch.microbatches
    loss, grads = gradients(module, data)
    labels = np.full(micro.ids.shape, IGNORE)
    labels.reshape(-1)[micro.at + 1] = micro.targets
    module.zero_grad()
    theirs = module.model(
        input_ids=torch.from_numpy(micro.ids),
        attention_mask=torch.from_numpy((micro.ids != data.pad_id).astype(np.int64)),
        pixel_values=data.pixels.batch(micro.pictures),
        labels=torch.from_numpy(labels),
    ).loss
    theirs.backward()
    assert torch.isclose(loss, theirs, rtol=1e-5)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(grads[name], parameter.grad, rtol=1e-3, atol=1e-6), name


def test_gradient_does_not_depend_on_microbatches(parts: Any) -> None:
    whole_loss, whole = gradients(*parts(microbatch=8))
    for size in (1, 3):
        loss, grads = gradients(*parts(microbatch=size))
        assert torch.isclose(loss, whole_loss, rtol=1e-5)
        for name, grad in whole.items():
            assert torch.allclose(grads[name], grad, rtol=1e-3, atol=1e-6), name


def test_parts_are_counted_apart(parts: Any) -> None:
    _, data = parts(mode="l2t")
    (batch,) = islice(data.steps(0), 1)
    counts = sum(m.counts for m in batch.microbatches)
    assert counts.min() > 0
    assert counts.sum() == batch.stats["learned"]
    _, vit = parts(mode="vit")
    (plain,) = islice(vit.steps(0), 1)
    assert sum(m.counts for m in plain.microbatches).tolist() == [0, counts[1]]
    assert Reason.INSTRUCTION.name.lower() in {k.removeprefix("masked_") for k in plain.stats}


def test_without_pictures_every_parameter_still_gets_a_gradient(parts: Any) -> None:
    module, data = parts()
    (batch,) = islice(data.steps(0), 1)
    micro = batch.microbatches[0]
    blind = replace(micro, ids=np.where(micro.ids == data.encoder.image_token_id, 5, micro.ids), pictures=[])
    module.zero_grad()
    module(blind).sum().backward()
    tower = module.model.model.vision_tower.embeddings.patch_embedding.weight
    assert tower.grad is not None
    assert (tower.grad == 0).all()


def test_explicit_attention_equals_the_fused(parts: Any, small_model: Any) -> None:
    module, data = parts()
    expected, grads = gradients(module, data)
    model, _ = small_model
    use_explicit_attention(model)
    loss, again = gradients(module, data)
    assert torch.isclose(loss, expected, rtol=1e-5)
    for name, grad in grads.items():
        assert torch.allclose(again[name], grad, rtol=1e-3, atol=1e-6), name
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = gradients(module, data)
    assert torch.isclose(rough, expected, rtol=0.05)
