"""What a run trains on what: the module that gives loss sums, its batches, and the weight of each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cluster import storage
from train import model
from train.config import Holdout, TrainConfig
from train.data import LanguageData
from train.encode import Encoder
from train.loss import LanguageLoss
from train.pixels import Pixels
from train.prepare import chat_format, start_model
from train.templates import TemplateSet
from train.tower import TowerData, TowerLoss, vocabulary


@dataclass(frozen=True, kw_only=True)
class Task:
    """``weights`` holds one number for each of ``module.parts``."""

    module: LanguageLoss | TowerLoss
    data: LanguageData | TowerData
    weights: Tensor
    processor: Any


def build_task(cfg: TrainConfig) -> Task:
    """Load the model and open the data."""
    llava, processor = model.load(start_model(cfg))
    model.freeze(llava, cfg.lr)
    pixels = Pixels(processor, cfg.image_cache_mb)
    if cfg.stage == "tower":
        vision: Any = llava.config.vision_config
        words = vocabulary([str(source.corpus) for source in cfg.data])
        torch.manual_seed(cfg.seed)
        return Task(
            module=TowerLoss(llava, pixels, len(words)),
            data=TowerData(cfg, pixels, words, vision.image_size // vision.patch_size),
            weights=torch.ones(1),
            processor=processor,
        )
    encoder = build_encoder(cfg, llava.config, processor.tokenizer, stored_templates(cfg))
    return Task(
        module=LanguageLoss(llava, pixels),
        data=LanguageData(cfg, encoder, pixels),
        weights=torch.tensor([cfg.loss.w_instruction, cfg.loss.w_response]),
        processor=processor,
    )


def stored_templates(cfg: TrainConfig) -> TemplateSet:
    """The templates that the driver stored with the run."""
    return TemplateSet.from_json(storage.read_bytes(storage.join(cfg.output, "templates.json")).decode())


def build_encoder(cfg: TrainConfig, config: Any, tokenizer: Any, templates: TemplateSet) -> Encoder:
    """The encoder of a config; ``config`` is the model's own configuration."""
    vision = config.vision_config
    # CLIP puts a class token before its patches; "default" takes it away again.
    has_class_token = vision.model_type == "clip_vision_model"
    extra = int(has_class_token and config.vision_feature_select_strategy == "full")
    return Encoder(
        tokenizer=tokenizer,
        fmt=chat_format(cfg),
        image_token_id=config.image_token_id,
        tokens_per_image=(vision.image_size // vision.patch_size) ** 2 + extra,
        # The connector stage has instructions that say nothing about the image (LLaVA): response only.
        mode=cfg.mode if cfg.stage == "finetune" else "vit",
        templates=templates,
        max_length=cfg.max_length,
        text_only_instructions=cfg.loss.instruction_loss_on_text_only,
    )


def holdout_data(cfg: TrainConfig, holdout: Holdout, task: Task) -> LanguageData:
    """Batches of held-out rows. Both parts are measured whatever the mode trains, so curves of modes compare."""
    assert isinstance(task.data, LanguageData)
    encoder = build_encoder(
        cfg.model_copy(update={"mode": "l2t", "stage": "finetune"}),
        task.module.model.config,
        task.data.encoder.tokenizer,
        task.data.encoder.templates,
    )
    settings = cfg.model_copy(update={"data": (holdout.source,), "window_shards": 1, "seed": 0})
    return LanguageData(settings, encoder, task.data.pixels)
