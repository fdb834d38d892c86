"""Beam search against transformers asked for one prompt at a time, and against a search written down plainly."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.errors import UserError
from datagen.engine import Completion, EngineConfig, RequestError
from datagen.records import Sampling, Turn
from eval.beam import BeamEngine, Beams
from eval.config import GoldSet
from eval.generate import Job, answer_chunk
from eval.samples import select
from eval.tasks import TASKS

torch = pytest.importorskip("torch")
from tests.train.families import NAMES, build  # noqa: E402 -- needs torch

QUESTIONS = ["What color is it?", "Where is the square? Say it in one word, not in two.", "Why?"]
SIZES = [(64, 64), (90, 60), (40, 100)]


@pytest.fixture(scope="module")
def model(make_model: Callable[[int], str]) -> str:
    torch.set_num_threads(1)
    return make_model(0)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


def engine_of(model: str, **beams: int) -> BeamEngine:
    return BeamEngine(EngineConfig(model=model, max_model_len=256), Beams(**beams))


def ask(
    engine: BeamEngine, prompts: Sequence[str], images: Sequence[Image.Image | None], sampling: Sampling
) -> list[Completion | BaseException]:
    async def all_at_once() -> list[Completion | BaseException]:
        calls = [engine.complete(p, i, None, sampling) for p, i in zip(prompts, images, strict=True)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(all_at_once())


def prompts_of(engine: BeamEngine, has_image: bool) -> list[str]:
    return [engine.render_chat([Turn(role="user", text=q)], has_image=has_image) for q in QUESTIONS]


@pytest.mark.parametrize("family", NAMES)
def test_batches_of_every_family_equal_transformers_asked_one_by_one(family: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    build(family, tmp_path)
    engine = engine_of(str(tmp_path), width=3)
    for images in (pictures(), [None] * 3):
        prompts = prompts_of(engine, images[0] is not None)
        for prompt, image, said in zip(
            prompts, images, ask(engine, prompts, images, Sampling(max_tokens=6)), strict=True
        ):
            assert isinstance(said, Completion)
            pictured = {"images": [[image]]} if image else {}
            inputs = engine.processor(
                text=[prompt], return_tensors="pt", add_special_tokens=False, **pictured
            )
            if image and hasattr(engine.model.model, "get_rope_index"):
                inputs["mm_token_type_ids"] = (
                    inputs["input_ids"] == engine.model.config.image_token_id
                ).int()
            with torch.inference_mode():
                written = engine.model.generate(
                    **inputs, num_beams=3, do_sample=False, max_new_tokens=6, temperature=None, top_p=None, top_k=None
                )  # fmt: skip
            new = written[0, inputs["input_ids"].shape[1] :]
            assert said.text == engine.processor.tokenizer.decode(new, skip_special_tokens=True)
            assert said.tokens_prompt == inputs["input_ids"].shape[1]


def plain_beams(engine: BeamEngine, prompt: str, image: Image.Image, width: int, steps: int) -> list[int]:
    """The best answer's tokens: 2 · width candidates a step, those that end among the best ``width`` are finished."""
    inputs = engine.processor(text=[prompt], images=[[image]], return_tensors="pt", add_special_tokens=False)
    start, end = inputs["input_ids"], engine.processor.tokenizer.eos_token_id
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for _ in range(steps):
        grown = []
        for logp, said in alive:
            ids = torch.cat([start, torch.tensor([said], dtype=torch.long)], dim=1)
            with torch.inference_mode():
                logits = engine.model(
                    input_ids=ids, pixel_values=inputs["pixel_values"], attention_mask=torch.ones_like(ids)
                ).logits[0, -1]
            grown += [(logp + float(v), [*said, k]) for k, v in enumerate(logits.log_softmax(dim=-1))]
        grown.sort(reverse=True)
        finished += [(logp / len(said), said) for logp, said in grown[:width] if said[-1] == end]
        alive = [one for one in grown[: 2 * width] if one[1][-1] != end][:width]
    finished += [(logp / len(said), said) for logp, said in alive]
    return max(finished)[1]


def test_beams_equal_a_search_written_down_plainly(model: str) -> None:
    engine = engine_of(model, width=3)
    # An end token that is likely enough to end some beams.
    with torch.no_grad():
        weight = engine.model.get_output_embeddings().weight
        weight[engine.processor.tokenizer.eos_token_id] = weight.mean(dim=0)
    for prompt, image in zip(prompts_of(engine, True), pictures(), strict=True):
        (said,) = ask(engine, [prompt], [image], Sampling(max_tokens=4))
        wanted = plain_beams(engine, prompt, image, 3, 4)
        assert isinstance(said, Completion)
        assert said.text == engine.processor.tokenizer.decode(wanted, skip_special_tokens=True)
        assert said.tokens_completion == len(wanted)


def test_one_beam_is_greedy_and_a_checkpoints_own_sampling_is_left_out(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    settings = {
        "repetition_penalty": 5.0,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.8,
        "eos_token_id": 2,
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    engine = engine_of(str(folder), width=1)
    prompt, image = prompts_of(engine, True)[0], pictures()[0]
    (said,) = ask(engine, [prompt], [image], Sampling(max_tokens=5))
    wanted = plain_beams(engine, prompt, image, 1, 5)
    assert isinstance(said, Completion)
    assert said.text == engine.processor.tokenizer.decode(wanted, skip_special_tokens=True)


def test_limits_stops_and_prompts_that_do_not_fit(model: str) -> None:
    engine = engine_of(model, width=2)
    long = engine.render_chat([Turn(role="user", text="word " * 400)], has_image=True)
    short = prompts_of(engine, True)[0]
    said = ask(engine, [long, short], pictures()[:2], Sampling(max_tokens=8))
    assert isinstance(said[0], RequestError) and "max_model_len" in str(said[0])
    assert isinstance(said[1], Completion) and said[1].finish_reason == "length"
    whole = said[1].text
    # Where the context leaves less room than max_tokens, the answer ends there.
    (capped,) = ask(engine, [short], pictures()[1:2], Sampling(max_tokens=10_000))
    assert isinstance(capped, Completion)
    assert capped.tokens_prompt + capped.tokens_completion <= 256
    stop = whole.strip()[1:3]
    (stopped,) = ask(engine, [short], pictures()[1:2], Sampling(max_tokens=8, stop=(stop,)))
    assert isinstance(stopped, Completion)
    assert stopped.text == whole[: whole.index(stop)] and stopped.finish_reason == "stop"


def test_what_beams_cannot_do_names_the_way_out(model: str) -> None:
    with pytest.raises(UserError, match="checkpoint's folder"):
        BeamEngine(EngineConfig(backend="openai", base_url="http://there/v1"), Beams())
    with pytest.raises(UserError, match="holds no config"):
        BeamEngine(EngineConfig(model=str(Path(model).parent)), Beams())
    engine = engine_of(model)
    (said,) = ask(engine, ["?"], [None], Sampling(temperature=0.5))
    assert isinstance(said, UserError) and "temperature 0" in str(said)
    with pytest.raises(UserError, match="backend vllm"):
        asyncio.run(engine.score("?", "!"))


def test_the_pool_answers_with_it_as_with_any_engine(model: str, gold: GoldSet) -> None:
    chunk = select(gold, [TASKS["caption"], TASKS["color"]], 3, 100)[0]
    config = EngineConfig(model=model, max_model_len=256)
    job = Job(uri="", name="m", revision="r", text="t", gold=gold, engine=config)
    rows, _ = asyncio.run(answer_chunk(engine_of(model, width=2), job, chunk, {}))
    assert len(rows) == len(chunk.picks)
    assert all(row["state"] == "accepted" and row["tokens_completion"] > 0 for row in rows)
    assert Beams().name != Beams(width=4).name != Beams(length_penalty=math.e).name
