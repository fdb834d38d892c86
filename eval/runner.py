"""Run an evaluation: every checkpoint through one pool over one mixed queue, then teacher forcing, then the
comparison.

Results of a checkpoint are a data set named after its weights, so a changed weight never meets old results
and a stopped run continues with the chunks that are missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cluster import storage
from cluster.config import hash_of
from cluster.datasets import (
    dataset_exists,
    freeze,
    manifest_hash,
    pending_shards,
    plan_dataset,
    read_manifest,
)
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.runtime import init_ray
from eval.config import EvalConfig, GoldSet
from eval.generate import GenerateWorker, Job
from eval.likelihood import LikelihoodJob, LikelihoodWorker
from eval.revision import local_folder, text_revision, weights_revision
from eval.samples import Chunk, select
from eval.tasks import TASKS

# Enough that an engine's batch does not drain while one chunk's last answers are written and committed.
CHUNKS_IN_FLIGHT = 3


@dataclass(frozen=True, kw_only=True)
class Step:
    """One data set to make: a checkpoint's answers, or its likelihoods on one gold set."""

    uri: str
    job: Job | LikelihoodJob
    gold: GoldSet
    chunks: tuple[Chunk, ...]
    settings: dict[str, Any]

    @property
    def samples(self) -> int:
        """Samples of the step."""
        return sum(len(c.picks) for c in self.chunks)

    @property
    def pending(self) -> list[int]:
        """Chunks still to do; all before the plan exists."""
        begun = storage.exists(storage.join(self.uri, "plan.json"))
        return pending_shards(self.uri) if begun else [c.index for c in self.chunks]


def plan(config: EvalConfig) -> list[Step]:
    """Everything the run will make, in order. Reads ids of gold rows and hashes weights; starts nothing."""
    gold = GoldSet(corpus=config.corpus, instructions=config.instructions)
    tasks = [TASKS[name] for name in config.task_names]
    chunks = tuple(select(gold, tasks, config.limit, config.chunk))
    steps = [_generation(config, name, model, gold, chunks) for name, model in config.models.items()]
    if config.likelihood.enabled:
        for set_name, each in {"test": gold, **config.likelihood.extra}.items():
            # Any row with an image can be teacher-forced: tasks only name the families here.
            picked = tuple(select(each, tasks, _per_task(config.likelihood.limit, len(tasks)), config.chunk))
            steps += [_likelihood(config, n, m, set_name, each, picked) for n, m in config.models.items()]
    return steps


def _per_task(limit: int | None, tasks: int) -> int | None:
    return None if limit is None else max(1, -(-limit // tasks))


def _generation(config: EvalConfig, name: str, model: str, gold: GoldSet, chunks: tuple[Chunk, ...]) -> Step:
    folder = local_folder(model)
    revision, text = weights_revision(folder), text_revision(folder)
    settings = {
        "what": "answers",
        "revision": revision,
        "text": text,
        "tasks": {t: _task_settings(t) for t in config.task_names},
        "limit": config.limit,
        "chunk": config.chunk,
        "gold": _pinned(gold),
        "engine": config.engine.model_dump(mode="json", include={"backend", "dtype", "max_model_len"}),
    }
    uri = storage.join(config.output, f"{name}-{revision[:8]}-{hash_of(settings)[:6]}")
    job = Job(
        uri=uri,
        name=name,
        revision=revision,
        text=text,
        gold=gold,
        engine=config.engine.model_copy(update={"model": folder}),
        earlier=_earlier(config.output, revision, uri) if config.reuse else (),
    )
    return Step(uri=uri, job=job, gold=gold, chunks=chunks, settings=settings)


def _task_settings(name: str) -> dict[str, Any]:
    task = TASKS[name]
    return {"rule": task.version, "prompt": task.prompt, "sampling": repr(task.sampling)}


def _pinned(gold: GoldSet) -> list[str]:
    return [manifest_hash(gold.corpus), manifest_hash(gold.instructions)]


def _likelihood(
    config: EvalConfig, name: str, model: str, set_name: str, gold: GoldSet, chunks: tuple[Chunk, ...]
) -> Step:
    folder = local_folder(model)
    revision = weights_revision(folder)
    how = config.likelihood
    settings = {
        "what": "likelihood",
        "revision": revision,
        "text": text_revision(folder),
        "set": set_name,
        "tasks": list(config.task_names),
        "limit": how.limit,
        "chunk": config.chunk,
        "gold": _pinned(gold),
        "noise_draws": how.noise_draws,
        "dtype": how.dtype,
    }
    uri = storage.join(config.output, f"{name}-{revision[:8]}-{set_name}-likelihood-{hash_of(settings)[:6]}")
    job = LikelihoodJob(
        uri=uri,
        name=name,
        revision=revision,
        model=folder,
        set=set_name,
        gold=gold,
        batch=how.batch,
        noise_draws=how.noise_draws,
        dtype=how.dtype,
        use_gpu=how.use_gpu,
    )
    return Step(uri=uri, job=job, gold=gold, chunks=chunks, settings=settings)


def run(config: EvalConfig) -> list[str]:
    """Make every data set that is missing; URIs of all, answers first.

    Raises:
        UserError: bad input, or an output URI that holds another run.
    """
    steps = plan(config)
    for step in steps:
        plan_dataset(
            step.uri,
            kind="eval",
            name=step.uri.rsplit("/", 1)[-1],
            shards=len(step.chunks),
            config=step.settings,
            parents=[step.gold.corpus, step.gold.instructions],
            models={step.job.name: step.job.revision},
        )
    waiting = [step for step in steps if step.pending]
    if waiting:
        with init_ray():
            for step in waiting:
                _work(step, config)
    for step in steps:
        freeze(step.uri)
        _remember(config.output, step)
    return [step.uri for step in steps]


def _work(step: Step, config: EvalConfig) -> None:
    todo = step.pending
    chunks = {c.index: c for c in step.chunks}
    label = "answers" if isinstance(step.job, Job) else f"likelihood {step.job.set}"
    left = sum(len(chunks[k].picks) for k in todo)
    with Progress(
        step.samples, unit="samples", label=f"{label} {step.job.name}", done=step.samples - left
    ) as progress:
        for done in _stream(step, {k: chunks[k] for k in todo}, config):
            if done["error"]:
                raise UserError(done["error"])
            progress.advance(int(done["samples"]))


def _stream(step: Step, chunks: dict[int, Chunk], config: EvalConfig) -> Iterator[dict[str, Any]]:
    """Chunks through a pool of actors; each yields its accounting as it finishes."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A long model load is not a hang.
    context.execution_no_progress_timeout_s = -1
    work = ray.data.from_items([{"index": k} for k in chunks], override_num_blocks=len(chunks))
    generates = isinstance(step.job, Job)
    workers = config.engines if generates else config.likelihood.workers
    in_flight = CHUNKS_IN_FLIGHT if generates else 1
    done = work.map_batches(
        GenerateWorker if generates else LikelihoodWorker,
        fn_constructor_kwargs={"job": step.job, "chunks": chunks},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=min(workers, len(chunks)),
            max_tasks_in_flight_per_actor=in_flight + 1,
            max_concurrent_calls_per_actor=in_flight,
        ),
        num_cpus=1,
        num_gpus=_gpus(config, generates),
    )
    yield from done.iter_rows()


def _gpus(config: EvalConfig, generates: bool) -> int:
    import ray

    if not generates:
        return int(config.likelihood.use_gpu)
    return config.engine.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0


def _index(output: str, revision: str) -> str:
    return storage.join(output, "by-revision", f"{revision[:16]}.json")


def _earlier(output: str, revision: str, uri: str) -> tuple[str, ...]:
    """Published answers of these weights under this output, from the index that finished runs keep."""
    place = _index(output, revision)
    listed = json.loads(storage.read_bytes(place)) if storage.exists(place) else []
    return tuple(u for u in listed if u != uri and dataset_exists(u))


def _remember(output: str, step: Step) -> None:
    if not isinstance(step.job, Job):
        return
    place = _index(output, step.job.revision)
    listed = json.loads(storage.read_bytes(place)) if storage.exists(place) else []
    if step.uri not in listed:
        storage.write_bytes(place, json.dumps([*listed, step.uri], indent=1).encode())


def what_of(uri: str) -> str:
    """``answers`` or ``likelihood``: what an eval data set holds."""
    return str(read_manifest(uri).config.get("what", "answers"))
