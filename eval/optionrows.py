"""Multiple choice by likelihood as rows of results: one per question, the numbers in its ``meta``.

``meta["loglikelihoods"]`` holds a number per option, ``meta["option_tokens"]`` how many tokens each is of; scorers
(`eval.scorers.likelihoods`) decide from these. ``prediction`` is the likeliest option, for those who read rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from eval.config import GoldSet
from eval.modelworker import ModelWorker
from eval.optionlikelihood import Asked, OptionReader, Told
from eval.results import RESULT_SCHEMA, answer_of, shard_scores
from eval.samples import Chunk, Pictured
from eval.scorers.choice import letter
from eval.tasks import TASKS, Sample

Framing = Literal["bare", "chat"]


@dataclass(frozen=True, kw_only=True)
class OptionJob:
    """One checkpoint on one gold set.

    ``revision`` names the weights, ``text`` the tokenizer and template. ``framing``: questions as bare text, as the
    benchmarks' authors ask base models, or in the chat template.
    """

    uri: str
    name: str
    revision: str
    text: str
    model: str
    gold: GoldSet
    batch: int = 16
    dtype: str = "float32"
    use_gpu: bool = False
    framing: Framing = "bare"


class OptionWorker(ModelWorker[OptionJob, OptionReader]):
    """Likelihoods of options."""

    tokens: ClassVar[dict[str, str]] = {"prompt": "tokens_prompt", "completion": "tokens_completion"}

    def schema(self) -> pa.Schema:
        """See `ModelWorker`."""
        return RESULT_SCHEMA

    def load(self, job: OptionJob, device: str) -> OptionReader:
        """See `ModelWorker`."""
        return OptionReader(job.model, job.dtype, device)

    def read(
        self, model: OptionReader, job: OptionJob, chunk: Chunk, items: list[Pictured]
    ) -> list[dict[str, Any]]:
        """See `ModelWorker`."""
        return rows_of(model, job, items)


def rows_of(reader: OptionReader, job: OptionJob, items: Sequence[Pictured]) -> list[dict[str, Any]]:
    """One row per sample, in order, parsed and scored."""
    asked = [
        reader.ask(i.sample.question, options_of(i.sample), i.image, chat=job.framing == "chat")
        for i in items
    ]
    told = [Told(error=f"image: {item.error}") if item.error else Told() for item in items]
    ready = [place for place, one in enumerate(told) if not one.error]
    for place, one in zip(ready, reader.read([asked[p] for p in ready], job.batch), strict=True):
        told[place] = one
    rows = [_row(job, *one) for one in zip(items, asked, told, strict=True)]
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        parsed, scores = shard_scores(TASKS[task], [answer_of(row) for row in mine])
        for row, said, score in zip(mine, parsed, scores, strict=True):
            row["parsed"], row["score"] = said, score
    return rows


def options_of(sample: Sample) -> tuple[str, ...]:
    """What is compared: the options, or their letters where the task asks for letters."""
    if TASKS[sample.task].ask != "letters":
        return sample.options
    return tuple(letter(k) for k in range(len(sample.options)))


def _row(job: OptionJob, item: Pictured, asked: Asked, told: Told) -> dict[str, Any]:
    sample = item.sample
    error = told.error or ("" if all(map(math.isfinite, told.logps)) else f"not finite: {told.logps}")
    meta = dict(sample.meta)
    if not error:
        meta |= {"loglikelihoods": told.logps, "option_tokens": told.tokens, "prompt_tokens_cut": told.cut}
    return {
        "sample_id": sample.id,
        "key": option_key(job, asked, item.image_sha),
        "model": job.name,
        "model_revision": job.revision,
        "task": sample.task,
        "image_id": sample.image_id,
        "prompt": asked.prompt,
        "prompt_sha": hashlib.sha256(asked.prompt.encode()).hexdigest(),
        "rule_version": TASKS[sample.task].version,
        "prediction": "" if error else options_of(sample)[int(np.argmax(told.logps))],
        "golds": list(sample.golds),
        "options": list(sample.options),
        "objects": list(sample.objects),
        "category": sample.category,
        "group": sample.group,
        "meta": json.dumps(meta),
        "state": "failed" if error else "accepted",
        "reason": error,
        "finish_reason": "error" if error else "stop",
        "tokens_prompt": told.prompt_tokens,
        "tokens_cached": 0,
        "tokens_completion": sum(told.tokens),
    }


def option_key(job: OptionJob, asked: Asked, image_sha: str) -> str:
    """Names one question's likelihoods for ever: weights, text, options, picture and precision; 20 hex digits."""
    parts = [job.revision, job.text, asked.prompt, *asked.options, image_sha, job.dtype]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]
