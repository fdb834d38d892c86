"""Corpus to instructions on Ray Data: pending shards go to a pool of engine actors, results are durable shard
by shard.

Ray Data carries shard indices and a line of statistics, nothing else: no image and no text passes the object
store, so there is nothing to spill, and a lost node costs the shards it was working on. Resuming is the plan
minus what is committed. There is no barrier between steps: each row is a coroutine in its actor
(`datagen.programs`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from cluster import log as run_log
from cluster import storage
from cluster.datasets import (
    Manifest,
    freeze,
    manifest_hash,
    pending_shards,
    plan_dataset,
    read_manifest,
    read_plan,
)
from cluster.errors import UserError
from cluster.fleets import running_fleet
from cluster.nodetypes import Fleet, Pool, check_running
from cluster.progress import Progress
from cluster.stages import STOPPED
from datagen.config import ROLES, DatagenConfig
from datagen.ledger import Ledger, lost
from datagen.programs.evolve import DIRECTIONS
from datagen.programs.rate import SCORES
from datagen.prompts import load_prompts
from datagen.revision import model_revision
from datagen.watch import Watch

log = logging.getLogger(__name__)

EVOLVING = [*(f"evolve_{name}" for name in DIRECTIONS), "eliminate"]


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


def plan_run(config: DatagenConfig) -> RunPlan:
    """Look before the work, writing nothing.

    Raises:
        UserError: corpus or instructions are not published or do not belong together, or the prompt set or a kind is
            unknown, or lacks a prompt that the program asks with.
    """
    corpus = _published(config.corpus, "corpus")
    if config.instructions is not None:
        told = _published(config.instructions, "instructions")
        if len(told.shards) != len(corpus.shards):
            raise UserError(
                f"{config.instructions} has {len(told.shards)} shards and {config.corpus} {len(corpus.shards)}: they "
                f"do not belong together. Its corpus was {told.parents[0].uri if told.parents else 'not recorded'}."
            )
    for arm in config.variants().values():
        for uri in arm.near_duplicate.known:
            _published(uri, "instructions")
        _check_prompts(arm)
    shards = min(config.shards or len(corpus.shards), len(corpus.shards))
    pending = _pending(config, shards)
    images = sum(corpus.shards[k].parts["rows"].rows for k in pending)
    if config.instructions is None:
        drafts = images * config.drafts_per_image
    else:
        drafts = sum(told.shards[k].parts["rows"].rows for k in pending)
    return RunPlan(
        shards=shards, pending=tuple(pending), images=images, drafts=drafts, calls=_calls(config, drafts)
    )


def _published(uri: str, kind: str) -> Manifest:
    manifest = read_manifest(uri)
    if manifest.kind != kind:
        raise UserError(f"{uri} is a dataset of kind {manifest.kind}, not {kind}")
    return manifest


def _check_prompts(config: DatagenConfig) -> None:
    prompts = load_prompts(config.prompt_set)
    for kind in (*config.kinds, *config.needs):
        if kind not in prompts.kinds:
            raise UserError(
                f"unknown kind {kind!r}: prompt set {prompts.name} has {', '.join(prompts.kinds)}"
            )
    if config.pairs_per_call > 1 and not prompts.asks_for("count"):
        raise UserError(
            f"pairs_per_call={config.pairs_per_call}, but no prompt of set {prompts.name} asks for several: its "
            "synthesize prompts would need {count}"
        )
    for step in _steps(config):
        if step not in prompts.prompts:
            raise UserError(f"prompt set {prompts.name} has no prompt {step!r}, which this run asks with")


def _steps(config: DatagenConfig) -> list[str]:
    """Prompts that a run needs beyond those that a kind of question may replace."""
    judge = (["verify"] if config.verify else []) + _rating_steps(config) if config.program != "align" else []
    rewriting = ["rewrite", "review"] if config.rewrite.share else []
    match config.program:
        case "comvint":
            forms = config.reformulate
            own = ["complicate"] * bool(config.rounds) + ["choice"] * bool(forms.choice_share)
            own += ["bool_yes", "bool_no"] * bool(forms.bool_share)
        case "evolve":
            own = EVOLVING
        case "bootstrap":
            own = ["extract"] * config.bootstrap.extract
            own += {"none": [], "complicate": ["complicate"], "evolve": EVOLVING}[config.bootstrap.further]
        case _:
            own = []
    return own + judge + rewriting


def _rating_steps(config: DatagenConfig) -> list[str]:
    match config.rating.method:
        case "scores":
            return [f"rate_{name}" for name in SCORES]
        case "likelihood":
            return ["judge", "verify"]
        case _:
            return []


def _pending(config: DatagenConfig, shards: int) -> list[int]:
    """Shards that any arm still lacks."""
    pending: set[int] = set()
    for arm in config.variants().values():
        pending |= set(range(shards) if read_plan(arm.output) is None else pending_shards(arm.output))
    return sorted(pending)


def _calls(config: DatagenConfig, drafts: int) -> tuple[int, int]:
    """(at least, about) of one arm: the least is one call a draft; the estimate takes everything as passed."""
    judge = int(config.verify) + config.consistency.samples
    judge += {"off": 0, "answer": 1, "likelihood": 2}[config.blind.method]
    judge += {"off": 0, "scores": 4, "likelihood": 2}[config.rating.method]
    rewriting = 2 * config.rewrite.share
    match config.program:
        case "align":
            return 0, round(drafts * rewriting)
        case "evolve":
            return drafts, round(drafts * config.rounds * (2 + judge + rewriting))
        case "bootstrap":
            each = 2 + config.bootstrap.extract + judge + rewriting
            if config.bootstrap.further != "none":
                each += config.rounds * (1 + judge + rewriting)
            return drafts, round(drafts * each)
    shares, versions = config.reformulate, 1 + config.rounds
    forms = versions * (2 * shares.bool_share + shares.choice_share) * (1 + judge)
    about = (1 + judge) * versions - (1 - 1 / config.pairs_per_call) + forms + rewriting
    return -(-drafts // config.pairs_per_call), round(drafts * about)


def begin(config: DatagenConfig) -> list[int]:
    """Write the plan of every data set of the run, or find the one written before; returns the shards still to be
    made.

    Raises:
        UserError: bad input, or another run under the same URI.
    """
    plan = plan_run(config)
    prompts = load_prompts(config.prompt_set)
    revisions = {role: model_revision(config.engines.of(role)) for role in ROLES}
    for arm in config.variants().values():
        plan_dataset(
            arm.output,
            kind="instructions",
            name=arm.output.rstrip("/").rsplit("/", 1)[-1],
            shards=plan.shards,
            # Weights and prompts decide what is written as much as settings do: they are part of the run's
            # identity.
            config={
                **arm.identity(),
                "revisions": revisions,
                "prompts": prompts.content_hash(),
                **_known(arm),
            },
            parents=[config.corpus, *([config.instructions] if config.instructions else [])],
            seeds={"run": config.seed},
            prompt_versions={prompts.name: prompts.version},
            models=revisions,
        )
    return _pending(config, plan.shards)


def _known(config: DatagenConfig) -> dict[str, dict[str, str]]:
    """What the known sets hold decides what is written, not where they lie."""
    sets = config.near_duplicate.known
    return {"known": {uri: manifest_hash(uri) for uri in sets}} if sets else {}


def run(config: DatagenConfig) -> dict[str, Manifest]:
    """Make (or finish making) the instruction data sets, one or one per arm, and publish them. Ray is started only
    where work is left.

    Raises:
        UserError: bad input, another run under the same URI, or an engine that keeps dying.
    """
    run_log.start(config.output)
    pending = begin(config)
    log.info("%d shards to do for %s", len(pending), config.output)
    if pending:
        from cluster.runtime import init_ray

        storage.delete(storage.join(config.output, STOPPED))  # of an earlier attempt
        images = plan_run(config).images
        with init_ray():
            generate(config, pending, images, model_revision(config.engines.generator))
    return {name: freeze(arm.output) for name, arm in config.variants().items()}


def _beside_us(kept: type) -> Any:
    """An actor class for what outlives workers: on the driver's node, and made anew should its process die.

    Ray puts an actor that asks for no CPU on any node (measured, 2.60), and the run would end with that node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(  # type: ignore[call-overload]  # Ray takes more strategies than it types
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    )(kept)


def pool(config: DatagenConfig, fleet: Fleet, shards: int | None = None) -> Pool:
    """The engine actors as Ray is asked for them; ``shards`` to do bound their number.

    Engines take a GPU where the cluster offers any, even one that has no GPU node up at the moment.
    """
    gpus = config.gpus_per_actor
    if gpus is None:
        here = [e for e in map(config.engines.of, ROLES) if e.backend == "vllm"]
        needed = max((e.tensor_parallel_size for e in here), default=0)
        gpus = needed if fleet.offers("GPU") else 0
    actors = config.actors if shards is None else min(config.actors, shards)
    return Pool(
        name="engine actors",
        bundle={"CPU": config.cpus_per_actor, "GPU": gpus},
        count=actors,
        settings={
            "CPU": "cpus_per_actor",
            "GPU": "gpus_per_actor or the engines' tensor_parallel_size",
            "count": "actors",
        },
    )


def generate(config: DatagenConfig, pending: list[int], images: int, revision: str) -> None:
    """Make the pending shards on the running Ray; every shard is committed by its worker."""
    import ray

    from datagen.entities import frequencies
    from datagen.worker import ShardWorker

    ledger = _beside_us(Ledger).remote(config.engine_deaths, config.quarantine_limit, lost)
    context = ray.data.DataContext.get_current()
    # A long model load or a quiet tail of long rows is not a hang.
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    # One line for every execution says nothing that the progress does not say.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    entities = load_prompts(config.prompt_set).asks_for("entity")
    asked = pool(config, running_fleet(), len(pending))
    log.info(check_running(asked))
    actors, gpus = asked.count, asked.bundle["GPU"]
    done = ray.data.from_items([{"shard": k} for k in pending], override_num_blocks=len(pending)).map_batches(
        ShardWorker,
        fn_constructor_kwargs={
            "config": config.model_dump(mode="json"),
            "revision": revision,
            "frequencies": frequencies(config.corpus, config.output) if entities else {},
            "ledger": ledger,
        },
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=actors,
            max_size=max(actors, min(config.max_actors or actors, len(pending))),
            max_tasks_in_flight_per_actor=config.in_flight,
            max_concurrent_calls_per_actor=config.in_flight,
        ),
        num_cpus=config.cpus_per_actor,
        num_gpus=gpus,
    )
    with Progress(images, unit="images", label="datagen") as progress:
        watch = Watch(ledger, progress, config, gpus)
        try:
            for row in done.iter_rows():
                if row["error"]:
                    raise UserError(row["error"])
        finally:
            watch.stop()
