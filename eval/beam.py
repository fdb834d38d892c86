"""Beam search as an engine: what a protocol that names beams (CHAIR: 5) is written with.

transformers' own search, batched, since the papers' numbers were made with it. vLLM 0.29 has one too, and it runs
with pictures, on CPU as well; but it divides a beam's score by the length of prompt and answer together, so that its
length penalty hardly acts. On the starter both found the same four descriptions, vLLM in 7.0 s, transformers one by
one in 6.7 s (2 cores shared with other work): it asks its engine anew for every token of every beam.

The log probabilities, the stop at the end token, and the length penalty are those of transformers; settings for
sampling that a checkpoint brings along (temperature, repetition penalty) are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from datagen.engine import Completion, EngineConfig, EngineDead, RequestError, Score
from datagen.records import Sampling, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

BEAMS = 5


@dataclass(frozen=True, kw_only=True)
class Beams:
    """How to search: ``width`` beams, scores divided by (tokens of the answer) ** ``length_penalty``; ``batch`` calls
    share the passes.
    """

    width: int = BEAMS
    length_penalty: float = 1.0
    batch: int = 8

    @property
    def name(self) -> str:
        """What it is called in keys and settings, so that no greedy answer is taken for one of beams."""
        return f"beams{self.width}-{self.length_penalty:g}"


@dataclass(frozen=True, eq=False, kw_only=True)
class _Call:
    prompt: str
    image: Image | None
    sampling: Sampling
    done: asyncio.Future[Completion]

    @property
    def kind(self) -> tuple[bool, Sampling]:
        """What calls of one batch have in common."""
        return self.image is None, self.sampling


class BeamEngine:
    """See `datagen.engine.Engine`; a model of transformers in this process, on the GPU where there is one."""

    def __init__(self, config: EngineConfig, beams: Beams) -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

        from cluster.models import local_folder
        from datagen.chat import ChatTemplate

        if config.backend != "vllm":
            raise UserError(
                "beam search needs the weights here: an OpenAI-compatible server has none. Give the "
                "checkpoint's folder as engine.model with backend vllm, or ask this task without beams"
            )
        self.config, self.beams = config, beams
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = local_folder(config.model)
        on_cpu = self.device.type == "cpu"
        dtype: Any = "float32" if on_cpu and config.dtype == "auto" else config.dtype
        try:
            self.processor = AutoProcessor.from_pretrained(folder)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"{config.model}: transformers cannot load it for beam search: {error}"
            ) from error
        self.model = loaded.to(self.device).eval()
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"
        ends = self.model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = {ends} if isinstance(ends, int) else set(ends)
        # What a search does not set, generate would take from here.
        self.model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends), pad_token_id=tokenizer.pad_token_id
        )
        self._template = ChatTemplate.load(folder, self.processor.image_token)
        self._waiting: list[_Call] = []
        self._searching: asyncio.Task[None] | None = None
        self.running, self.slots = 0, beams.batch

    def render_chat(self, turns: Sequence[Turn], *, has_image: bool, cut_after_image: bool = False) -> str:
        """See `Engine`."""
        return self._template.render(turns, has_image=has_image, cut_after_image=cut_after_image)

    def after_instruction(self) -> str:
        """See `Engine`."""
        return self._template.after_instruction()

    def before_answer(self) -> str:
        """See `Engine`."""
        return self._template.before_answer()

    async def complete(
        self,
        prompt: str,
        image: Image | None,
        image_id: str | None,
        sampling: Sampling,
        logprobs: bool = False,
        regex: str = "",
    ) -> Completion:
        """See `Engine`. Calls that wait at the same time are searched together.

        Raises:
            UserError: a temperature, a form, or log probabilities are asked for; beams know none of these.
        """
        if sampling.temperature > 0 or regex or logprobs:
            raise UserError(
                "beam search draws nothing at random, keeps no form and returns no log probabilities: "
                "ask it with temperature 0, without regex and logprobs, or use backend vllm without beams"
            )
        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(prompt=prompt, image=image, sampling=sampling, done=done))
        if self._searching is None or self._searching.done():
            self._searching = asyncio.create_task(self._search_all())
        return await done

    async def score(
        self, prompt: str, continuation: str, image: Image | None = None, image_id: str | None = None
    ) -> Score:
        """Not offered; `eval.optionlikelihood` reads given texts."""
        raise UserError("an engine of beam search scores no given texts: use backend vllm")

    def close(self) -> None:
        """See `Engine`."""
        del self.model

    async def _search_all(self) -> None:
        await asyncio.sleep(0)  # whoever asks in the same moment comes along
        while self._waiting:
            kind = self._waiting[0].kind
            calls = [call for call in self._waiting if call.kind == kind][: self.beams.batch]
            self._waiting = [call for call in self._waiting if call not in calls]
            self.running = len(calls)
            try:
                found: Sequence[Completion | Exception] = await asyncio.to_thread(self._search, calls)
            except (RuntimeError, ValueError) as error:  # memory, or a picture that the processor refuses
                found = [EngineDead(f"beam search: {error}")] * len(calls)
            self.running = 0
            for call, one in zip(calls, found, strict=True):
                if call.done.cancelled():
                    continue
                if isinstance(one, Exception):
                    call.done.set_exception(one)
                else:
                    call.done.set_result(one)

    def _search(self, calls: Sequence[_Call]) -> list[Completion | Exception]:
        """Answers to calls of one kind, in order."""
        import torch
        from transformers import GenerationConfig

        sampling = calls[0].sampling
        inputs, lengths = self._inputs(calls)
        limits = [min(sampling.max_tokens, self.config.max_model_len - length) for length in lengths]
        if len({*limits}) > 1 or limits[0] < 1:
            return self._by_limit(calls, limits)
        settings = GenerationConfig(
            num_beams=self.beams.width,
            length_penalty=self.beams.length_penalty,
            do_sample=False,
            max_new_tokens=limits[0],
        )
        with torch.inference_mode():
            written = self.model.generate(**inputs, generation_config=settings)
        new = written[:, inputs["input_ids"].shape[1] :].tolist()
        return [self._completion(ids, length, sampling) for ids, length in zip(new, lengths, strict=True)]

    def _inputs(self, calls: Sequence[_Call]) -> tuple[Any, list[int]]:
        """What the model reads, and how many tokens each prompt has with its picture's."""
        settings: dict[str, Any] = {"return_tensors": "pt", "padding": True, "add_special_tokens": False}
        texts = [call.prompt for call in calls]
        if calls[0].image is None:
            inputs = self.processor.tokenizer(texts, **settings)
        else:
            pictures = [[call.image.convert("RGB")] for call in calls if call.image]
            inputs = self.processor(text=texts, images=pictures, **settings)
            if hasattr(self.model.base_model, "get_rope_index"):
                kinds = inputs["input_ids"].eq(self.model.config.image_token_id).int()
                inputs["mm_token_type_ids"] = kinds
            inputs = inputs.to(dtype=self.model.dtype)
        return inputs.to(self.device), inputs["attention_mask"].sum(dim=1).tolist()

    def _by_limit(self, calls: Sequence[_Call], limits: Sequence[int]) -> list[Completion | Exception]:
        """As `_search`, where the context leaves calls unequal numbers of new tokens, or none."""
        limit = self.config.max_model_len
        out: list[Completion | Exception] = [
            RequestError(f"the prompt fills engine.max_model_len {limit}") for _ in calls
        ]
        for new in {*limits}:
            if new > 0:
                places = [place for place, its in enumerate(limits) if its == new]
                for place, one in zip(places, self._search([calls[p] for p in places]), strict=True):
                    out[place] = one
        return out

    def _completion(self, ids: list[int], length: int, sampling: Sampling) -> Completion:
        end = next((k for k, token in enumerate(ids) if token in self._ends), None)
        text = self.processor.tokenizer.decode(ids[:end], skip_special_tokens=True)
        stops = [place for stop in sampling.stop if (place := text.find(stop)) >= 0]
        return Completion(
            text=text[: min(stops)] if stops else text,
            tokens_prompt=length,
            tokens_completion=len(ids) if end is None else end + 1,
            finish_reason="length" if end is None and not stops else "stop",
        )
