"""Engines: one awaitable call per completion (contract 3).

Programs see only `Engine`. `VLLMEngine` (engine_vllm.py) holds vLLM's AsyncLLM in this process; `OpenAIEngine`
(engine_openai.py) talks to a server somewhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field, field_validator

from cluster.config import Config
from datagen.records import Sampling, Turn

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What one call gave. ``finish_reason`` is ``stop`` or ``length`` (cut by ``max_tokens`` or the
    context).
    """

    text: str
    tokens_prompt: int = 0
    tokens_cached: int = 0
    tokens_completion: int = 0
    finish_reason: str = "stop"
    cumulative_logprob: float | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """Teacher-forced log likelihood of a continuation: ``logprob`` is the sum over its ``tokens`` tokens, in nats."""

    tokens: int
    logprob: float
    tokens_prompt: int = 0


class RequestError(ValueError):
    """This request cannot be served (prompt too long, bad image …); the engine lives on and the row fails."""


class EngineDead(RuntimeError):
    """The engine is gone; whoever owns it must be restarted and its unfinished shards redone."""


class EngineConfig(Config):
    """How to run one model. Equal configs share one engine."""

    backend: Literal["vllm", "openai"] = "vllm"
    model: str = Field(
        default="starter", description="starter, starter-base, a local folder, s3:// or a hub name"
    )
    max_model_len: int = Field(
        default=512, description="prompt and answer together, in tokens, image tokens included"
    )
    max_num_seqs: int = Field(
        default=64, description="sequences in one batch; also sizes the admission of calls"
    )
    gpu_memory_utilization: float = Field(
        default=0.9, description="share of one GPU's memory; give two engines 0.45 each"
    )
    tensor_parallel_size: int = 1
    dtype: str = Field(default="auto", description="auto is float32 on CPU and the checkpoint's own on GPU")
    enforce_eager: bool | None = Field(default=None, description="None: eager on CPU, CUDA graphs on GPU")
    cpu_threads: int | None = Field(default=1, description="only on CPU; None: vLLM binds one to every core")
    cpu_kv_cache_gib: int = Field(default=1, description="only on CPU")
    load_format: Literal[
        "auto", "safetensors", "fastsafetensors", "instanttensor", "runai_streamer", "dummy"
    ] = Field(default="auto", description="auto is safetensors; formats that unpickle are not offered")
    image_placeholder: str = Field(default="<image>", description="for chat templates that take plain text")
    timeout_s: float = Field(
        default=600.0, gt=0, description="a call that takes longer once the engine has it fails its row"
    )
    base_url: str = Field(default="", description="openai: address of the server, ending in /v1")
    api_key_env: str = Field(
        default="OPENAI_API_KEY", description="openai: name of the variable that holds the key"
    )
    retries: int = Field(
        default=4,
        ge=1,
        description="openai: attempts at a call, with growing pauses, before the server counts as dead",
    )
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="openai: the server's limit; calls are spaced to keep it"
    )

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        """Configs are written into every manifest."""
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "a name or password in an address would be stored with every output; use api_key_env"
            )
        return url


class Engine(Protocol):
    """A prompt is the text that the same engine's ``render_chat`` gave; other engines may not read it.

    ``running`` is how many calls are in work, ``slots`` how many fit a batch.
    """

    running: int
    slots: int

    def render_chat(self, turns: Sequence[Turn], *, has_image: bool, cut_after_image: bool = False) -> str:
        """The prompt for the next assistant turn; ``cut_after_image``: for the user's own words after the
        image.
        """
        ...

    def after_instruction(self) -> str:
        """Text that ends a user's instruction in the template (`` ASSISTANT:``), the stop string of
        bootstrapping.
        """
        ...

    def before_answer(self) -> str:
        """Text between the prompt that ``render_chat`` gives and the answer in the template, often none: an answer to
        be scored is ``before_answer() + answer``.
        """
        ...

    async def complete(
        self,
        prompt: str,
        image: Image | None,
        image_id: str | None,
        sampling: Sampling,
        logprobs: bool = False,
        regex: str = "",
    ) -> Completion:
        """One completion.

        Args:
            image_id: content hash of the image; later calls with it hit the processor, encoder and prefix
                caches.
            logprobs: also sum the log probabilities of the tokens written.
            regex: form that the text must have, enforced while decoding.

        Raises:
            RequestError: this request cannot be served, or took longer than ``timeout_s``.
            EngineDead: the engine is gone.
        """
        ...

    async def score(
        self, prompt: str, continuation: str, image: Image | None = None, image_id: str | None = None
    ) -> Score:
        """log p(continuation | prompt, image), by one prefill and no generation.

        Raises:
            RequestError: this request cannot be served, an empty continuation among others.
            EngineDead: the engine is gone.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def build_engine(config: EngineConfig) -> Engine:
    """The engine that a config names.

    Raises:
        UserError: unknown model, no chat template, or a server without an address.
    """
    if config.backend == "openai":
        from datagen.engine_openai import OpenAIEngine

        return OpenAIEngine(config)
    from datagen.engine_vllm import VLLMEngine

    return VLLMEngine(config)
