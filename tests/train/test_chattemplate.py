"""A layout written as a chat template and read back is the same layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from datagen.records import Turn
from tests.train import offline_tokenizers
from train.launch import launch
from train.mask.chatformat import derive
from train.mask.chattemplate import template_of
from train.mask.render import FORMATS, ChatFormat, render, text_of
from train.models.export import save_model

ODD = replace(
    FORMATS["vicuna"],
    user_image="PICTURES: ",
    lead="  ",
    after_image="\n",
    after_images="\n'{{ }} {% %}",
    between="\n\n",
    end="</s>",
)
LAYOUTS = {name: FORMATS[name] for name in ("starter", "vicuna")} | {"odd": ODD}


@pytest.mark.parametrize("name", LAYOUTS)
def test_read_back(name: str) -> None:
    tokenizer = offline_tokenizers.llama()
    tokenizer.chat_template = template_of(LAYOUTS[name])
    assert derive(tokenizer, "<image>") == LAYOUTS[name]


@pytest.mark.parametrize("name", ["tinyllava-qwen2", "tinyllava-phi"])
def test_layouts_of_other_tokenizers(name: str) -> None:
    tokenizer = offline_tokenizers.FAMILIES[name.removeprefix("tinyllava-")]()
    tokenizer.chat_template = template_of(FORMATS[name])
    assert derive(tokenizer, "<image>") == FORMATS[name]


def test_a_prompt_is_the_beginning_of_a_trained_text() -> None:
    tokenizer = offline_tokenizers.llama()
    fmt: ChatFormat = FORMATS["vicuna"]
    tokenizer.chat_template = template_of(fmt)
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image"}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    trained = text_of(
        render([Turn(role="user", text="What is it?"), Turn(role="assistant", text="red")], 1, fmt)
    )
    assert trained == prompt + " red</s>"


def test_an_export_is_served_as_it_was_trained(make_config: Any, small_model: Any, tmp_path: Path) -> None:
    """`chat: vicuna` on a model whose own template is another one."""
    save_model(*small_model, tmp_path / "start")
    cfg = make_config(model=str(tmp_path / "start"), shape=None, chat="vicuna")
    launch(cfg)
    processor = AutoProcessor.from_pretrained(Path(cfg.output) / "model")
    assert derive(processor, processor.image_token) == FORMATS["vicuna"]
