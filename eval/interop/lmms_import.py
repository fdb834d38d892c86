"""lmms-eval's answers as a run of ours: matched to imported gold rows, scored by our rules, compared by sample.

A line of its log names a document by its number in the split. Gold rows remember file and row they came from, so
numbers are counted through the files of the import in their order; question or references must agree, else the
line is looked up by question and references alone, and what fits no row is counted, never guessed. So pictures,
groups and categories are those of our own runs, and models measured by either tool can be compared in pairs.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from cluster.datasets import commit_shard, freeze, iter_tables, plan_dataset, read_manifest
from cluster.errors import UserError
from cluster.storage import join
from eval.benchmarks.gold import GoldRow, from_row
from eval.interop.lmms_log import LoggedSample, read_samples, sample_files
from eval.interop.lmms_tasks import BY_NAME
from eval.results import RESULT_SCHEMA, answer_of, score_rows
from eval.scorers.base import Scored
from eval.tasks import TASKS, Task, sample_of

_WHERE = re.compile(r"^(?P<file>.*) row (?P<row>\d+)$", re.DOTALL)
_SPACE = re.compile(r"\s+")
# Keys of a document that hold its name, in the order in which they are believed.
_NAMES = ("question_id", "questionId", "id", "index", "image_id", "img_id")


@dataclass(frozen=True, kw_only=True)
class Matched:
    """How a task of theirs came in: ``theirs`` and ``ours`` are the same answers' means by either rule, in printed
    units, over the samples where theirs has a number; ``differ`` of these are scored otherwise."""

    task: str
    samples: int
    unmatched: int
    silent: int
    theirs: float = math.nan
    ours: float = math.nan
    differ: int = 0


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The data set that was made, for `l2t eval compare`."""

    uri: str
    tasks: list[Matched] = field(default_factory=list)


def import_run(folder: str, *, name: str, benchmarks: str, output: str) -> Imported:
    """Store a log's answers as ``<output>/<name>-lmms-<hash>``, an eval data set like any other.

    Args:
        folder: what lmms-eval's --output_path was, or a folder or samples file below it.
        benchmarks: root that the benchmarks were imported to.

    Raises:
        UserError: no log, no gold set of any of its tasks, or nothing of it matches.
    """
    files = sample_files(folder)
    rows: list[dict[str, Any]] = []
    matched: list[Matched] = []
    parents: list[str] = []
    missing: list[str] = []
    for theirs, file in sorted(files.items()):
        tasks = [TASKS[ours] for ours in BY_NAME[theirs].tasks]
        gold, corpus = (join(benchmarks, kind, tasks[0].benchmark) for kind in ("gold", "corpora"))
        try:
            index = GoldIndex.read(gold)
        except UserError:
            missing.append(tasks[0].benchmark)
            continue
        parents += [uri for uri in (corpus, gold) if uri not in parents]
        made, result = _import_task(theirs, tasks, list(read_samples(file, theirs)), index, name)
        rows += made
        matched.append(result)
    if not rows:
        lost = f"; not imported: {', '.join(dict.fromkeys(missing))}" if missing else ""
        raise UserError(f"{folder}: no sample matches a gold row under {benchmarks}{lost}")
    revision = hashlib.sha256(b"".join(files[t].read_bytes() for t in sorted(files))).hexdigest()
    rows = [{**row, "model_revision": f"lmms-{revision[:16]}"} for row in rows]
    uri = join(output, f"{name}-lmms-{revision[:8]}")
    _publish(uri, name, rows, parents, {"tool": "lmms-eval", "log": revision, "tasks": sorted(files)})
    return Imported(uri=uri, tasks=matched)


def _publish(
    uri: str, name: str, rows: Sequence[Mapping[str, Any]], parents: list[str], config: dict[str, Any]
) -> None:
    plan_dataset(
        uri,
        kind="eval",
        name=uri.rsplit("/", 1)[-1],
        shards=1,
        config={"what": "answers", **config},
        parents=parents,
        models={name: str(rows[0]["model_revision"])},
    )
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=RESULT_SCHEMA)
    commit_shard(uri, 0, {"rows": table}, counts={"accepted": len(rows)}, inputs=len(rows))
    freeze(uri)


def _import_task(
    theirs: str, tasks: Sequence[Task], logged: Sequence[LoggedSample], index: GoldIndex, name: str
) -> tuple[list[dict[str, Any]], Matched]:
    rows: list[dict[str, Any]] = []
    lines: dict[str, LoggedSample] = {}
    counts = Counter[str]()
    for line in sorted(logged, key=lambda sample: sample.doc_id):
        gold = index.find(line)
        drawn = [] if gold is None else [t for t in tasks if t.draws_gold(gold.part, len(gold.image_ids))]
        if line.said is None or gold is None or not drawn:
            counts["silent" if line.said is None else "unmatched"] += 1
            continue
        for task in drawn:
            row = _row(task, gold, line, name)
            if row["sample_id"] in lines:
                counts["unmatched"] += 1
                continue
            lines[row["sample_id"]] = line
            rows.append(row)
    scale = BY_NAME[theirs].scale
    return rows, Matched(
        task=theirs,
        samples=len(rows),
        unmatched=counts["unmatched"],
        silent=counts["silent"],
        **_both(rows, lines, scale),
    )


def _row(task: Task, gold: GoldRow, line: LoggedSample, name: str) -> dict[str, Any]:
    sample = sample_of(task, gold)
    return dict.fromkeys(RESULT_SCHEMA.names) | {
        "sample_id": sample.id,
        "key": "",
        "model": name,
        "task": task.name,
        "image_id": sample.image_id,
        "prompt": line.asked or sample.question,
        "prompt_sha": hashlib.sha256(line.asked.encode("utf-8", "replace")).hexdigest(),
        "rule_version": task.version,
        "prediction": line.said,
        "golds": list(sample.golds),
        "options": list(sample.options),
        "objects": list(sample.objects),
        "category": sample.category,
        "group": sample.group,
        "meta": json.dumps(dict(sample.meta), sort_keys=True),
        "state": "accepted",
        "finish_reason": "stop",
        "tokens_completion": line.tokens,
    }


def _both(rows: list[dict[str, Any]], lines: Mapping[str, LoggedSample], scale: float) -> dict[str, Any]:
    """Score the rows (into them), and set their rule's scores beside ours."""
    pairs: list[tuple[float, float]] = []
    by_id = {row["sample_id"]: row for row in rows}
    for task, scored in score_rows(rows).items():
        rule = TASKS[task].rule
        parsed = rule.score([answer_of(by_id[s]) for s in scored.ids]).parsed
        own = rule.sample_scores(Scored([], scored.stats))
        for sample, said, value in zip(scored.ids, parsed, own, strict=True):
            by_id[sample]["parsed"] = said
            by_id[sample]["score"] = None if rule.corpus or math.isnan(value) else float(value)
            if math.isfinite(lines[sample].score) and math.isfinite(value):
                pairs.append((lines[sample].score, float(value)))
    if not pairs:
        return {}
    unit = 100.0 if scale == 1.0 else scale
    return {
        "theirs": unit * sum(a for a, _ in pairs) / len(pairs),
        "ours": unit * sum(b for _, b in pairs) / len(pairs),
        "differ": sum(abs(a - b) > 1e-6 for a, b in pairs),
    }


@dataclass(frozen=True)
class GoldIndex:
    """Gold rows by place in the source, by name, and by what they say."""

    places: Sequence[Sequence[GoldRow]]

    @classmethod
    def read(cls, uri: str) -> GoldIndex:
        """Of a published gold set. Rejects count too: they have numbers in the log. Raises UserError."""
        if read_manifest(uri).kind != "gold":
            raise UserError(f"{uri} is no gold set; give the root that `l2t eval import --output` was given")
        rows = [from_row(row) for table in iter_tables(uri) for row in table.to_pylist()]
        rejected = [
            str(w) for t in iter_tables(uri, "rejects", columns=["where"]) for w in t["where"].to_pylist()
        ]
        at: dict[str, list[GoldRow]] = defaultdict(list)
        for row in rows:
            at[row.where].append(row)
        places = sorted({*at, *rejected}, key=_place)
        return cls([at.get(place, []) for place in places])

    def find(self, line: LoggedSample) -> GoldRow | None:
        """The row that a line is about, None where none is or several could be.

        A document that is named, as in logs that keep it, is looked up by name; a place alone could be that of
        another picture with the same question, where the files are not those that lmms-eval read.
        """
        here = self.places[line.doc_id] if 0 <= line.doc_id < len(self.places) else []
        here = [row for row in here if _agrees(row, line)]
        names = {str(line.doc[key]) for key in _NAMES if isinstance(line.doc.get(key), str | int)}
        named = {r.id: r for name in names for r in self._by_name.get(name, []) if _agrees(r, line)}
        if named:
            both = [row for row in here if row.id in named]
            return both[0] if both else next(iter(named.values())) if len(named) == 1 else None
        if here:
            return here[0]
        same = [row for row in self._by_target.get(_plain(line.target), []) if _agrees(row, line)]
        return same[0] if len(same) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[GoldRow]]:
        """By id, and by its end: parts of a benchmark stand before a colon."""
        return _grouped((name, row) for row in self._rows for name in {row.id, row.id.rsplit(":", 1)[-1]})

    @cached_property
    def _by_target(self) -> dict[str, list[GoldRow]]:
        return _grouped((_plain(text), row) for row in self._rows for text in _targets(row))

    @property
    def _rows(self) -> Iterable[GoldRow]:
        return (row for rows in self.places for row in rows)


def _grouped(pairs: Iterable[tuple[str, GoldRow]]) -> dict[str, list[GoldRow]]:
    found: dict[str, list[GoldRow]] = defaultdict(list)
    for key, row in pairs:
        found[key].append(row)
    return found


def _place(where: str) -> tuple[str, int]:
    match = _WHERE.match(where)
    return (match["file"], int(match["row"])) if match else (where, 0)


def _agrees(row: GoldRow, line: LoggedSample) -> bool:
    """Whether the row's question was asked; where it has none (captions), whether the references are these."""
    asked = line.asked or str(line.doc.get("question", ""))
    if row.question:
        # What stands behind a place for a picture or a list of options is worded anew by either tool.
        words = _plain(row.question.split("<image", 1)[0])[:120]
        return bool(words) and words in _plain(asked)
    return _plain(line.target) in {_plain(text) for text in _targets(row)}


def _targets(row: GoldRow) -> set[str]:
    """The ways in which their log writes a row's references."""
    return {str(list(row.golds)), str(tuple(row.golds)), *row.golds[:1]}


def _plain(text: str) -> str:
    # They capitalise some questions, which lowers the rest of them.
    return _SPACE.sub(" ", text).strip().casefold()
