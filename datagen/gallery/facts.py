"""What the columns of a data set say, over all its rows or those of a seeded sample of shards.

Only narrow columns are read, one shard at a time, and added up in Arrow; texts and pictures stay where they are.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.datasets import Manifest, read_shard
from datagen.gallery.visible import label, origin
from datagen.programs.draft import outcome

# Shards looked at for facts: all of most sets, a sample that settles shares to about a per cent of the others.
MAX_SHARDS = 64
BINS = 24
# Notes among the gates, no checks: what the answer was before it was rewritten, what was drawn for the prompt.
NOTES = ("original_answer", "drawn")
COLUMNS = (
    "kind",
    "format",
    "state",
    "reason",
    "rewrite",
    "verdict",
    "gates",
    "scores",
    "image_ids",
    "program",
    "answer_index",
)
CORPUS_COLUMNS = ("width", "height", "captions", "objects", "regions", "relations", "ocr", "source")


@dataclass(frozen=True, kw_only=True)
class ScoreFacts:
    """One named score: how many rows have it, its range, and a histogram whose tallest bin is 1."""

    rows: int
    low: float
    median: float
    high: float
    bins: list[float]


@dataclass(kw_only=True)
class Facts:
    """Counts over the rows of ``looked_at`` shards; ``cells`` is (kind, terminal state) by shard."""

    shards: int
    looked_at: list[int]
    rows: int = 0
    cells: dict[int, Counter[tuple[str, str]]] = field(default_factory=dict)
    formats: Counter[tuple[str, str]] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    rewrites: Counter[str] = field(default_factory=Counter)
    programs: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    gates: dict[str, tuple[int, int]] = field(default_factory=dict)
    scores: dict[str, ScoreFacts] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every shard was looked at."""
        return len(self.looked_at) == self.shards

    def kinds(self) -> Counter[tuple[str, str]]:
        """Rows by (kind, state without its reason)."""
        found: Counter[tuple[str, str]] = Counter()
        for cells in self.cells.values():
            for (kind, key), rows in cells.items():
                found[label(kind), key.partition(":")[0]] += rows
        return found


@dataclass(kw_only=True)
class CorpusFacts:
    """The same of a corpus: ``has`` counts images with at least one of each annotation, ``items`` all of them."""

    shards: int
    looked_at: list[int]
    rows: int = 0
    has: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    sides: ScoreFacts | None = None

    @property
    def complete(self) -> bool:
        """Whether every shard was looked at."""
        return len(self.looked_at) == self.shards


def shards_to_look_at(manifest: Manifest, seed: int, wanted: str = "") -> list[int]:
    """All shards, or of many a seeded sample in which every terminal state occurs, rare ones first.

    Args:
        wanted: prefer shards that have rows of this terminal state (or of those it begins).
    """
    shards = manifest.shards
    if len(shards) <= MAX_SHARDS:
        return list(range(len(shards)))
    order = random.Random(f"{seed}-shards").sample(range(len(shards)), len(shards))
    chosen: set[int] = set()
    for key, _ in sorted(manifest.totals.counts.items(), key=lambda item: item[1]):
        with_it = [k for k in order if shards[k].counts.get(key)]
        if len(chosen) < MAX_SHARDS and chosen.isdisjoint(with_it):
            chosen.update(with_it[:1])
    if wanted:
        with_it = [k for k in order if any(is_of(key, wanted) for key in shards[k].counts)]
        chosen.update(with_it[: (MAX_SHARDS - len(chosen)) // 2])
    chosen.update([k for k in order if k not in chosen][: MAX_SHARDS - len(chosen)])
    return sorted(chosen)


def is_of(key: str, wanted: str) -> bool:
    """Whether a terminal state is the wanted one or begins with it: ``rejected:gate:length`` is ``rejected``."""
    return not wanted or key == wanted or key.startswith(wanted.rstrip(":") + ":")


def facts_of(uri: str, manifest: Manifest, looked_at: list[int]) -> Facts:
    """Count over the shards of an instruction set."""
    facts = Facts(shards=len(manifest.shards), looked_at=looked_at)
    values: dict[str, list[float]] = {}
    for shard in looked_at:
        for table in _tables(uri, manifest, shard, COLUMNS):
            facts.rows += table.num_rows
            facts.cells.setdefault(shard, Counter()).update(_cells(table))
            for (form, state), rows in _count(table, "format", "state").items():
                facts.formats[label(form), state] += rows
            facts.rewrites.update(_clean(_count(table, "rewrite")))
            facts.programs.update(_clean(_count(table, "program")))
            facts.verdicts.update(_verdicts(table["verdict"]))
            facts.pictures.update(_pictures(table["image_ids"]))
            facts.places.update(_letter(i) for i in table["answer_index"].drop_null().to_pylist())
            for name, passed, rows in _gates(table["gates"]):
                run, failed = facts.gates.get(name, (0, 0))
                facts.gates[name] = (run + rows, failed + (0 if passed else rows))
            for name, score in _scores(table["scores"]):
                values.setdefault(name, []).append(score)
    facts.scores = {name: spread(found) for name, found in sorted(values.items())}
    return facts


def corpus_facts(uri: str, manifest: Manifest, looked_at: list[int]) -> CorpusFacts:
    """Count over the shards of a corpus; pictures are not read."""
    facts = CorpusFacts(shards=len(manifest.shards), looked_at=looked_at)
    sides: list[float] = []
    for shard in looked_at:
        if "rows" not in manifest.shards[shard].parts:
            continue
        table = read_shard(uri, shard, columns=CORPUS_COLUMNS, verify=False)
        facts.rows += table.num_rows
        for name in ("captions", "objects", "regions", "relations", "ocr"):
            lengths = pc.fill_null(pc.list_value_length(table[name]), 0)
            facts.has[name] += pc.sum(pc.greater(lengths, 0)).as_py() or 0
            facts.items[name] += pc.sum(lengths).as_py() or 0
        for (source,), rows in _count(table, "source").items():
            facts.sources[origin(source) or "none"] += rows
        things = pc.list_flatten(table["objects"])
        named = pa.table({"name": pc.struct_field(things, "name")})
        facts.names.update(_clean(_count(named, "name")))
        larger = pc.max_element_wise(table["width"], table["height"])
        sides += [float(side) for side in larger.to_pylist() if side is not None]
    facts.sides = spread(sides) if sides else None
    return facts


def spread(values: list[float]) -> ScoreFacts:
    """Range, median and histogram of finite numbers; at least one."""
    numbers = np.asarray(values)
    low, high = float(numbers.min()), float(numbers.max())
    bins, _ = np.histogram(numbers, bins=BINS, range=(low, high if high > low else low + 1))
    return ScoreFacts(
        rows=len(values),
        low=low,
        median=float(np.median(numbers)),
        high=high,
        bins=[float(b) for b in bins / bins.max()],
    )


def _tables(uri: str, manifest: Manifest, shard: int, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    for stream in manifest.shards[shard].parts:
        yield read_shard(uri, shard, stream, columns=columns, verify=False)


def _count(table: pa.Table, *columns: str) -> Counter[tuple[str, ...]]:
    """Rows by the values of columns; no value counts as an empty one."""
    grouped = table.group_by(list(columns)).aggregate([([], "count_all")])
    keys = zip(*(grouped[c].to_pylist() for c in columns), strict=True)
    found: Counter[tuple[str, ...]] = Counter()
    for key, rows in zip(keys, grouped["count_all"].to_pylist(), strict=True):
        found[tuple(part or "" for part in key)] += rows
    return found


def _clean(counts: Counter[tuple[str, ...]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (name,), rows in counts.items():
        if name:
            found[label(name)] += rows
    return found


def _cells(table: pa.Table) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for (kind, state, reason), rows in _count(table, "kind", "state", "reason").items():
        found[kind, outcome(state, reason)] += rows
    return found


def _verdicts(column: pa.ChunkedArray) -> Counter[str]:
    return _clean(_count(pa.table({"result": pc.struct_field(column, "result")}), "result"))


def _pictures(column: pa.ChunkedArray) -> Counter[str]:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_pylist()
    return Counter("text only" if n == 0 else "one image" if n == 1 else "several images" for n in lengths)


def _letter(place: int) -> str:
    return chr(ord("A") + place) if 0 <= place < 26 else str(place)


def _gates(column: pa.ChunkedArray) -> Iterator[tuple[str, bool, int]]:
    results = pc.list_flatten(column)
    fields = {name: pc.struct_field(results, name) for name in ("name", "passed")}
    grouped = pa.table(fields).group_by(["name", "passed"]).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        if row["name"] not in NOTES:
            yield label(row["name"] or "unnamed"), bool(row["passed"]), row["count_all"]


def _scores(column: pa.ChunkedArray) -> Iterator[tuple[str, float]]:
    for scores in column.to_pylist():
        for name, value in scores or ():
            if value is not None and np.isfinite(value):
                yield label(name), value
