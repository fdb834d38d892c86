"""The arithmetic of a step against torch's own counter of operations."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.train.families import build
from tests.train.test_families import settings
from train.build import language_data
from train.config import LearningRates
from train.flops import arithmetic
from train.loss import LanguageLoss
from train.mask.templates import TemplateSet
from train.models.model import freeze

ALL = {"vision_tower": 1e-3, "connector": 1e-3, "language_model": 1e-3}


@pytest.mark.parametrize("name", ["tinyllava", "llava_next", "qwen2_vl"])
@pytest.mark.parametrize(
    "rates", [ALL, ALL | {"vision_tower": 0}, ALL | {"vision_tower": 0, "language_model": 0}]
)
def test_flops_are_those_that_torch_counts(world: Any, tmp_path: Path, name: str, rates: Any) -> None:
    """Within a tenth: attention inside the tower is left out."""
    model, processor = build(name)
    freeze(model, LearningRates(**rates))
    data = language_data(settings(world, tmp_path, mode="l2t_all"), model.config, processor, TemplateSet())
    (batch,) = islice(data.steps(0), 1)
    (micro,) = batch.microbatches
    model.set_attn_implementation("eager")
    module = LanguageLoss(model, data.pictures).train()
    with FlopCounterMode(display=False) as counter:
        module(micro).sum().backward()
    # Padding is computed here and not counted there.
    sums = arithmetic(model, torch.device("cpu"), None)
    padded = micro.ids.shape[0] * micro.ids.shape[1] ** 2
    mine = sums.flops(batch.stats | {"tokens": micro.ids.numel(), "squares": 2 * padded})
    assert mine == pytest.approx(counter.get_total_flops(), rel=0.1)
