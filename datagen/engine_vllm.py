"""vLLM's AsyncLLM in this process: how it is started, and its completions and scores as those of `Engine`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from cluster.models import resolve_model
from datagen.chat import ChatTemplate
from datagen.engine import Completion, EngineConfig, EngineDead, RequestError, Score
from datagen.engine_guard import Guard, engine_children
from datagen.records import Sampling, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

START_ATTEMPTS = 3
# How vLLM says that a process of its engine ended by a signal while it started: {'EngineCore': -9}.
_SIGNALLED = re.compile(r"': -\d")
log = logging.getLogger(__name__)


class VLLMEngine:
    """vLLM's AsyncLLM in this process. Construction takes 20 to 30 s on CPU: build once, give it all the
    work.

    Raises:
        UserError: the model cannot be found or has no chat template, or vLLM does not start with it.
    """

    def __init__(self, config: EngineConfig) -> None:
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


def started(start: Callable[[], Any], model: str, attempts: int = START_ATTEMPTS) -> Any:
    """What ``start`` makes. Where a signal ended the engine's process meanwhile, as when the system needs memory, it is
    asked again; Ray Data would end the whole run.

    Raises:
        UserError: it does not start.
    """
    try:
        return start()
    except (RuntimeError, ValueError, OSError) as error:  # ValueError: settings that it refuses
        if attempts == 1 or not _SIGNALLED.search(str(error)):
            raise UserError(
                f"{model}: vLLM's engine does not start: {error} Its own message stands above, or in Ray's log of the "
                "worker. Against too little memory helps a smaller max_model_len or max_num_seqs, or fewer engines on "
                "a node."
            ) from error
    log.warning("%s: the engine was killed while it started; once more", model)
    return started(start, model, attempts - 1)


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
