"""Adapters: what trains, what is merged, and that a stopped run goes on the same with dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cluster.errors import UserError
from tests.train.conftest import SHAPE, StopAt, Stopped
from train.config import Adapter, LearningRates
from train.launch import launch
from train.loop import Trainer
from train.models.adapter import add_adapter
from train.models.model import freeze
from train.prepare import prepare
from train.workers import Workers

RATES = {"vision_tower": 0, "connector": 1e-3, "language_model": 1e-2}


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_run_merges_what_it_learned(make_config: Any, tmp_path: Path, kind: str) -> None:
    adapter = {"kind": kind, "rank": 4, "alpha": 8}
    cfg = make_config(adapter=adapter, lr=RATES, microbatch_tokens=640, mode="vit")
    launch(cfg)
    run = Path(cfg.output)
    before, after = (load_file(run / name / "model.safetensors") for name in ("init", "model"))
    assert before.keys() == after.keys(), "the names of a model without adapters"
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert any(name.endswith("q_proj.weight") for name in changed)
    assert any("multi_modal_projector" in name for name in changed), "the connector trains in full"
    assert not any("vision_tower" in name or "norm" in name or "embed" in name for name in changed)
    stored = load_file(run / "adapter/adapter_model.safetensors")
    assert stored
    assert all("lora" in name for name in stored)


def test_merged_equals_unmerged(small_model: Any) -> None:
    model, _ = small_model
    freeze(model, LearningRates(vision_tower=0, connector=0, language_model=1))
    wrapped = add_adapter(model, Adapter(rank=4, dropout=0))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and "language_model" in name for name in trained)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    ids = torch.tensor([[5, 6, 7, 8]])
    apart = model(input_ids=ids).logits
    merged = wrapped.merge_and_unload()
    assert torch.allclose(merged(input_ids=ids).logits, apart, atol=1e-4)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_dropout_of_a_resumed_run_is_that_of_a_whole_one(make_config: Any, tmp_path: Path) -> None:
    settings = {"adapter": {"rank": 4, "dropout": 0.5}, "lr": RATES, "steps": 6}
    whole = launch(make_config(**settings, output=str(tmp_path / "whole")))
    broken = make_config(**settings, output=str(tmp_path / "broken"))
    prepare(broken)
    with pytest.raises(Stopped):
        Trainer(broken, Workers(), StopAt(4)).train()
    assert launch(broken)["weights_sha256"] == whole["weights_sha256"]


def test_four_bit_weights_train_and_merge(make_config: Any, tmp_path: Path) -> None:
    """QLoRA on a CPU: bitsandbytes has kernels there, too."""
    pytest.importorskip("bitsandbytes")
    wide = {**SHAPE, "text_hidden": 128, "text_heads": 2, "text_kv_heads": 2, "text_intermediate": 128}
    cfg = make_config(adapter={"rank": 4, "quantization": "nf4"}, shape=wide, lr=RATES, mode="vit")
    launch(cfg)
    before, after = (load_file(Path(cfg.output) / name / "model.safetensors") for name in ("init", "model"))
    assert before.keys() == after.keys()
    norms = [name for name in after if name.endswith("layernorm.weight")]
    assert all(torch.equal(before[name], after[name]) for name in norms)
    moved = [
        (after[name] - before[name]).abs().max()
        for name in after
        if name.endswith("q_proj.weight") and "language" in name
    ]
    assert all(0 < step < 0.05 for step in moved), (
        "merged into the precise weights: only the adapters' part differs"
    )


def test_names_that_fit_no_layer(make_config: Any) -> None:
    with pytest.raises(UserError, match=r"adapter.targets: the language model has none of query"):
        launch(make_config(adapter={"targets": ["query"]}, lr=RATES))
