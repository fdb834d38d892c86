"""Samples where two models differ, task by task, with their pictures: the first thing to look at when a number
moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.datasets import read_manifest, read_shard
from cluster.errors import UserError
from datagen.corpus import BadImage, decode_image
from datagen.gallery.pictures import image_bytes
from eval.answers import answer_tables, unjudged
from eval.benchmarks.views import outlined
from eval.overlay import plain
from eval.results import meta_of, score_rows
from eval.scorers.base import Scored
from eval.tasks import TASKS, lite_order

SHOWN_GOLDS = 3
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Differing:
    """One sample: ``win`` where the first model is better; ``image`` is a small picture as a data URL.

    ``mine_score`` and ``their_score`` are the sample's own numbers in printed units.
    """

    sample_id: str
    image_id: str
    question: str
    golds: tuple[str, ...]
    mine: str
    theirs: str
    mine_score: float
    their_score: float
    win: bool
    image: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskDisagreement:
    """A task's counts of all samples that differ and a few of them, the largest differences first."""

    task: str
    title: str
    metric: str
    wins: int
    losses: int
    same: int
    samples: list[Differing]


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Where ``model`` and ``base`` differ."""

    model: str
    base: str
    tasks: list[TaskDisagreement]

    @property
    def wins(self) -> int:
        """Samples where the model is better, over all tasks."""
        return sum(task.wins for task in self.tasks)

    @property
    def losses(self) -> int:
        """Samples where the base is better."""
        return sum(task.losses for task in self.tasks)


@dataclass(frozen=True)
class _Scored:
    rows: Mapping[str, Row]
    scores: Mapping[str, float]


def find(
    model: str, uri: str, base: str, base_uri: str, show: int = 6, *, verdicts: tuple[str, str] = ("", "")
) -> Disagreement:
    """Compare two runs sample by sample; at most ``show`` samples a task, half of each direction.

    Args:
        verdicts: data sets of a judge's verdicts on either run, "" where there are none.

    Raises:
        UserError: a data set is not there or damaged.
    """
    mine, theirs = _by_task(uri, verdicts[0]), _by_task(base_uri, verdicts[1])
    pairs = {
        task: _differing(task, mine[task], theirs[task]) for task in TASKS if task in mine and task in theirs
    }
    chosen = {task: _choose(found, show) for task, found in pairs.items()}
    wanted = {mine[task].rows[s]["image_id"] for task, names in chosen.items() for s in names}
    images = _images(uri, wanted)
    tasks = []
    for task, found in pairs.items():
        samples = [_sample(task, s, mine[task], theirs[task], found[s], images) for s in chosen[task]]
        wins = sum(d > 0 for d in found.values())
        losses = sum(d < 0 for d in found.values())
        if wins + losses:
            rule = TASKS[task].rule
            tasks.append(
                TaskDisagreement(
                    task=task,
                    title=TASKS[task].title,
                    metric=(rule.each or rule.primary).replace("_", " "),
                    wins=wins,
                    losses=losses,
                    same=len(found) - wins - losses,
                    samples=samples,
                )
            )
    return Disagreement(model=model, base=base, tasks=tasks)


def _by_task(uri: str, verdicts: str) -> dict[str, _Scored]:
    """Rows and own scores of samples, by task. Scored anew, so that caption tasks have scores by sample too."""
    rows = [row for table in answer_tables(uri, verdicts) for row in table.to_pylist()]
    waiting = unjudged(sorted({str(row["task"]) for row in rows}), verdicts)
    rows = [row for row in rows if row["task"] not in waiting]
    by_id = {str(row["sample_id"]): row for row in rows}
    out = {}
    for task, scored in score_rows(rows).items():
        metric = scored.task.rule.metrics[scored.task.rule.each or scored.task.rule.primary]
        values = scored.task.rule.sample_scores(Scored([], scored.stats)) * metric.scale
        scores = dict(zip(scored.ids, map(float, values), strict=True))
        out[task] = _Scored({s: by_id[s] for s in scored.ids}, scores)
    return out


def _differing(task: str, mine: _Scored, theirs: _Scored) -> dict[str, float]:
    """By how much the first model is better, for every sample that both have."""
    rule = TASKS[task].rule
    sign = 1.0 if rule.metrics[rule.each or rule.primary].higher else -1.0
    both = {s: sign * (mine.scores[s] - theirs.scores[s]) for s in mine.scores if s in theirs.scores}
    # Sums of floats differ in their last digits.
    return {s: 0.0 if abs(d) < 1e-9 else d for s, d in both.items() if math.isfinite(d)}


def _choose(found: Mapping[str, float], show: int) -> list[str]:
    """The largest differences of each direction, those of one size by a hash of their ids."""
    ranked = sorted((s for s, d in found.items() if d), key=lambda s: (-abs(found[s]), lite_order(s)))
    wins, losses = [s for s in ranked if found[s] > 0], [s for s in ranked if found[s] < 0]
    half = show // 2
    return wins[: max(show - half, show - len(losses))] + losses[: max(half, show - len(wins))]


def _sample(
    task: str, sample: str, mine: _Scored, theirs: _Scored, difference: float, images: Mapping[str, bytes]
) -> Differing:
    row, other = mine.rows[sample], theirs.rows[sample]
    return Differing(
        sample_id=sample,
        image_id=str(row["image_id"]),
        question=_question(str(row["prompt"] or "")),
        golds=tuple(dict.fromkeys(row["golds"] or ()))[:SHOWN_GOLDS],
        mine=str(row["prediction"] or ""),
        theirs=str(other["prediction"] or ""),
        mine_score=mine.scores[sample],
        their_score=theirs.scores[sample],
        win=difference > 0,
        image=_thumbnail(images.get(str(row["image_id"])), row if TASKS[task].boxed else {}),
    )


def _question(prompt: str) -> str:
    """The question inside a rendered prompt, without the parts that every prompt has."""
    text = prompt.replace("<image>", "").strip()
    return text.removeprefix("USER:").removesuffix("ASSISTANT:").strip()


def _thumbnail(data: bytes | None, row: Row) -> str:
    """The picture small, encoded anew (stored bytes never reach a page); '' where there is none to show."""
    if not data:
        return ""
    try:
        picture = decode_image(data)
    except BadImage:
        return ""
    box = meta_of(row).get("box")
    return plain(outlined(picture, box) if box else picture)


def _images(uri: str, wanted: set[str]) -> dict[str, bytes]:
    """Stored pictures from the run's corpora; those that are no longer there are left out."""
    found: dict[str, bytes] = {}
    for parent in read_manifest(uri).parents:
        if wanted <= found.keys():
            break
        try:
            found |= _of_corpus(parent.uri, wanted - found.keys())
        except UserError:
            continue  # the comparison is complete without pictures
    return found


def _of_corpus(uri: str, wanted: set[str]) -> dict[str, bytes]:
    manifest = read_manifest(uri)
    if manifest.kind != "corpus":
        return {}
    found: dict[str, bytes] = {}
    for shard, entry in enumerate(manifest.shards):
        left = wanted - found.keys()
        if not left or "rows" not in entry.parts:
            continue
        # Ids first: a shard holds hundreds of pictures, and few shards hold one that is shown.
        ids = read_shard(uri, shard, columns=["image_id"], verify=False)["image_id"]
        if pc.any(pc.is_in(ids, value_set=pa.array(sorted(left), pa.string()))).as_py():
            found |= image_bytes(uri, shard, left)
    return found


def pairs_of(models: Sequence[Row], baseline: str) -> list[tuple[Row, Row]]:
    """Each model that has samples with the baseline, if that has them."""
    base = next(m for m in models if m["name"] == baseline)
    return [(m, base) for m in models if m is not base and m["uri"] and base["uri"]]
