"""The actor of the engine pool: owns the engines, keeps several shards in work, commits each as it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import ray

from cluster import log as run_log
from cluster.datasets import commit_shard, is_committed, read_shard
from cluster.errors import UserError
from datagen import metrics
from datagen.config import ROLES, DatagenConfig
from datagen.corpus import CORPUS_SCHEMA
from datagen.engine import Engine, EngineConfig, EngineDead, build_engine
from datagen.gates.known import KnownSets
from datagen.ledger import Orders
from datagen.programs.draft import outcome
from datagen.programs.trial import Trial
from datagen.prompts import load_prompts
from datagen.records import RECORD_SCHEMA
from datagen.shard import RowReport, ShardInput, ShardResult, ShardRunner
from datagen.turns import Turns

REPORT_EVERY_S = 1.0
log = logging.getLogger(__name__)


class ShardWorker:
    """Callable class for Ray Data: a batch is one shard index, the answer its statistics. The shard's rows
    never travel through Ray: they are read here, and committed from here as soon as the shard is done.
    """

    def __init__(
        self, config: dict[str, Any], revision: str, frequencies: Mapping[str, int], ledger: Any
    ) -> None:
        self.config = DatagenConfig.model_validate(config)
        run_log.start(self.config.output)
        self.arms = self.config.variants()
        self.ledger = ledger
        self.name = uuid.uuid4().hex
        self.node = ray.get_runtime_context().get_node_id()
        self.turns = Turns()
        self.begun: set[int] = set()
        self.dying = False
        self.failure = ""
        self.engines: dict[str, Engine] = {}
        try:
            self.engines = build_engines(self.config)
            self.prompts = load_prompts(self.config.prompt_set)
            self.known = {
                sets: KnownSets(self.config.corpus, sets)
                for arm in self.arms.values()
                if (sets := arm.near_duplicate.known)
            }
        except UserError as error:
            # Raised in here it would come out as a Ray traceback; returned, the driver can say it in a line.
            self.failure = str(error)
            return
        # Twice as many drafts as fit a batch keep it full; more would only make the first rows end later.
        batch = max(self.config.engines.of(role).max_num_seqs for role in ROLES)
        drafts = 1 if self.config.instructions else self.config.drafts_per_image
        rows = self.config.rows_in_flight or -(-2 * batch // drafts)
        self.runner = ShardRunner(
            arms=self.arms,
            prompts=self.prompts,
            engines=self.engines,
            revision=revision,
            admission=asyncio.Semaphore(rows),
            frequencies=frequencies,
            progress=self._report,
        )
        patience = self.config.bootstrap.patience if self.config.program == "bootstrap" else 0
        self.trial = Trial(self.config.output, patience * len(self.arms))
        self._calls: Counter[str] = Counter()
        self._rows: dict[int, Counter[str]] = {}
        self._last_report = time.monotonic()

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[Any]]]:
        """Run the shards of a batch (one) and yield ``{"shard", "error"}`` for each."""
        for shard in (int(k) for k in batch["shard"]):
            with run_log.within(shard=shard):
                error = self.failure or await self._shard(shard)
            yield {"shard": [shard], "error": [error]}

    async def _shard(self, index: int) -> str:
        """Make a shard; "" or the message that ends the run."""
        try:
            if await asyncio.to_thread(self._is_made, index):
                # By another driver of this run, or by a worker that was killed right after it.
                await self.ledger.finish.remote(index)
                return ""
            shard = await asyncio.to_thread(self._read, index)
            self.begun.add(index)
            log.info("begun: %d rows", shard.rows)
            orders: Orders = await self.ledger.begin.remote(index, shard.rows, self.node)
            while orders.probe:
                async with self.turns.alone():
                    await self.ledger.trying.remote(index)
                    await self.runner.probe(index, shard, orders.probe)
                orders = await self.ledger.survived.remote(index)
            if orders.stop:
                return orders.stop
            async with self.turns.together():
                results = await self.runner.run(index, shard, orders.quarantined)
        except UserError as error:
            return str(error)
        except EngineDead as error:
            await self._die(index, error)
        try:
            for name, arm in self.arms.items():
                await asyncio.to_thread(_commit, arm.output, results[name])
                log.info(
                    "committed to %s in %.1f s: %s", arm.output, results[name].seconds, results[name].counts()
                )
        except (
            UserError
        ) as error:  # a full disk, a store that refuses; raised in here it would end in Ray's traceback
            return str(error)
        self._flush()
        metrics.shard(self.config.output, max(result.seconds for result in results.values()))
        self.runner.known.pop(index, None)
        self.begun.discard(index)
        await self.ledger.finish.remote(index)
        return ""

    def _is_made(self, index: int) -> bool:
        return all(is_committed(arm.output, index) for arm in self.arms.values())

    def _read(self, index: int) -> ShardInput:
        table = read_shard(self.config.corpus, index, schema=CORPUS_SCHEMA)
        if self.known:
            ids, contents = (table.column(c).to_pylist() for c in ("image_id", "sha256"))
            about = dict(zip(ids, contents, strict=True))
            self.runner.known[index] = {sets: k.of_shard(index, about) for sets, k in self.known.items()}
        if self.config.instructions is None:
            return ShardInput(corpus=table)
        told = read_shard(self.config.instructions, index, schema=RECORD_SCHEMA)
        return ShardInput(corpus=table, instructions=told)

    async def _die(self, index: int, error: EngineDead) -> None:
        """The actor ends with its engine; Ray starts another and hands it the unfinished shards."""
        if not self.dying:  # the first of the shards to notice speaks for all
            self.dying = True
            log.error("engine died: %s", error)
            in_work = {k: sorted(self.runner.in_work.get(k, ())) for k in self.begun}
            await self.ledger.died.remote(self.name, in_work)
            os._exit(1)
        await asyncio.Event().wait()

    def _report(self, row: RowReport) -> None:
        self.trial.see(record for records in row.records.values() for record in records)
        self._calls["calls"] += row.calls.made
        self._calls["tokens_prompt"] += row.calls.tokens_prompt
        self._calls["tokens_cached"] += row.calls.tokens_cached
        self._calls["tokens_completion"] += row.calls.tokens_completion
        counts = self._rows.setdefault(row.shard, Counter())
        counts["images"] += 1
        for arm, records in row.records.items():
            for record in records:
                counts[f"state/{arm}/{outcome(record.state, record.reason)}"] += 1
        if time.monotonic() - self._last_report > REPORT_EVERY_S:
            self._flush()

    def _flush(self) -> None:
        self._last_report = time.monotonic()
        if self._rows:
            own = set(self.engines.values())
            load = (sum(e.running for e in own), sum(e.slots for e in own))
            rows = {shard: dict(counts) for shard, counts in self._rows.items()}
            self.ledger.add.remote(self.name, dict(self._calls), rows, load)
            metrics.add(self.config.output, [self._calls, *self._rows.values()], *load)
            self._calls.clear()
            self._rows.clear()


def _commit(output: str, result: ShardResult) -> None:
    failed = {f"gate:{name}": number for name, number in result.gates().items()}
    commit_shard(
        output,
        result.index,
        result.tables(),
        counts=result.counts(),
        tokens={**result.tokens(), **failed},
        seconds=result.seconds,
        inputs=result.started,
    )


def build_engines(config: DatagenConfig) -> dict[str, Engine]:
    """An engine for every role; roles with equal settings share one."""
    built: dict[EngineConfig, Engine] = {}
    for role in ROLES:
        wanted = config.engines.of(role)
        if wanted not in built:
            built[wanted] = build_engine(wanted)
    return {role: built[config.engines.of(role)] for role in ROLES}
