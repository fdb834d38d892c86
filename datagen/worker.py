"""The actor of the engine pool: owns the engines, keeps several shards in work, commits each as it ends."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from cluster.datasets import commit_shard, read_shard
from cluster.errors import UserError
from datagen.config import ROLES, DatagenConfig
from datagen.corpus import CORPUS_SCHEMA
from datagen.engine import Engine, EngineConfig, EngineDead, build_engine
from datagen.programs.draft import outcome
from datagen.prompts import load_prompts
from datagen.records import Record
from datagen.shard import ShardRunner

REPORT_EVERY_S = 1.0


class ShardWorker:
    """Callable class for Ray Data: a batch is one shard index, the answer its statistics. The shard's rows
    never travel through Ray: they are read here, and committed from here as soon as the shard is done.
    """

    def __init__(self, config: dict[str, Any], revision: str, ledger: Any) -> None:
        self.config = DatagenConfig.model_validate(config)
        self.ledger = ledger
        self.failure = ""
        self.engines: dict[str, Engine] = {}
        try:
            self.engines = build_engines(self.config)
            self.prompts = load_prompts(self.config.prompt_set)
        except UserError as error:
            # Raised in here it would come out as a Ray traceback; returned, the driver can say it in a line.
            self.failure = str(error)
        # Twice as many drafts as fit a batch keep it full; more would only make the first rows end later.
        batch = max(self.config.engines.of(role).max_num_seqs for role in ROLES)
        rows = self.config.rows_in_flight or -(-2 * batch // self.config.drafts_per_image)
        self.runner = (
            ShardRunner(
                config=self.config,
                prompts=self.prompts,
                engines=self.engines,
                revision=revision,
                admission=asyncio.Semaphore(rows),
                progress=self._report,
            )
            if not self.failure
            else None
        )
        self._unreported: Counter[str] = Counter()
        self._last_report = time.monotonic()

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[Any]]]:
        """Run the shards of a batch (one) and yield ``{"shard", "error"}`` for each."""
        for shard in (int(k) for k in batch["shard"]):
            yield {"shard": [shard], "error": [self.failure or await self._shard(shard)]}

    async def _shard(self, shard: int) -> str:
        assert self.runner is not None
        deaths = await self.ledger.begin.remote(shard)
        if deaths >= self.config.engine_deaths:
            return (
                f"shard {shard} has lost its engine {deaths} times. Look for the engine's own message above; "
                "a smaller max_num_seqs or max_model_len helps against too little memory, rows_in_flight=1 "
                "finds a bad row."
            )
        try:
            table = await asyncio.to_thread(read_shard, self.config.corpus, shard, schema=CORPUS_SCHEMA)
            result = await self.runner.run(shard, table)
        except UserError as error:
            return str(error)
        except EngineDead as error:
            # The actor ends with its engine; Ray starts another and hands it the unfinished shards.
            print(f"engine died at shard {shard}: {error}", file=sys.stderr, flush=True)
            await self.ledger.add.remote({"engine_deaths": 1})
            os._exit(1)
        await asyncio.to_thread(
            commit_shard,
            self.config.output,
            shard,
            result.tables(),
            counts=result.counts(),
            tokens=result.tokens(),
            seconds=result.seconds,
            inputs=result.started,
        )
        self._flush()
        await self.ledger.finish.remote(shard)
        return ""

    def _report(self, records: list[Record]) -> None:
        self._unreported["images"] += 1
        self._unreported["calls"] += sum(r.calls for r in records)
        for record in records:
            self._unreported[outcome(record.state, record.reason)] += 1
        if time.monotonic() - self._last_report > REPORT_EVERY_S:
            self._flush()

    def _flush(self) -> None:
        self._last_report = time.monotonic()
        if self._unreported:
            self.ledger.add.remote(dict(self._unreported))
            self._unreported.clear()


def build_engines(config: DatagenConfig) -> dict[str, Engine]:
    """An engine for every role; roles with equal settings share one."""
    built: dict[EngineConfig, Engine] = {}
    for role in ROLES:
        wanted = config.engines.of(role)
        if wanted not in built:
            built[wanted] = build_engine(wanted)
    return {role: built[config.engines.of(role)] for role in ROLES}
