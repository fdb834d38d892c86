"""The run: plan, sign, compare, write, publish. Each step continues where a stopped run left it."""

from __future__ import annotations

from collections import Counter

from cluster import storage
from cluster.datasets import Manifest, dataset_exists, freeze, pending_shards, plan_dataset, read_manifest
from cluster.errors import UserError
from cluster.progress import Progress
from datagen.curate.collisions import STREAM_OF, collide, stored
from datagen.curate.config import CurateConfig
from datagen.curate.evaluation import check_evaluations, index_uri, store_index
from datagen.curate.shards import each_shard, workers_here
from datagen.curate.signatures import STREAMS, key_count, read_table, scratch, signing
from datagen.curate.writing import writing


def run(config: CurateConfig, workers: int | None = None) -> Manifest:
    """Curate, or finish curating, and publish. Shard k of the output is made from shard k of the source.

    Raises:
        UserError: bad input, or another run under the same URI.
    """
    source = check(config)
    begin(config, source)
    if pending_shards(config.output):
        from cluster.runtime import init_ray

        with init_ray():
            passes(config, source, workers or workers_here())
    published = dataset_exists(config.output)
    manifest = freeze(config.output)
    if not published:
        clean(config, len(source.shards))
    return manifest


def check(config: CurateConfig) -> Manifest:
    """Look before the work, writing nothing.

    Raises:
        UserError: no gate is on, a data set is not published or of the wrong kind, or there are fewer shards of images
            than of rows.
    """
    if not config.gates:
        raise UserError(
            "no gate is on: give at least one of --near-duplicate, --image-duplicate, --decontaminate, "
            "--language, --length"
        )
    source, corpus = read_manifest(config.source), read_manifest(config.corpus)
    for uri, manifest, kind in ((config.source, source, "instructions"), (config.corpus, corpus, "corpus")):
        if manifest.kind != kind:
            raise UserError(f"{uri} is a dataset of kind {manifest.kind}, not {kind}")
    if len(source.shards) > len(corpus.shards):
        raise UserError(
            f"{config.source} has {len(source.shards)} shards and its corpus {config.corpus} {len(corpus.shards)}: "
            "shard k of one belongs to shard k of the other. Give the corpus it was made from with --corpus."
        )
    if config.output.rstrip("/") in (config.source.rstrip("/"), config.corpus.rstrip("/")):
        raise UserError(f"--out {config.output}: that is the input. Choose another name.")
    if config.language:
        from datagen.gates.language import check_codes

        check_codes(config.language)
    check_evaluations(config.decontaminate, config.source)
    return source


def begin(config: CurateConfig, source: Manifest) -> None:
    """Write the plan, or find the one of the same run."""
    plan_dataset(
        config.output,
        kind="instructions",
        name=config.output.rstrip("/").rsplit("/", 1)[-1],
        shards=len(source.shards),
        config={"curate": config.identity()},
        # The corpus stays first: shard k refers to images of its shard k.
        parents=[config.corpus, config.source],
        seeds=source.seeds,
        prompt_versions=source.prompt_versions,
        models=source.models,
    )


def passes(config: CurateConfig, source: Manifest, workers: int) -> None:
    """The three passes on the running Ray."""
    shards = range(len(source.shards))
    if config.decontaminate:
        store_index(config.output, config.decontaminate, config.picture_distance)
    settings = {"config": config.model_dump(mode="json")}
    rows = [shard.parts["rows"].rows if "rows" in shard.parts else 0 for shard in source.shards]
    unsigned = [k for k in shards if not storage.exists(scratch(config.output, k, "findings"))]
    with Progress(sum(rows), label="signatures", done=sum(rows) - sum(rows[k] for k in unsigned)) as progress:
        for counts in each_shard(signing, settings, unsigned, workers) if unsigned else ():
            progress.advance(counts["rows"])
    for gate in config.gates:
        if stream := STREAM_OF.get(gate):
            tables = (read_table(scratch(config.output, k, stream)) for k in shards)
            collide(config, gate, len(shards), sum(map(key_count, tables)))
    pending = pending_shards(config.output)
    with Progress(sum(rows), label="curate", done=sum(rows) - sum(rows[k] for k in pending)) as progress:
        for counts in each_shard(writing, settings, pending, workers):
            progress.advance(counts["rows"])


def clean(config: CurateConfig, shards: int) -> None:
    """Delete what lay beside the output while it was made."""
    streams = [(k, stream) for k in range(shards) for stream in STREAMS]
    for k, stream in streams + stored(shards, config.gates):
        storage.delete(scratch(config.output, k, stream))
    storage.delete(index_uri(config.output))


def summary(config: CurateConfig, manifest: Manifest) -> str:
    """Rows in and out, and for each gate what it found and dropped."""
    tokens = Counter(manifest.totals.tokens)
    rows, rejects = (manifest.totals.rows.get(stream, 0) for stream in ("rows", "rejects"))
    dropped = sum(tokens[f"dropped.{gate}"] for gate in config.gates)
    lines = [f"{config.output}: {rows} of {rows + dropped} rows stay, {dropped} dropped"]
    lines += [f"  {'gate':<18}{'found':>9}{'dropped':>9}"]
    for gate in config.gates:
        note = "" if gate in config.dropping else "  (only written down)"
        lines.append(f"  {gate:<18}{tokens[f'found.{gate}']:>9}{tokens[f'dropped.{gate}']:>9}{note}")
    lines.append(
        f"  {rejects - dropped} rejects of {config.source} carried over; books: {rows + rejects} rows"
    )
    return "\n".join(lines)
