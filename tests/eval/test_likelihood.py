"""Teacher forcing against a naive computation: one sample at a time, no padding, the whole loss by transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eval.config import GoldSet
from eval.likelihood import Forcer, LikelihoodJob, noise_image, rows_of
from eval.samples import load, select
from eval.tasks import TASKS

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def job(gold: GoldSet, make_model: Callable[[int], str]) -> LikelihoodJob:
    return LikelihoodJob(
        uri="", name="m", revision="r", model=make_model(0), set="test", gold=gold, batch=4, noise_draws=2,
        dtype="float32", use_gpu=False,
    )  # fmt: skip


def naive(forcer: Forcer, question: str, answer: str, image) -> float:  # type: ignore[no-untyped-def]
    """Sum of log p of the answer's tokens, by the model's own loss."""
    prefix = f"USER: <image>\n{question} ASSISTANT:"
    whole = f"{prefix} {answer}</s>"
    inputs = forcer.processor(text=[whole], images=[image], return_tensors="pt")
    start = forcer.processor(text=[prefix], images=[image], return_tensors="pt")["input_ids"].shape[1]
    labels = inputs["input_ids"].clone()
    labels[:, :start] = -100
    with torch.inference_mode():
        loss = forcer.model(**inputs, labels=labels).loss
    return -float(loss) * int((labels != -100).sum())


def test_batched_likelihoods_equal_the_naive_ones(job: LikelihoodJob) -> None:
    torch.set_num_threads(1)
    forcer = Forcer(job.model)
    chunk = select(job.gold, list(TASKS.values()), 2, 100)[0]
    items = load(job.gold, chunk)
    rows = rows_of(forcer, job, items)
    assert [r["sample_id"] for r in rows] == [i.sample.id for i in items]
    for item, row in zip(items, rows, strict=True):
        seen = naive(forcer, item.sample.question, item.answer, item.image)
        blind = np.mean([
            naive(forcer, item.sample.question, item.answer, noise_image(item.image.size, item.image_sha, draw))
            for draw in range(2)
        ])  # fmt: skip
        assert row["logp"] == pytest.approx(seen, rel=1e-5)
        assert row["logp_noise"] == pytest.approx(blind, rel=1e-5)
        assert row["vc"] == pytest.approx(seen - blind, abs=1e-3)
        assert row["loss"] == pytest.approx(-seen / row["response_tokens"], rel=1e-5)


def test_order_and_batch_size_do_not_matter(job: LikelihoodJob) -> None:
    forcer = Forcer(job.model)
    items = load(job.gold, select(job.gold, [TASKS["color"], TASKS["caption"]], None, 100)[0])
    one, many = (
        rows_of(forcer, replace(job, batch=1), items),
        rows_of(forcer, replace(job, batch=7), items[::-1]),
    )
    assert np.allclose([r["logp"] for r in one], [r["logp"] for r in many[::-1]], rtol=1e-5)


def test_a_sample_without_picture_is_named_and_the_rest_goes_on(job: LikelihoodJob) -> None:
    items = load(job.gold, select(job.gold, [TASKS["color"]], 3, 100)[0])
    broken = [replace(items[0], image=None, error="cannot decode"), *items[1:]]
    rows = rows_of(Forcer(job.model), job, broken)
    assert rows[0]["state"] == "failed" and rows[0]["reason"] == "image: cannot decode"
    assert all(r["state"] == "accepted" for r in rows[1:])


def test_noise_follows_from_content_and_draw() -> None:
    def pixels(content: str, draw: int) -> bytes:
        return noise_image((8, 6), content, draw).tobytes()

    assert noise_image((8, 6), "a").size == (8, 6)
    assert pixels("a", 0) == pixels("a", 0)
    assert len({pixels("a", 0), pixels("a", 1), pixels("b", 0)}) == 3
