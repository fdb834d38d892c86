"""A tiny random LLaVA on disk, and corpora with and without damage, for tests that run the real engine."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from datagen import corpus
from datagen.corpus import CorpusRow


def png(seed: int, side: int = 32) -> bytes:
    """A one-coloured picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), ((seed * 53) % 256, (seed * 97) % 256, (seed * 31) % 256)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def row(number: int, data: bytes | None = None) -> CorpusRow:
    """A corpus row; ``data`` replaces the picture."""
    picture = png(number) if data is None else data
    return CorpusRow(
        image_id=f"img-{number:04d}",
        image=picture,
        width=32,
        height=32,
        sha256=corpus.sha256(picture),
        captions=("A plain picture.",),
        ocr=("cat",),
        source="test",
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random 100k-parameter LLaVA with the starter's chat template; loads in vLLM."""
    import torch

    from train.config import ModelShape
    from train.models.export import save_model
    from train.models.model import build_starter
    from train.models.tokenizer import train_tokenizer

    torch.manual_seed(0)
    words = "Question: Is there a red circle? Answer: yes Evidence: Verdict: no Options: Check this."
    tokenizer = train_tokenizer([words] * 4, vocab_size=320)
    shape = ModelShape(
        image_size=32, patch_size=16,
        vision_hidden=32, vision_intermediate=64, vision_layers=1, vision_heads=1,
        text_hidden=64, text_intermediate=64, text_layers=2, text_heads=2, text_kv_heads=2, max_positions=512,
    )  # fmt: skip
    model, processor = build_starter(shape, tokenizer)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model(model, processor, folder)
    return str(folder)


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[[list[list[CorpusRow]]], str]:
    """Publish shards of rows as a corpus; returns its URI."""
    from cluster.datasets import commit_shard, freeze, plan_dataset

    def write(shards: list[list[CorpusRow]], name: str = "corpus") -> str:
        uri = str(tmp_path / "corpora" / name)
        plan_dataset(uri, kind="corpus", name=name, shards=len(shards), config={"test": name})
        for k, rows in enumerate(shards):
            commit_shard(uri, k, {"rows": corpus.to_table(rows)}, counts={"accepted": len(rows)})
        freeze(uri)
        return uri

    return write
