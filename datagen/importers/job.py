"""An import from beginning to end: scan on the driver, shards in Ray, publish.

The scan streams the source once and leaves a work list per shard beside the data set; after that every shard is
made by whichever worker gets it, and committed by it. A run that was stopped continues with the shards that are not
committed; one that was stopped during the scan scans again.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cluster import storage
from cluster.config import hash_of
from cluster.datasets import dataset_exists, freeze, pending_shards, plan_dataset, read_manifest, read_plan
from cluster.errors import UserError
from cluster.progress import Progress
from datagen.importers.importer import Importer, importer_of
from datagen.importers.options import IMPORTER_VERSION, ImportOptions
from datagen.importers.roots import Root
from datagen.importers.work import (
    CONTEXT,
    Context,
    WorkLists,
    delete_work,
    read_context,
    work_uri,
    write_context,
)

Phase = Literal["corpus", "instructions"]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What came out: URIs (``instructions`` None where the source has no conversations) and rows by state of each."""

    corpus: str
    instructions: str | None
    corpus_counts: dict[str, int]
    instruction_counts: dict[str, int]


def look(options: ImportOptions) -> Context:
    """The scan alone, writing nothing: rows, pictures, shards.

    Raises:
        UserError: the source cannot be used.
    """
    return _scan(importer_of(options.importer), options, None)


def run_import(options: ImportOptions) -> Imported:
    """Import, or finish importing; Ray is started only where shards are left.

    Raises:
        UserError: the source cannot be used, or another import has this name.
    """
    importer = importer_of(options.importer)
    identity = _identity(importer, options)
    if read_plan(options.corpus) is None:
        write_context(options.corpus, _scan(importer, options, options.corpus))
    if _is_finished(options):
        _plan(options, "corpus", len(read_manifest(options.corpus).shards), identity)
        return _result(options)
    from cluster.runtime import init_ray

    context = read_context(options.corpus)
    _plan(options, "corpus", context.shards, identity)
    # Ray starts an idle process for every slot of a local cluster, so there are no more than are used.
    with init_ray(_workers(options)):
        _make(options, "corpus")
        if context.instructions:
            _plan(options, "instructions", context.shards, identity)
            _make(options, "instructions")
    delete_work(options.corpus)
    return _result(options)


def _identity(importer: Importer, options: ImportOptions) -> dict[str, Any]:
    """What makes an import the same import: its settings, and the names and sizes of its files."""
    settings = options.model_dump(mode="json", exclude={"out", "name", "workers"})
    files = importer.files(options)
    return {
        **settings,
        "importer_version": IMPORTER_VERSION,
        "files": len(files),
        "files_hash": hash_of(files),
    }


def _scan(importer: Importer, options: ImportOptions, corpus: str | None) -> Context:
    if options.images is not None:
        Root(options.images).check()
    lists = WorkLists(corpus, options.shard_images)
    with (
        tempfile.TemporaryDirectory(prefix="l2t-import-") as folder,
        Progress(None, unit="rows", label=f"scan {options.importer}") as progress,
    ):
        context = importer.scan(options, lists, Path(folder), progress.advance)
    if not context.shards:
        raise UserError(f"{', '.join(options.sources)}: no rows. Check the path.")
    return context


def _is_finished(options: ImportOptions) -> bool:
    """Whether all is published and the work lists are gone, their context last."""
    return dataset_exists(options.corpus) and not storage.exists(work_uri(options.corpus, CONTEXT))


def _plan(options: ImportOptions, phase: Phase, shards: int, identity: dict[str, Any]) -> None:
    plan_dataset(
        options.corpus if phase == "corpus" else options.instructions,
        kind=phase,
        name=options.name,
        shards=shards,
        config=identity,
        parents=[] if phase == "corpus" else [options.corpus],
    )


def _make(options: ImportOptions, phase: Phase) -> None:
    """The shards of one data set that are missing, then its manifest."""
    uri = options.corpus if phase == "corpus" else options.instructions
    if pending := pending_shards(uri):
        counts: Counter[str] = Counter()
        with Progress(len(pending), unit="shards", label=f"{phase} {options.name}") as progress:
            for counted in _in_ray(options, phase, pending):
                counts.update(counted)
                progress.advance(1, note=f"{counts['accepted']} of {counts.total()} rows accepted")
    freeze(uri)


def _workers(options: ImportOptions) -> int | None:
    """Shards at a time: as asked for, else one for each core here, or as many as a cluster has room for (None)."""
    return options.workers or (None if os.environ.get("RAY_ADDRESS") else os.cpu_count())


def _in_ray(options: ImportOptions, phase: Phase, pending: list[int]) -> Iterator[dict[str, int]]:
    """Rows by state of every shard, as the workers finish them."""
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = _workers(options)
    settings = options.model_dump(mode="json")
    done = ray.data.from_items([{"shard": k} for k in pending], override_num_blocks=len(pending)).map_batches(
        _shard_task,  # type: ignore[arg-type]
        fn_kwargs={"settings": settings, "phase": phase},
        batch_size=1,
        num_cpus=1,
        compute=ray.data.TaskPoolStrategy(size=min(workers, len(pending)) if workers else None),
    )
    for row in done.iter_rows():
        if row["error"]:
            raise UserError(row["error"])
        yield json.loads(row["counts"])


def _shard_task(batch: dict[str, Any], settings: dict[str, Any], phase: Phase) -> dict[str, list[str]]:
    """One shard in a worker; what a person can put right comes back as text, since Ray wraps exceptions."""
    from datagen.importers.worker import corpus_shard, instruction_shard

    options = ImportOptions(**settings)
    make = corpus_shard if phase == "corpus" else instruction_shard
    try:
        counts = make(options, int(batch["shard"][0]))
    except UserError as error:
        return {"counts": ["{}"], "error": [str(error)]}
    return {"counts": [json.dumps(counts)], "error": [""]}


def _result(options: ImportOptions) -> Imported:
    talks = dataset_exists(options.instructions)
    return Imported(
        corpus=options.corpus,
        instructions=options.instructions if talks else None,
        corpus_counts=read_manifest(options.corpus).totals.counts,
        instruction_counts=read_manifest(options.instructions).totals.counts if talks else {},
    )
