"""From a config to what a worker trains: the model, its data, and the weight of each part of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cluster import storage
from train.config import Holdout, TrainConfig
from train.feed.data import LanguageData
from train.feed.pictures import Pictures, check_processor
from train.loss import LanguageLoss
from train.mask.encode import Encoder
from train.mask.templates import TemplateSet
from train.models import model as models
from train.models.adapter import add_adapter
from train.models.families import MRope, family_of
from train.prepare import chat_format, start_model
from train.tower import TowerData, TowerLoss, TowerMicrobatch, vocabulary
from train.workers import Workers


@dataclass(frozen=True, kw_only=True)
class Task:
    """``weights`` holds one number for each of ``module.parts``."""

    module: LanguageLoss | TowerLoss
    data: LanguageData | TowerData
    weights: Tensor


def build_model(cfg: TrainConfig, *, quantized: bool = True, empty: bool = False) -> tuple[Any, Any, Any]:
    """(model, processor, peft's wrapper or None) before the first step, with gradients where the config trains.

    Args:
        quantized: False leaves out the adapters' 4-bit weights: adapters are merged into the precise ones.
        empty: without weights.
    """
    quantization = cfg.adapter.quantization if cfg.adapter and quantized else "none"
    model, processor = models.load(start_model(cfg), quantization=quantization, empty=empty)
    models.freeze(model, cfg.lr)
    if cfg.adapter is None:
        return model, processor, None
    torch.manual_seed(cfg.seed)
    return model, processor, add_adapter(model, cfg.adapter)


def build_task(cfg: TrainConfig, workers: Workers | None = None) -> Task:
    """Load the model and open the data. Of workers that share one model only the first has its weights.

    Raises:
        UserError: a model that cannot be trained so, or data that do not fit.
    """
    workers = workers or Workers()
    holds = workers.first or cfg.parallel != "fsdp"
    model, processor, _ = build_model(cfg, empty=not holds)
    pictures = Pictures(processor, family_of(model.config), cfg.image_cache_mb)
    if cfg.stage == "tower":
        vision: Any = model.config.vision_config
        words = vocabulary([str(source.corpus) for source in cfg.data])
        torch.manual_seed(cfg.seed)
        tower = TowerLoss(model, pictures, len(words))
        _freeze(
            model, workers.same(models.unreached(model, [tower(TowerMicrobatch.empty())]) if holds else [])
        )
        return Task(
            module=tower,
            data=TowerData(cfg, pictures, words, vision.image_size // vision.patch_size),
            weights=torch.ones(1),
        )
    # bitsandbytes lays 4-bit weights out for inference, for good, at the first forward pass outside of training.
    model.train()
    idle: list[str] = []
    if holds:
        check_processor(model, pictures)
        idle = models.unreached(model, models.probe(model, pictures.blank()))
    _freeze(model, workers.same(idle))
    if cfg.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return Task(
        module=LanguageLoss(model, pictures, cfg.loss.head_rows, sharded=cfg.parallel == "fsdp"),
        data=language_data(cfg, model.config, processor, stored_templates(cfg)),
        weights=torch.tensor([cfg.loss.w_instruction, cfg.loss.w_response]),
    )


def _freeze(model: Any, names: list[str]) -> None:
    for name in names:
        model.get_parameter(name).requires_grad_(False)


def open_data(cfg: TrainConfig) -> LanguageData | TowerData:
    """The data of a run without its weights, for a loader process."""
    from transformers import AutoConfig

    path = start_model(cfg)
    config, processor = AutoConfig.from_pretrained(path), models.load_processor(path)
    if cfg.stage == "tower":
        words = vocabulary([str(source.corpus) for source in cfg.data])
        pictures = Pictures(processor, family_of(config), cfg.image_cache_mb)
        return TowerData(
            cfg, pictures, words, config.vision_config.image_size // config.vision_config.patch_size
        )
    return language_data(cfg, config, processor, stored_templates(cfg))


def stored_templates(cfg: TrainConfig) -> TemplateSet:
    """The templates that the driver stored with the run."""
    place = storage.join(cfg.output, "templates.json")
    return TemplateSet.from_json(storage.read_bytes(place).decode(), place)


def language_data(cfg: TrainConfig, config: Any, processor: Any, templates: TemplateSet) -> LanguageData:
    """The data of a config; ``config`` is the model's own configuration."""
    family = family_of(config)
    pictures = Pictures(processor, family, cfg.image_cache_mb)
    encoder = Encoder(
        tokenizer=processor.tokenizer,
        fmt=chat_format(cfg, processor),
        image_token_id=config.image_token_id,
        placeholder=pictures.placeholder,
        # The connector stage has instructions that say nothing about the image (LLaVA): response only.
        mode=cfg.mode if cfg.stage == "finetune" else "vit",
        templates=templates,
        max_length=cfg.max_length,
        text_only_instructions=cfg.loss.instruction_loss_on_text_only,
        image_position=cfg.image_position,
    )
    return LanguageData(cfg, encoder, pictures, MRope(config) if family.mrope else None)


def holdout_data(cfg: TrainConfig, holdout: Holdout, data: LanguageData) -> LanguageData:
    """Batches of held-out rows. Both parts are measured whatever the mode trains, so curves of modes compare."""
    from dataclasses import replace

    settings = cfg.model_copy(update={"data": (holdout.source,), "window_shards": 1, "seed": 0})
    return LanguageData(settings, replace(data.encoder, mode="l2t"), data.pictures, data.mrope)
