"""Options' likelihoods against a naive computation: one option at a time, the whole text anew, no padding, no cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.errors import UserError
from eval.optionlikelihood import Asked, OptionReader

torch = pytest.importorskip("torch")
from tests.train.families import NAMES, build  # noqa: E402 -- needs torch

QUESTIONS = ["What color is it?", "Where is the square? Say it in one word, not in two.", "Why?"]
OPTIONS = [
    ("red", "dark blue", "dark green with a bit of blue"),
    ("A", "B", "C", "D"),
    ("left", "left of it"),
]
SIZES = [(64, 64), (90, 60), (40, 100)]


@pytest.fixture(scope="module", params=NAMES)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OptionReader:
    """A tiny model of every family."""
    torch.set_num_threads(1)
    path: Path = tmp_path_factory.mktemp(request.param)
    build(request.param, path)
    return OptionReader(str(path))


@pytest.fixture(scope="module")
def starter_like(make_model: Callable[[int], str]) -> OptionReader:
    return OptionReader(make_model(0))


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def naive(reader: OptionReader, asked: Asked, option: str) -> float:
    """log p(option | prompt), by the logits of the model's own head over the whole text."""
    text = asked.prompt + option
    if asked.image is None:
        inputs: Any = reader.tokenizer(text, return_tensors="pt", add_special_tokens=asked.special)
        before = reader.tokenizer(asked.prompt, add_special_tokens=asked.special)["input_ids"]
        assert inputs["input_ids"][0, : len(before)].tolist() == before  # or the count below would be another
        start = len(before)
    else:
        settings: Any = {"return_tensors": "pt", "add_special_tokens": asked.special}
        inputs = reader.processor(text=[text], images=[[asked.image]], **settings)
        start = reader.processor(text=[asked.prompt], images=[[asked.image]], **settings)["input_ids"].shape[
            1
        ]
    ids = inputs["input_ids"]
    if hasattr(reader.model.model, "get_rope_index") and asked.image is not None:
        inputs["mm_token_type_ids"] = (ids == reader.model.config.image_token_id).int()
    with torch.inference_mode():
        logp = reader.model(**inputs).logits[0].double().log_softmax(dim=-1)
    return float(sum(logp[t - 1, ids[0, t]] for t in range(start, ids.shape[1])))


def check(reader: OptionReader, asked: list[Asked], batch: int) -> None:
    for one, told in zip(asked, reader.read(asked, batch), strict=True):
        assert not told.error and told.cut == 0
        wanted = [naive(reader, one, option) for option in one.options]
        assert told.logps == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_every_family_with_pictures_equals_the_naive_computation(reader: OptionReader) -> None:
    cases = zip(QUESTIONS, OPTIONS, pictures(), strict=True)
    check(reader, [reader.ask(*case) for case in cases], batch=2)


def test_every_family_without_pictures_equals_the_naive_computation(reader: OptionReader) -> None:
    bare = [reader.ask(q, o) for q, o in zip(QUESTIONS, OPTIONS, strict=True)]
    chat = [reader.ask(q, o, chat=True) for q, o in zip(QUESTIONS, OPTIONS, strict=True)]
    check(reader, [*bare, *chat], batch=4)


def test_pictures_text_and_orders_mixed_give_the_same(reader: OptionReader) -> None:
    asked = [reader.ask(QUESTIONS[0], OPTIONS[0], pictures()[1]), reader.ask(QUESTIONS[1], OPTIONS[1]),
             reader.ask(QUESTIONS[2], OPTIONS[2], pictures()[2])]  # fmt: skip
    one, turned = reader.read(asked, batch=1), reader.read(asked[::-1], batch=8)[::-1]
    for left, right in zip(one, turned, strict=True):
        assert left.logps == pytest.approx(right.logps, rel=1e-4, abs=1e-4) and left.tokens == right.tokens


def test_the_picture_counts(starter_like: OptionReader) -> None:
    first, second, _ = pictures()
    told = starter_like.read([starter_like.ask("What is it?", ("red", "blue"), p) for p in (first, second)])
    assert told[0].logps != told[1].logps


def test_a_language_model_alone(tmp_path: Path, starter_like: OptionReader) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=len(starter_like.tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    starter_like.tokenizer.save_pretrained(tmp_path)
    reader = OptionReader(str(tmp_path))
    check(reader, [reader.ask(q, o) for q, o in zip(QUESTIONS, OPTIONS, strict=True)], batch=4)
    with pytest.raises(UserError, match="reads no pictures"):
        reader.ask("What?", ("a", "b"), pictures()[0])
    # A text that is too long loses its beginning, as in the harness.
    long = reader.ask("word " * 200, ("red", "dark blue"))
    (told,) = reader.read([long])
    whole = [reader.tokenizer(long.prompt + o)["input_ids"] for o in long.options]
    tail = max(map(len, whole)) - len(reader.tokenizer(long.prompt)["input_ids"])
    assert (
        told.prompt_tokens == 64 - tail
        and told.cut == len(reader.tokenizer(long.prompt)["input_ids"]) - 64 + tail
    )
    for ids, logp in zip(whole, told.logps, strict=True):
        with torch.inference_mode():
            kept = torch.tensor([ids[told.cut :]])
            logits = reader.model(kept).logits[0].double().log_softmax(dim=-1)
        wanted = sum(logits[t - 1, kept[0, t]] for t in range(told.prompt_tokens, kept.shape[1]))
        assert logp == pytest.approx(float(wanted), rel=1e-4)


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(starter_like: OptionReader) -> None:
    told = starter_like.read(
        [
            starter_like.ask("Why?", ()),
            starter_like.ask("Why?", ("because", "red")),
            Asked(prompt="", options=(" red", " blue")),
            Asked(prompt="Why?", options=(" red", "")),
            starter_like.ask("word " * 600, ("red", "blue"), pictures()[0]),
            starter_like.ask("What?", ("red", "blue"), pictures()[0]),
        ]
    )
    errors = [t.error for t in told]
    assert errors[0] == "there are no options to compare"
    assert errors[2] == "there is no prompt in front of the options"
    assert errors[3] == "option 2 is empty"
    assert "the model reads 512" in errors[4]
    assert errors[1] == errors[5] == "" and len(told[1].logps) == len(told[5].logps) == 2


def test_marks_of_the_template_in_a_text_stay_text(starter_like: OptionReader) -> None:
    asked = starter_like.ask("Is </s> <image> it?", ("yes </s>", "no"))
    ids = starter_like.tokenizer(asked.prompt + asked.options[0], add_special_tokens=False)["input_ids"]
    assert not set(ids) & {starter_like.tokenizer.eos_token_id, starter_like.model.config.image_token_id}


def test_a_folder_that_holds_no_model_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        OptionReader(str(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_vllm_gives_the_starters_options_the_same() -> None:
    pytest.importorskip("vllm")
    from cluster.models import resolve_model
    from datagen.engine import EngineConfig, build_engine

    reader = OptionReader(resolve_model("starter"))
    asked = [reader.ask(q, o, p) for q, o, p in zip(QUESTIONS, OPTIONS, pictures(), strict=True)]
    asked += [reader.ask(q, o, chat=True) for q, o in zip(QUESTIONS, OPTIONS, strict=True)]

    async def scores() -> list[list[float]]:
        engine = build_engine(EngineConfig(model="starter", max_num_seqs=8))
        found = [
            [
                (await engine.score(a.prompt, option, a.image, f"p{k}" if a.image else None)).logprob
                for option in a.options
            ]
            for k, a in enumerate(asked)
        ]
        engine.close()
        return found

    for told, wanted in zip(reader.read(asked), asyncio.run(scores()), strict=True):
        assert told.logps == pytest.approx(wanted, rel=1e-3, abs=1e-3)
