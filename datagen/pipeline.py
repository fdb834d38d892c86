"""Corpus to instructions on Ray Data: pending shards go to a pool of engine actors, results are durable shard
by shard.

Ray Data carries shard indices and a line of statistics, nothing else: no image and no text passes the object
store, so there is nothing to spill, and a lost node costs the shards it was working on. Resuming is the plan
minus what is committed. There is no barrier between steps: each row is a coroutine in its actor
(`datagen.programs`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cluster.datasets import Manifest, freeze, pending_shards, plan_dataset, read_manifest
from cluster.errors import UserError
from cluster.progress import Progress
from datagen.config import ROLES, DatagenConfig
from datagen.prompts import load_prompts
from datagen.revision import model_revision

POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will do: shards still to be made, images in them, drafts, and engine calls expected at least
    and about.
    """

    shards: int
    pending: tuple[int, ...]
    images: int
    drafts: int
    calls: tuple[int, int]


class Ledger:
    """Actor state outside the workers: progress, and how often a shard was begun without being finished."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.begun: Counter[int] = Counter()

    def begin(self, shard: int) -> int:
        """Note a start; returns how many earlier ones came to nothing."""
        self.begun[shard] += 1
        return self.begun[shard] - 1

    def finish(self, shard: int) -> None:
        """The shard is committed."""
        self.begun[shard] = 0

    def add(self, counts: dict[str, int]) -> None:
        """More images, calls, records by terminal state."""
        self.totals.update(counts)

    def read(self) -> dict[str, int]:
        """All counts so far."""
        return dict(self.totals)


def plan_run(config: DatagenConfig) -> RunPlan:
    """Look before the work, writing nothing.

    Raises:
        UserError: the corpus is not published, or the prompt set or a kind is unknown.
    """
    corpus = read_manifest(config.corpus)
    if corpus.kind != "corpus":
        raise UserError(f"{config.corpus} is a dataset of kind {corpus.kind}, not a corpus")
    prompts = load_prompts(config.prompt_set)
    if unknown := [k for k in config.kinds if k not in prompts.kinds]:
        raise UserError(
            f"unknown kind {unknown[0]!r}: prompt set {prompts.name} has {', '.join(prompts.kinds)}"
        )
    shards = min(config.shards or len(corpus.shards), len(corpus.shards))
    pending = _pending(config, shards)
    images = sum(corpus.shards[k].parts["rows"].rows for k in pending)
    drafts = images * config.drafts_per_image
    return RunPlan(
        shards=shards, pending=tuple(pending), images=images, drafts=drafts, calls=_calls(config, drafts)
    )


def _pending(config: DatagenConfig, shards: int) -> list[int]:
    from cluster.datasets import read_plan

    return list(range(shards)) if read_plan(config.output) is None else pending_shards(config.output)


def _calls(config: DatagenConfig, drafts: int) -> tuple[int, int]:
    """(at least, about): the least is one call a draft; the estimate takes every verification as passed."""
    judge = int(config.verify)
    if config.program == "bootstrap":
        first, rest = 2 + judge, 0.0
    else:
        shares = config.reformulate
        versions = 1 + config.rounds
        first = (1 + judge) * versions
        rest = versions * (2 * shares.bool_share + shares.choice_share) * (1 + judge)
    rewriting = 2 * config.rewrite.share
    return drafts, round(drafts * (first + rest + rewriting))


def begin(config: DatagenConfig) -> list[int]:
    """Write the plan of the data set, or find the one written before; returns the shards still to be made.

    Raises:
        UserError: bad input, or another run under the same URI.
    """
    plan = plan_run(config)
    prompts = load_prompts(config.prompt_set)
    revisions = {role: model_revision(config.engines.of(role)) for role in ROLES}
    plan_dataset(
        config.output,
        kind="instructions",
        name=config.output.rstrip("/").rsplit("/", 1)[-1],
        shards=plan.shards,
        # Weights and prompts decide what is written as much as settings do: they are part of the run's
        # identity.
        config={**config.identity(), "revisions": revisions, "prompts": prompts.content_hash()},
        parents=[config.corpus],
        seeds={"run": config.seed},
        prompt_versions={prompts.name: prompts.version},
        models=revisions,
    )
    return pending_shards(config.output)


def run(config: DatagenConfig) -> Manifest:
    """Make (or finish making) the instruction data set and publish it. Ray is started only where work is
    left.

    Raises:
        UserError: bad input, another run under the same URI, or an engine that keeps dying.
    """
    pending = begin(config)
    if pending:
        from cluster.runtime import init_ray

        images = plan_run(config).images
        with init_ray():
            generate(config, pending, images, model_revision(config.engines.generator))
    return freeze(config.output)


def generate(config: DatagenConfig, pending: list[int], images: int, revision: str) -> None:
    """Make the pending shards on the running Ray; every shard is committed by its worker."""
    import ray

    from datagen.worker import ShardWorker

    ledger = ray.remote(num_cpus=0)(Ledger).remote()
    context = ray.data.DataContext.get_current()
    # A long model load or a quiet tail of long rows is not a hang.
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    # One line for every execution says nothing that the progress does not say.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = config.gpus_per_actor
    if gpus is None:
        gpus = config.engines.generator.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0
    done = ray.data.from_items([{"shard": k} for k in pending], override_num_blocks=len(pending)).map_batches(
        ShardWorker,
        fn_constructor_kwargs={
            "config": config.model_dump(mode="json"),
            "revision": revision,
            "ledger": ledger,
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(config.actors, len(pending)),
            max_tasks_in_flight_per_actor=config.in_flight,
            max_concurrent_calls_per_actor=config.in_flight,
        ),
        num_cpus=config.cpus_per_actor,
        num_gpus=gpus,
    )
    with Progress(images, unit="images", label="datagen") as progress:
        watch = _Watch(ledger, progress)
        try:
            for row in done.iter_rows():
                if row["error"]:
                    raise UserError(row["error"])
        finally:
            watch.stop()


class _Watch(threading.Thread):
    """Moves the ledger's counts to the progress line while the driver waits for shards."""

    def __init__(self, ledger: Any, progress: Progress) -> None:
        super().__init__(daemon=True)
        self.ledger, self.progress = ledger, progress
        self.begun = time.monotonic()
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        """Poll until stopped."""
        while not self.ended.wait(POLL_S):
            self.show()

    def show(self) -> None:
        """Advance by what is new."""
        import ray

        counts: dict[str, int] = ray.get(self.ledger.read.remote())
        # Images of a shard that lost its engine are done twice and count once.
        images = min(counts.get("images", 0), self.progress.total or 0)
        new = images - (self.progress.done - self.progress.done_before)
        rate = counts.get("calls", 0) / (time.monotonic() - self.begun)
        deaths = counts.get("engine_deaths", 0)
        rows = sum(n for key, n in counts.items() if key not in ("images", "calls", "engine_deaths"))
        kept = counts.get("accepted", 0) + counts.get("kept_original", 0)
        note = f"{rate:.1f} calls/s, {kept} of {rows} rows accepted" if rows else "starting the engine"
        note += f", engine replaced {deaths}x" if deaths else ""
        self.progress.advance(max(0, new), note=note)

    def stop(self) -> None:
        """Show the last counts and end."""
        from ray.exceptions import RayError

        self.ended.set()
        self.join()
        try:
            self.show()
        except RayError:
            return  # the ledger went down with what is being reported right now
