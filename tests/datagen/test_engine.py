"""The real vLLM engine on a tiny random model: pictures, text, caching, truncation, refusals."""

from __future__ import annotations

import asyncio
import io
import re

import pytest
from PIL import Image

from cluster.errors import UserError
from datagen.engine import EngineConfig, RequestError
from datagen.engine_vllm import START_ATTEMPTS, VLLMEngine, started
from datagen.records import Sampling, Turn
from tests.datagen.conftest import png


def picture(seed: int) -> Image.Image:
    return Image.open(io.BytesIO(png(seed))).convert("RGB")


@pytest.mark.parametrize(("ends", "asked"), [([-9], 2), ([-9, -15], 3), ([-9, -9, -9], 3), ([1], 1)])
def test_an_engine_that_is_killed_while_it_starts(ends: list[int], asked: int) -> None:
    """The sentence is vLLM 0.29's; `tests/chaos` (engine-of-vllm) kills a real one."""
    left, tries = iter(ends), 0

    def start() -> str:
        nonlocal tries
        tries += 1
        if (code := next(left, None)) is not None:
            raise RuntimeError(
                "Engine core initialization failed. See root cause above. Failed core proc(s): "
                f"{{'EngineCore': {code}}}"
            )
        return "engine"

    if len(ends) < START_ATTEMPTS and ends[0] < 0:
        assert started(start, "m") == "engine"
    else:
        with pytest.raises(UserError, match=r"m: vLLM's engine does not start: .*smaller max_model_len"):
            started(start, "m")
    assert tries == asked


def test_settings_that_vllm_refuses_are_a_sentence() -> None:
    with pytest.raises(UserError, match=r"(?s)^starter: vLLM's engine does not start: .*max_model_len"):
        VLLMEngine(EngineConfig(model="starter", max_model_len=4096))


def test_vllm_engine(tiny_model: str) -> None:
    engine = VLLMEngine(EngineConfig(model=tiny_model, max_model_len=512, max_num_seqs=32))
    asked = [Turn(role="user", text="Is there a red circle? " * 8)]
    with_image = engine.render_chat(asked, has_image=True)
    assert with_image == "USER: <image>\n" + asked[0].text + " ASSISTANT:"
    assert engine.render_chat(asked, has_image=False) == "USER: " + asked[0].text + " ASSISTANT:"
    assert engine.render_chat([], has_image=True, cut_after_image=True) == "USER: <image>\n"
    assert "<image>" not in engine.render_chat([Turn(role="user", text="an <image> tag")], has_image=False)
    assert engine.after_instruction() == " ASSISTANT:"

    async def calls() -> None:
        greedy = Sampling(max_tokens=8)
        first = await engine.complete(with_image, picture(1), "one", greedy, logprobs=True)
        assert first.finish_reason == "length"
        assert first.tokens_completion == 8
        assert first.cumulative_logprob is not None and first.cumulative_logprob < 0
        again = await engine.complete(with_image, picture(1), "one", greedy)
        assert again.text == first.text
        assert again.tokens_cached >= 32, "the prompt behind a known image uuid comes from the prefix cache"
        assert again.cumulative_logprob is None

        other = await engine.complete(with_image, picture(2), "two", greedy)
        assert other.tokens_cached < again.tokens_cached, "another image must not hit the first one's cache"

        text = await engine.complete(engine.render_chat(asked, has_image=False), None, None, greedy)
        assert text.tokens_prompt < first.tokens_prompt

        warm = Sampling(seed=7, temperature=1.0, max_tokens=8)
        drawn = await asyncio.gather(
            *(engine.complete(with_image, picture(1), "one", warm) for _ in range(3))
        )
        assert len({c.text for c in drawn}) == 1, "equal seeds draw equal texts"

        # More prompts than fit one step of the engine: one of them would be computed in two parts.
        crowd = [
            engine.render_chat([Turn(role="user", text=f"{k} " + "red " * 100)], has_image=True)
            for k in range(32)
        ]
        drawn = await asyncio.gather(
            *(engine.complete(text, picture(k), str(k), warm) for k, text in enumerate(crowd))
        )
        assert sum(c.tokens_prompt for c in drawn) > 2048 and all(c.tokens_completion == 8 for c in drawn)

        stopped = await engine.complete(
            with_image, picture(1), "one", Sampling(max_tokens=8, stop=(first.text[:1],))
        )
        assert stopped.finish_reason == "stop" and stopped.text == ""

        whole = await engine.score(with_image, first.text, picture(1), "one")
        # Decoding what was decoded may merge tokens: the likelihood is compared where the tokens are the same.
        if whole.tokens == first.tokens_completion:
            assert whole.logprob == pytest.approx(first.cumulative_logprob, abs=1e-3)
        likely = await engine.score(with_image, " yes yes", picture(1), "one")
        elsewhere = await engine.score(with_image, " yes yes", picture(2), "two")
        assert likely.tokens > 0 and likely.logprob < 0 and likely.logprob != elsewhere.logprob
        with pytest.raises(RequestError, match="empty"):
            await engine.score(with_image, "", picture(1), "one")

        form = r"(yes|no), [a-z]{3,5}"
        formed = await engine.complete(with_image, picture(1), "one", Sampling(max_tokens=40), regex=form)
        assert re.fullmatch(form, formed.text), "a random model would never write that on its own"

        patient, engine.config = engine.config, engine.config.model_copy(update={"timeout_s": 0.001})
        with pytest.raises(RequestError, match=r"no answer within 0\.001 s"):
            await engine.complete(with_image, picture(1), "one", Sampling(max_tokens=64))
        engine.config = patient
        assert engine.running == 0

        endless = engine.render_chat([Turn(role="user", text="far too long " * 200)], has_image=False)
        with pytest.raises(RequestError, match="maximum context length"):
            await engine.complete(endless, None, None, greedy)
        alive = await engine.complete(with_image, picture(1), "one", greedy)
        assert alive.text == first.text

    asyncio.run(calls())
    engine.close()
