"""Engines: one awaitable call per completion (contract 3).

Programs see only `Engine`. `VLLMEngine` holds vLLM's AsyncLLM in this process; `OpenAIEngine`
(engine_openai.py) talks to a server somewhere else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, field_validator

from cluster.config import Config
from cluster.errors import UserError
from datagen.records import Sampling, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

START_ATTEMPTS = 3
# How vLLM says that a process of its engine ended by a signal while it started: {'EngineCore': -9}.
_SIGNALLED = re.compile(r"': -\d")
log = logging.getLogger(__name__)


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


class VLLMEngine:
    """vLLM's AsyncLLM in this process. Construction takes 20 to 30 s on CPU: build once, give it all the
    work.

    Raises:
        UserError: the model cannot be found or has no chat template, or vLLM does not start with it.
    """

    def __init__(self, config: EngineConfig) -> None:
        from cluster.models import resolve_model
        from datagen.chat import ChatTemplate
        from datagen.engine_guard import Guard, engine_children

        self.config = config
        self.model = resolve_model(config.model)
        self._template = ChatTemplate.load(self.model, config.image_placeholder)
        self._engine = started(lambda: _start_vllm(self.model, config), config.model)
        self._guard = Guard(engine_children())
        # More than a full batch waits inside vLLM so that it never runs dry, but not so many that rows
        # admitted early wait behind rows admitted late.
        self._admission = asyncio.Semaphore(config.max_num_seqs + max(4, config.max_num_seqs // 4))
        self._numbers = itertools.count()
        self.running, self.slots = 0, config.max_num_seqs

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
        """See `Engine`."""
        request = self._request(self._template.encode(prompt), image, image_id)
        ends = self._template.stop_tokens(sampling.stop)
        final = await self._generate(request, _vllm_sampling(sampling, logprobs, regex, ends))
        written = final.outputs[0]
        return Completion(
            text=written.text,
            tokens_prompt=len(final.prompt_token_ids or ()),
            tokens_cached=final.num_cached_tokens or 0,
            tokens_completion=len(written.token_ids),
            finish_reason=written.finish_reason or "abort",
            cumulative_logprob=written.cumulative_logprob if logprobs else None,
        )

    async def score(
        self, prompt: str, continuation: str, image: Image | None = None, image_id: str | None = None
    ) -> Score:
        """See `Engine`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        before = self._template.encode(prompt)
        said = self._template.encode(self._template.harmless(continuation))
        if not said:
            raise RequestError("nothing to score: the continuation is empty")
        final = await self._generate(
            self._request(before + said, image, image_id),
            # vLLM always writes at least one token; it is thrown away.
            SamplingParams(
                max_tokens=1, temperature=0.0, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY
            ),
        )
        # The image has been expanded in front of the continuation, so positions count from the end.
        entries = final.prompt_logprobs[-len(said) :]
        return Score(
            tokens=len(said),
            logprob=sum(entry[token].logprob for entry, token in zip(entries, said, strict=True)),
            tokens_prompt=len(final.prompt_token_ids or ()),
        )

    def _request(self, tokens: list[int], image: Image | None, image_id: str | None) -> dict[str, Any]:
        request: dict[str, Any] = {"prompt_token_ids": tokens}
        if image is not None:
            request["multi_modal_data"] = {"image": [image]}
            request["multi_modal_uuids"] = {"image": [image_id]}
        return request

    async def _generate(self, request: dict[str, Any], sampling: Any) -> Any:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        final = None
        async with self._admission:
            self.running += 1
            try:
                # Leaving the loop early makes vLLM abort the request.
                async with asyncio.timeout(self.config.timeout_s):
                    async for output in self._engine.generate(request, sampling, f"r{next(self._numbers)}"):
                        final = output
            except TimeoutError as error:
                raise RequestError(f"no answer within {self.config.timeout_s:g} s") from error
            except EngineDeadError as error:
                raise EngineDead(str(error)) from error
            except (VLLMClientError, EngineGenerateError) as error:
                cause = str(error.__cause__ or error)
                if self._engine.errored:
                    raise EngineDead(cause) from error
                raise RequestError(cause) from error
            finally:
                self.running -= 1
        if final is None:
            raise RequestError("the engine gave no output")
        return final

    def close(self) -> None:
        """See `Engine`."""
        self._engine.shutdown()
        self._guard.release()


def _vllm_sampling(sampling: Sampling, logprobs: bool, regex: str, stop_tokens: Sequence[int] = ()) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        stop_token_ids=list(stop_tokens),
        # A seed costs a generator per request and greedy decoding needs none.
        seed=sampling.seed if sampling.temperature > 0 else None,
        logprobs=0 if logprobs else None,
        structured_outputs=StructuredOutputsParams(regex=regex) if regex else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def started(start: Callable[[], Any], model: str) -> Any:
    """What ``start`` makes. Where a signal ended the engine's process meanwhile, as when the system needs memory, it is
    asked again; Ray Data would end the whole run.

    Raises:
        UserError: it does not start.
    """
    for attempt in range(START_ATTEMPTS):
        try:
            return start()
        except (RuntimeError, ValueError, OSError) as error:  # ValueError: settings that it refuses
            if not _SIGNALLED.search(str(error)) or attempt + 1 == START_ATTEMPTS:
                raise UserError(
                    f"{model}: vLLM's engine does not start: {error} Its own message stands above, or in Ray's log of "
                    "the worker. Against too little memory helps a smaller max_model_len or max_num_seqs, or fewer "
                    "engines on a node."
                ) from error
            log.warning("%s: the engine was killed while it started; once more", model)
    raise AssertionError("not reached")


def _start_vllm(model: str, config: EngineConfig) -> Any:
    # vLLM reads its variables when it is imported; what a user has set stands.
    for name, value in {
        "VLLM_CPU_KVCACHE_SPACE": str(config.cpu_kv_cache_gib),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
    if config.cpu_threads and "VLLM_CPU_OMP_THREADS_BIND" not in os.environ:
        # Bound threads wait for one another at every operation: with a training on the same two cores they made
        # 7 calls/s with the starter, one free thread 150.
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["OMP_NUM_THREADS"] = str(config.cpu_threads)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    on_cpu = current_platform.is_cpu()
    special = _on_cpu(config) if on_cpu else {"gpu_memory_utilization": config.gpu_memory_utilization}
    return AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=model,
            dtype="float32" if on_cpu and config.dtype == "auto" else config.dtype,  # type: ignore[arg-type]
            enforce_eager=on_cpu if config.enforce_eager is None else config.enforce_eager,
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=max(2048, config.max_model_len) if on_cpu else None,
            tensor_parallel_size=config.tensor_parallel_size,
            enable_prefix_caching=True,
            limit_mm_per_prompt={"image": 1},
            # vLLM's own auto would fall back to pickled weights.
            load_format="safetensors" if config.load_format == "auto" else config.load_format,
            trust_remote_code=False,
            disable_log_stats=True,
            enable_log_requests=False,
            use_tqdm_on_load=False,
            **special,
        )
    )


def _on_cpu(config: EngineConfig) -> dict[str, Any]:
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    # By default blocks have 128 tokens, and only whole blocks are shared: with short prompts nothing would ever come
    # from the prefix cache. 32 is the smallest fast size.
    # vLLM 0.29 takes back the random number of a prompt that it computed in part, and torch's CPU generator cannot: the
    # engine died when a sampled call with a seed was the one that no longer fitted into a step.
    settings: dict[str, Any] = {"block_size": 32, "enable_chunked_prefill": False}
    if config.cpu_threads and config.tensor_parallel_size == 1:
        # The model in the engine's own process. By its name vLLM refuses that, since it cannot bind threads then; ours
        # are counted and not bound. Two processes that wait for one another at every step took both cores of two.
        settings["distributed_executor_backend"] = UniProcExecutor
    return settings


def build_engine(config: EngineConfig) -> Engine:
    """The engine that a config names.

    Raises:
        UserError: unknown model, no chat template, or a server without an address.
    """
    if config.backend == "openai":
        from datagen.engine_openai import OpenAIEngine

        return OpenAIEngine(config)
    return VLLMEngine(config)
