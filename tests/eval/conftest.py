"""A small starter world with gold questions and tiny random LLaVAs, for tests that run the real engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datagen.starter.world import WorldConfig, WorldPaths, gold_records, scene_at, write_world
from eval.config import GoldSet

WORLD = WorldConfig(images=9, split="test", shard_images=3)


@pytest.fixture(scope="session")
def gold(tmp_path_factory: pytest.TempPathFactory) -> GoldSet:
    """Corpus and gold questions of nine pictures in three shards."""
    paths: WorldPaths = write_world(str(tmp_path_factory.mktemp("world")), WORLD)
    return GoldSet(corpus=paths.corpus, instructions=paths.gold["questions"])


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """Folder of a random LLaVA by seed; equal seeds give equal weights in different folders."""
    torch = pytest.importorskip("torch")
    from train.config import ModelShape
    from train.models.export import save_model
    from train.models.model import build_starter
    from train.models.tokenizer import train_tokenizer

    def make(seed: int) -> str:
        texts = [
            f"USER: {r.question} ASSISTANT: {r.answer}"
            for i in range(WORLD.images)
            for r in gold_records("questions", scene_at(WORLD, i), "x")
        ]
        shape = ModelShape(
            vision_hidden=64, vision_layers=1, vision_heads=2, vision_intermediate=64, text_hidden=64, text_layers=2,
            text_heads=2, text_kv_heads=2, text_intermediate=64, max_positions=512,
        )  # fmt: skip
        torch.manual_seed(seed)
        model, processor = build_starter(shape, train_tokenizer(texts, 600))
        folder = Path(tmp_path_factory.mktemp(f"model{seed}"))
        save_model(model, processor, folder)
        return str(folder)

    return make
