"""Attention on the picture against a naive computation: eager attention, one sample at a time, all weights kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.errors import UserError
from eval.attention import ATTENTION_SCHEMA, AttentionJob, Watcher, rows_of
from eval.attention_grid import grid_of
from eval.config import GoldSet
from eval.samples import load, select
from eval.tasks import TASKS

torch = pytest.importorskip("torch")
from tests.train.families import NAMES, build  # noqa: E402 -- needs torch

SIZES = [(64, 64), (90, 60), (40, 100)]
QUESTIONS = ["What color is it?", "Where is the square? Say it in one word.", "Why?"]


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of every family on disk."""
    torch.set_num_threads(1)
    path: Path = tmp_path_factory.mktemp(request.param)
    build(request.param, path)
    return path


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def naive(folder: Path, prompt: str, image: Image.Image, after: str = "") -> tuple[Any, Any]:
    """([heads, tokens] of the prompt's last token, [tokens] image or not) by eager attention of the whole model."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = processor(text=[prompt], images=[[image]], return_tensors="pt", add_special_tokens=False)
    at = tokens["input_ids"].shape[1] - 1
    inputs = processor(text=[prompt + after], images=[[image]], return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        last = model(**inputs, output_attentions=True).attentions[-1]
    return last[0, :, at].double().numpy(), (inputs["input_ids"][0] == model.config.image_token_id).numpy()


def test_batches_equal_the_naive_computation(folder: Path) -> None:
    watcher = Watcher(str(folder))
    prompts = [watcher.prompt(q) for q in QUESTIONS]
    for prompt, image, seen in zip(prompts, pictures(), watcher.look(prompts, pictures()), strict=True):
        weights, is_image = naive(folder, prompt, image)
        assert np.array_equal(seen.image, is_image) and seen.image.any()
        assert seen.weights.sum(axis=1) == pytest.approx(1)
        assert np.allclose(seen.weights, weights, rtol=1e-3, atol=1e-6)
        assert seen.by_head == pytest.approx(weights[:, is_image].sum(axis=1), rel=1e-3, abs=1e-6)
        assert seen.map().sum() <= seen.by_head.mean() + 1e-9
        assert seen.map().shape == (seen.grid.rows, seen.grid.columns)
        heads = [seen.map(h) for h in range(len(seen.by_head))]
        assert np.allclose(np.mean(heads, axis=0), seen.map())


def test_what_is_answered_does_not_matter(folder: Path) -> None:
    watcher = Watcher(str(folder))
    prompt, image = watcher.prompt(QUESTIONS[0]), pictures()[1]
    (seen,) = watcher.look([prompt], [image])
    weights, _ = naive(folder, prompt, image, " blue circle")
    assert np.allclose(seen.weights, weights[:, : seen.weights.shape[1]], rtol=1e-3, atol=1e-6)
    assert weights[:, seen.weights.shape[1] :] == pytest.approx(0)


def test_cells_lie_where_the_picture_was_changed(folder: Path) -> None:
    """With towers whose patches do not mix, a changed corner changes the cells of this corner and no others."""
    watcher = Watcher(str(folder))
    tower = getattr(watcher.model.model, watcher.family.tower)
    for name, parameter in tower.named_parameters():
        if "out_proj" in name or "attn.proj" in name:
            parameter.data.zero_()
    plain = Image.new("RGB", (96, 96), (90, 90, 90))
    before = _features(watcher, plain)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        spotted = plain.copy()
        left, top = 72 * column, 72 * row
        spotted.paste((255, 0, 0), (left, top, left + 24, top + 24))
        change = np.linalg.norm(_features(watcher, spotted) - before, axis=-1)
        halves = [np.array_split(side, 2, axis=1) for side in np.array_split(change, 2, axis=0)]
        strength = np.array([[quarter.sum() for quarter in half] for half in halves])
        assert strength[row, column] > 0.9 * strength.sum()


def _features(watcher: Watcher, image: Image.Image) -> np.ndarray:
    """[rows, columns, size]: what the connector gives the language model for the base tile."""
    taken: list[Any] = []
    language = getattr(watcher.model.model, watcher.family.language)
    hook = language.register_forward_pre_hook(
        lambda module, args, kwargs: taken.append(kwargs["inputs_embeds"][0].double().numpy()),
        with_kwargs=True,
    )
    (seen,) = watcher.look([watcher.prompt("What?")], [image])
    hook.remove()
    cells = seen.grid.rows * seen.grid.columns
    own = taken[0][seen.image][seen.grid.start : seen.grid.start + cells]
    out: np.ndarray = own.reshape(seen.grid.rows, seen.grid.columns, -1)
    return out


@pytest.fixture(scope="module")
def job(gold: GoldSet, make_model: Callable[[int], str]) -> AttentionJob:
    return AttentionJob(
        uri="",
        name="m",
        revision="r",
        model=make_model(0),
        gold=gold,
        batch=4,
        dtype="float32",
        use_gpu=False,
    )


def test_order_and_batch_size_do_not_matter(job: AttentionJob) -> None:
    watcher = Watcher(job.model)
    items = load(job.gold, select(job.gold, [TASKS["color"], TASKS["caption"]], None, 100)[0])
    one = rows_of(watcher, replace(job, batch=1), items)
    many = rows_of(watcher, replace(job, batch=7), items[::-1])[::-1]
    assert [r["sample_id"] for r in one] == [i.sample.id for i in items]
    for a, b in zip(one, many, strict=True):
        assert set(a) == set(ATTENTION_SCHEMA.names) and a["sample_id"] == b["sample_id"]
        assert np.allclose(a["mass_head"], b["mass_head"], rtol=1e-4, atol=1e-7)
        assert np.allclose(a["map"], b["map"], rtol=1e-4, atol=1e-7)
        assert 0 < a["mass"] < 1 and a["image_tokens"] < a["tokens"]


def test_a_sample_without_picture_is_named_and_the_rest_goes_on(job: AttentionJob) -> None:
    items = load(job.gold, select(job.gold, [TASKS["color"]], 3, 100)[0])
    rows = rows_of(
        Watcher(job.model), job, [replace(items[0], image=None, error="cannot decode"), *items[1:]]
    )
    assert rows[0]["state"] == "failed" and rows[0]["reason"] == "image: cannot decode"
    assert all(r["state"] == "accepted" for r in rows[1:])


def test_what_of_a_picture_is_shown_follows_its_processor() -> None:
    """CLIP's crops the middle, SigLIP's stretches all of it, LLaVA's own pads to a square."""
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    cropped, stretched = build("llava"), build("tinyllava")
    wide: dict[str, Any] = {"size": (200, 100), "tokens": 16, "patches": None}
    assert grid_of(cropped[0].config, cropped[1], **wide).region == pytest.approx((0.25, 0, 0.75, 1))
    assert grid_of(stretched[0].config, stretched[1], **wide).region == (0, 0, 1, 1)
    cropped[1].image_processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    assert grid_of(cropped[0].config, cropped[1], **wide).region == pytest.approx((0, -0.5, 1, 1.5))


def test_a_processor_of_another_model_is_named() -> None:
    model, processor = build("llava_next")
    with pytest.raises(UserError, match="does not fit"):
        grid_of(model.config, processor, size=(8, 8), tokens=3, patches=None)
