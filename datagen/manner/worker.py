"""The actors of a measurement: the survey needs data only, the engine actor keeps several shards in work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa

from cluster.datasets import commit_shard
from cluster.errors import UserError
from datagen.engine import EngineDead, build_engine
from datagen.manner.config import MannerConfig
from datagen.manner.measure import ROW_SCHEMA, Gauge
from datagen.manner.prompts import load_manner_prompts
from datagen.manner.survey import COUNTED, in_sample, shard_answers, survey_shard


def survey_task(batch: dict[str, Any], config: dict[str, Any]) -> dict[str, list[Any]]:
    """Counts and hashes of the shards of a batch; what the user can put right comes back as ``error``."""
    wanted = MannerConfig.model_validate(config)
    out: dict[str, list[Any]] = {"counts": [], "hashes": [], "error": []}
    for shard in (int(k) for k in batch["shard"]):
        counts, hashes, error = Counter[str](), b"", ""
        try:
            found = shard_answers(wanted.instructions, wanted.before, shard)
            counts, smallest = survey_shard(found, rows=wanted.rows, seed=wanted.seed)
            hashes = smallest.tobytes()
        except UserError as problem:
            error = str(problem)
        out["counts"].append({key: counts[key] for key in COUNTED})
        out["hashes"].append(hashes)
        out["error"].append(error)
    return out


class MannerWorker:
    """Callable class for Ray Data: a batch is one shard index; rows are read and committed here and never travel
    through Ray."""

    def __init__(self, config: dict[str, Any], output: str, cutoff: str) -> None:
        self.config = MannerConfig.model_validate(config)
        self.output, self.cutoff = output, cutoff
        self.failure = ""
        try:
            inner = build_engine(self.config.inner)
            shared = self.config.judge_engine == self.config.inner or not self.config.pairwise
            self.gauge = Gauge(
                config=self.config,
                prompts=load_manner_prompts(self.config.prompt_set),
                inner=inner,
                judge=inner if shared else build_engine(self.config.judge_engine),
                lead=inner.before_answer(),
            )
        except UserError as error:
            # Raised in here it would come out as a Ray traceback; returned, the driver can say it in a line.
            self.failure = str(error)

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[Any]]]:
        """Measure the shards of a batch (one) and yield ``{"shard", "rows", "error"}`` for each."""
        for shard in (int(k) for k in batch["shard"]):
            rows, error = (0, self.failure) if self.failure else await self._shard(shard)
            yield {"shard": [shard], "rows": [rows], "error": [error]}

    async def _shard(self, shard: int) -> tuple[int, str]:
        try:
            answers = await asyncio.to_thread(self._answers, shard)
            rows = await asyncio.gather(*(self.gauge.measure(answer) for answer in answers))
        except UserError as error:
            return 0, str(error)
        except EngineDead as error:
            return 0, (
                f"an engine died at shard {shard}: {error}. Look for its own message above; a smaller max_num_seqs or "
                "max_model_len helps against too little memory. What is measured is kept: run the command again."
            )
        table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
        failed = sum(bool(row["failure"]) for row in rows)
        await asyncio.to_thread(
            commit_shard,
            self.output,
            shard,
            {"rows": table},
            counts={"measured": len(rows) - failed, "failed": failed},
            inputs=len(answers),
        )
        return len(rows), ""

    def _answers(self, shard: int) -> list[Any]:
        found = shard_answers(self.config.instructions, self.config.before, shard)
        return [a for a in found if in_sample(a, seed=self.config.seed, cutoff=self.cutoff)]
