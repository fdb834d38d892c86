"""Multiple choice by likelihood as rows of results: one per question, the numbers in its ``meta``.

``meta["loglikelihoods"]`` holds a number per option, ``meta["option_tokens"]`` how many tokens each is of; scorers
(`eval.scorers.likelihoods`) decide from these. ``prediction`` is the likeliest option, for those who read rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from cluster.datasets import commit_shard
from cluster.errors import UserError
from eval.config import GoldSet
from eval.optionlikelihood import Asked, OptionReader, Told
from eval.results import RESULT_SCHEMA, answer_of, shard_scores
from eval.samples import Chunk, Pictured, load
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


class OptionWorker:
    """Ray Data actor; a batch is one chunk of one job. Jobs come one after another, so a model is loaded once."""

    def __init__(self, jobs: Sequence[OptionJob], chunks: Sequence[Sequence[Chunk]]) -> None:
        self.jobs, self.chunks = jobs, chunks
        self.loaded: tuple[str, OptionReader] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Read, score and commit the chunks of the batch (one)."""
        work = [
            (self.jobs[int(j)], self.chunks[int(j)][int(k)])
            for j, k in zip(batch["job"], batch["index"], strict=True)
        ]
        return {"samples": [len(chunk.picks) for _, chunk in work], "error": [self._chunk(*w) for w in work]}

    def _chunk(self, job: OptionJob, chunk: Chunk) -> str:
        """Returns what a user can put right; raised in here it would come out as a Ray traceback."""
        began = time.perf_counter()
        try:
            rows = rows_of(self._reader(job), job, load(job.gold, chunk))
        except UserError as error:
            return str(error)
        counts = {state: sum(r["state"] == state for r in rows) for state in ("accepted", "failed")}
        commit_shard(
            job.uri,
            chunk.index,
            {"rows": pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)},
            counts={state: n for state, n in counts.items() if n},
            tokens={part: sum(r[f"tokens_{part}"] for r in rows) for part in ("prompt", "completion")},
            seconds=time.perf_counter() - began,
            inputs=len(rows),
        )
        return ""

    def _reader(self, job: OptionJob) -> OptionReader:
        if self.loaded is None or self.loaded[0] != job.model:
            self.loaded = None  # frees the last model before the next one needs its memory
            self.loaded = (job.model, OptionReader(job.model, job.dtype, "cuda" if job.use_gpu else "cpu"))
        return self.loaded[1]


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
