"""The engine's likelihood of a text against the same model in transformers."""

from __future__ import annotations

import asyncio

import pytest

from datagen.engine import EngineConfig
from datagen.engine_vllm import VLLMEngine
from datagen.records import Turn

ANSWERS = [" red circle", " Answer: yes. It is a large red circle on the left!", " x"]


def test_score_is_the_log_softmax_of_transformers(tiny_model: str) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    engine = VLLMEngine(EngineConfig(model=tiny_model, max_model_len=256, max_num_seqs=4))
    asked = [Turn(role="user", text="Question: Is there a red circle?")]
    prompt = engine.render_chat(asked, has_image=False)
    assert engine.before_answer() == " ", "the starter's template puts a space before an answer"

    async def scores() -> list[tuple[int, float]]:
        found = await asyncio.gather(*(engine.score(prompt, answer) for answer in ANSWERS))
        return [(score.tokens, score.logprob) for score in found]

    found = asyncio.run(scores())
    engine.close()

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.float32).eval()
    for answer, (tokens, logprob) in zip(ANSWERS, found, strict=True):
        before = tokenizer(prompt, add_special_tokens=False).input_ids
        said = tokenizer(answer, add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([before + said])).logits[0]
        logprobs = logits.log_softmax(-1)[len(before) - 1 : -1]
        expected = logprobs.gather(1, torch.tensor(said)[:, None]).sum().item()
        assert tokens == len(said)
        assert logprob == pytest.approx(expected, abs=1e-3)
