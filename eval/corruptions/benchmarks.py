"""Imported benchmarks with corrupted pictures: a root for each corruption and severity, as an import makes one.

    corrupt_benchmarks("runs/benchmarks", ["coco_karpathy"], "runs/coco-c", [("fog", 3)])    # -> ["runs/coco-c/fog/3"]

Pictures go to ``<root>/corpora/<benchmark>``; the gold rows are copied to ``<root>/gold/<benchmark>``, so that a root
is all that ``l2t eval run ... benchmarks=<root>`` needs.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster import storage
from cluster.datasets import commit_shard, freeze, pending_shards, plan_dataset, read_manifest, read_shard
from cluster.errors import UserError
from eval.benchmarks.importing import is_imported
from eval.corruptions.dataset import CorruptionJob, Encoding, corrupt_corpora


def corrupt_benchmarks(
    root: str,
    names: Sequence[str],
    output: str,
    picks: Sequence[tuple[str, int]],
    *,
    encoding: Encoding = "png",
    photographs: str = "",
) -> list[str]:
    """Make what is missing; the new roots, in the order of ``picks`` (corruption, severity).

    Raises:
        UserError: a benchmark was not imported under ``root``, and what `corrupt_corpora` raises.
    """
    for name in names:
        if not is_imported(root, name):
            raise UserError(
                f"{name} was not imported under {root}: l2t eval import {name} <folder> --output {root}"
            )
    roots = [storage.join(output, corruption, str(severity)) for corruption, severity in picks]
    corrupt_corpora([
        CorruptionJob(
            corpus=storage.join(root, "corpora", name),
            output=storage.join(there, "corpora", name),
            corruption=corruption,
            severity=severity,
            encoding=encoding,
            photographs=photographs,
        )
        for there, (corruption, severity) in zip(roots, picks, strict=True)
        for name in names
    ])  # fmt: skip
    for there in roots:
        for name in names:
            _copy_gold(storage.join(root, "gold", name), there, name)
    return roots


def _copy_gold(source: str, root: str, name: str) -> None:
    manifest = read_manifest(source)
    out, pictures = (storage.join(root, part, name) for part in ("gold", "corpora"))
    plan_dataset(
        out,
        kind="gold",
        name=manifest.name,
        shards=len(manifest.shards),
        config=manifest.config,
        parents=[source, pictures],
    )
    for shard in pending_shards(out):
        entry = manifest.shards[shard]
        tables = {stream: read_shard(source, shard, stream) for stream in entry.parts}
        commit_shard(out, shard, tables, counts=entry.counts, inputs=entry.inputs)
    freeze(out)
