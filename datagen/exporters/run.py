"""The export: unit by unit into files, restartable, then the card."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cluster import storage
from cluster.config import Config
from cluster.datasets import Manifest, read_shard
from cluster.manifest import parse, to_json
from cluster.progress import Progress
from datagen.curate.shards import Work, each_shard
from datagen.exporters import huggingface, llava, webdataset
from datagen.exporters.books import Ledger
from datagen.exporters.card import Lineage, lineage, readme
from datagen.exporters.config import (
    BOOKS,
    ExportConfig,
    ExportPlan,
    Unexported,
    Unit,
    UnitDone,
    book,
    check,
    plan,
    settings_of,
)
from datagen.exporters.samples import Sample, samples

LAYOUTS: dict[str, Callable[..., Ledger]] = {
    "llava": llava.write_unit,
    "huggingface": huggingface.write_unit,
    "webdataset": webdataset.write_unit,
}


class Summary(Config):
    """A finished split; from these of all splits in a folder the card is written."""

    layout: str
    split: str
    license: str
    rows: int
    images: int
    bytes: int
    files: int
    many_images: bool
    states: dict[str, int]
    unexported: dict[str, int]
    lineage: Lineage


def run(config: ExportConfig, workers: int = 1) -> Summary:
    """Export, or finish exporting; what is finished is not done again.

    Raises:
        UserError: bad input, or another export in the same place.
    """
    source = check(config)
    place = book(config, "summary.json")
    fixed = plan(config, source, _many_images(config, source))
    if not storage.exists(place):
        _units(config, fixed, workers)
        _publish(config, fixed, source)
    summary = parse(Summary, storage.read_bytes(place), place)
    if summary.license != config.license:
        summary = summary.model_copy(update={"license": config.license})
        storage.write_bytes(place, to_json(summary))
    storage.write_bytes(
        storage.join(config.output, "README.md"), readme(config.output, _splits(config)).encode()
    )
    return summary


def _many_images(config: ExportConfig, source: Manifest) -> bool:
    """Whether any row has several images, which decides a column of the Parquet files."""
    if config.layout != "huggingface":
        return False
    for k, shard in enumerate(source.shards):
        for stream in shard.parts:
            lists = read_shard(config.source, k, stream, columns=["image_ids"], verify=False)["image_ids"]
            if any(len(images or ()) > 1 for images in lists.to_pylist()):
                return True
    return False


def _units(config: ExportConfig, fixed: ExportPlan, workers: int) -> None:
    pending = [unit for unit in fixed.units if not storage.exists(book(config, _name(unit.index)))]
    total = sum(sum(unit.takes) for unit in fixed.units)
    left = sum(sum(unit.takes) for unit in pending)
    settings = {"config": settings_of(config), "plan": fixed.model_dump(mode="json")}
    with Progress(total, label=f"export {config.layout}", done=total - left) as progress:
        if workers > 1 and len(pending) > 1:
            from cluster.runtime import init_ray

            with init_ray():
                for counts in each_shard(exporting, settings, [unit.index for unit in pending], workers):
                    progress.advance(counts["rows"])
        else:
            work = exporting(**settings)
            for unit in pending:
                progress.advance(work(unit.index)["rows"])


def exporting(config: dict[str, Any], plan: dict[str, Any]) -> Work:
    """The work on one unit, by its index."""
    settings, fixed = ExportConfig.model_validate(config), ExportPlan.model_validate(plan)

    def export(index: int) -> dict[str, int]:
        unit = fixed.units[index]
        with tempfile.TemporaryDirectory(prefix="l2t-export-") as folder:
            place = Path(folder)
            ledger = LAYOUTS[settings.layout](settings, fixed, unit, _samples(settings, unit), place)
            size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
            storage.upload_dir(place, settings.output)
        # The entry comes last: where it is, the files are.
        storage.write_bytes(book(settings, _name(index)), to_json(ledger.entry(unit, size)))
        return {"rows": sum(unit.takes)}

    return export


def _samples(config: ExportConfig, unit: Unit) -> Iterator[Sample | Unexported]:
    for shard, take in zip(unit.shards, unit.takes, strict=True):
        yield from samples(config, shard, take)


def _name(index: int) -> str:
    return f"unit-{index:05d}.json"


def _publish(config: ExportConfig, fixed: ExportPlan, source: Manifest) -> None:
    """What is there once: LLaVA's list, the rows that could not be exported, summary and card."""
    unneeded: list[str] = []
    with tempfile.TemporaryDirectory(prefix="l2t-export-") as folder:
        place = Path(folder)
        if config.layout == "llava":
            unneeded = llava.finish(config, fixed.units, place)
        done = _entries(config, fixed, place)
        storage.upload_dir(place, config.output)
    summary = Summary(
        layout=config.layout,
        split=config.split,
        license=config.license,
        rows=done["rows"],
        images=done["images"],
        bytes=done["bytes"],
        files=len(fixed.units),
        many_images=fixed.many_images,
        states=_with_prefix(done, "state "),
        unexported=_with_prefix(done, "unexported "),
        lineage=lineage(config, source),
    )
    storage.write_bytes(book(config, "summary.json"), to_json(summary))
    for uri in unneeded:
        storage.delete(uri)


def _entries(config: ExportConfig, fixed: ExportPlan, folder: Path) -> Counter[str]:
    """Sums over the units; writes the rows that could not be exported as JSON lines, where there are any."""
    sums: Counter[str] = Counter()
    listing = folder / f"unexported-{config.split}.jsonl"
    with listing.open("w", encoding="utf-8") as file:
        for unit in fixed.units:
            place = book(config, _name(unit.index))
            entry = parse(UnitDone, storage.read_bytes(place), place)
            sums.update(rows=entry.rows, images=entry.images, bytes=entry.bytes)
            sums.update({f"state {state}": rows for state, rows in entry.states.items()})
            for row in entry.unexported:
                sums[f"unexported {_kind(row.reason)}"] += 1
                file.write(row.model_dump_json() + "\n")
    if not listing.stat().st_size:
        listing.unlink()
    return sums


def _kind(reason: str) -> str:
    """A reason without the name of the image, so that equal ones are counted together."""
    what, colon, why = reason.partition(": ")
    return f"image {why.partition(' (')[0]}" if colon and what.startswith("image ") else reason


def _with_prefix(sums: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in sorted(sums.items()) if name.startswith(prefix)}


def _splits(config: ExportConfig) -> list[Summary]:
    """All finished splits in the folder."""
    root = storage.join(config.output, BOOKS)
    found = [uri for uri in storage.list_prefix(root) if uri.endswith("/summary.json")]
    return [parse(Summary, storage.read_bytes(uri), uri) for uri in found]


def report(config: ExportConfig, summary: Summary) -> str:
    """What was written, and what was not and why."""
    files = {
        "llava": f"{config.split}.json and images/",
        "huggingface": "data/*.parquet",
        "webdataset": "*.tar",
    }
    left_out = sum(summary.unexported.values())
    lines = [
        f"{config.output}: {summary.rows} rows with {summary.images} images in {files[config.layout]}, "
        f"{summary.bytes / 1e6:.1f} MB",
    ]
    if left_out:
        lines.append(f"  not exported: {left_out}, listed in unexported-{config.split}.jsonl")
        lines += [f"  {rows:>8}  {reason}" for reason, rows in summary.unexported.items()]
    return "\n".join(lines)
