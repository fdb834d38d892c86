"""Write the rendered world as a corpus with gold instructions, in the layout that importers produce.

Every row depends only on (seed, split, index): a corpus of any size can be made again, extended or checked, on any
number of machines. Shards are committed one by one, so a stopped run continues.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import Field

from cluster.config import Config
from cluster.datasets import Parent, commit_shard, freeze, manifest_hash, pending_shards, plan_dataset
from cluster.progress import Progress
from cluster.storage import join
from datagen import corpus, records
from datagen.corpus import Box, CorpusRow, Region, Relation
from datagen.records import Record, Turn, record_id
from datagen.starter import evolving, lessons, manner, rating
from datagen.starter.asking import kinds_of
from datagen.starter.draw import png
from datagen.starter.phrases import RELATIONS, captions, full_name
from datagen.starter.scene import SIDE, Scene, Split, sample_scene

WORLD_VERSION = "1"
LESSONS_VERSION = "3"


class WorldConfig(Config):
    """What ``l2t corpus starter`` writes. ``gold`` lists instruction sets, see `GOLD`."""

    images: int
    seed: int = 0
    split: Split = "train"
    gold: tuple[str, ...] = ("questions",)
    shard_images: int = 250
    habit: float = Field(0.0, ge=0, le=1, description="share of things whose colour follows from their shape")
    world_version: str = WORLD_VERSION


def scene_at(config: WorldConfig, index: int) -> Scene:
    """The scene of row ``index``."""
    return sample_scene(random.Random(f"{config.seed}-{config.split}-{index}"), config.split, config.habit)


def corpus_row(scene: Scene, config: WorldConfig, index: int) -> CorpusRow:
    """A scene as a corpus row: picture, five captions, objects, regions and relations with boxes, printed words."""
    picture = png(scene, seed=index + config.seed * 1_000_003)
    things = scene.things
    objects = [
        Box(name=t.shape, box=t.box, attributes=(t.word,) if t.word else (t.size, t.color)) for t in things
    ]
    objects += [Box(name="bar", box=b.box, attributes=(b.color, str(b.value))) for b in scene.bars]
    relations = [
        Relation(subject=i, predicate=name, object=j)
        for i, a in enumerate(things)
        for j, b in enumerate(things)
        for name, holds in RELATIONS.items()
        if i < j and holds(a, b)
    ]
    return CorpusRow(
        image_id=f"starter-{config.split}-{config.seed}-{index:07d}",
        image=picture,
        width=SIDE,
        height=SIDE,
        sha256=corpus.sha256(picture),
        captions=captions(scene),
        objects=tuple(objects),
        regions=tuple(Region(phrase=full_name(t), box=t.box) for t in things),
        relations=tuple(relations),
        ocr=tuple(t.word for t in things if t.word),
        source="starter",
        facts=scene.to_json(),
    )


def _record(parts: list[lessons.Lesson], image_id: str, number: int) -> Record:
    first = parts[0]
    turns = [
        t
        for p in parts
        for t in (Turn(role="user", text=p.instruction), Turn(role="assistant", text=p.answer))
    ]
    return Record(
        id=record_id("gold", image_id, number, [t.text for t in turns]),
        image_ids=(image_id,) if first.needs_image else (),
        kind=first.kind,
        format="choice" if first.format == "choice" else "bool" if first.format == "bool" else "open",
        conversation=tuple(turns),
        options=first.options,
        answer_index=first.answer_index,
        state="accepted",
        program="starter-gold",
        program_version=LESSONS_VERSION,
        source="starter",
    )


def _dense(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """Descriptions of the whole picture and of its parts: what the connector stage learns from."""
    yield [lessons.answering(scene, rng, "detail")]
    if scene.bars:
        yield [lessons.answering(scene, rng, "chart", 0.0), lessons.answering(scene, rng, "caption")]
    else:
        yield [lessons.answering(scene, rng, k, 0.0) for k in ("region", "grounding", "region", "grounding")]
        yield [lessons.answering(scene, rng, k, 0.0) for k in ("caption", "color", "shape")]


def _tasks(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """All families, several questions a picture, and every role of the short prompt set."""
    kinds = [k for k in kinds_of(scene) if k not in ("detail", "caption", "region")]
    for _ in range(3):
        yield [lessons.answering(scene, rng, rng.choice(kinds)) for _ in range(3)]
    yield [
        lessons.answering(scene, rng, k) for k in rng.sample(("detail", "caption", "detail", "caption"), 1)
    ]
    yield [lessons.choice(scene, rng), lessons.choice(scene, rng)]
    for role in ("synthesize", "synthesize", "complicate", "verify", "verify", "verify", "reformulate"):
        yield [lessons.ROLES[role](scene, rng)]
    yield [lessons.ROLES[rng.choice(("rewrite", "review"))](scene, rng)]


_DRILL = (
    "existence",
    "existence",
    "relation",
    "relation",
    "count",
    "count",
    "color",
    "color",
    "shape",
    "grounding",
)


def _drill(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """Many one-word questions about one picture. With a loss averaged over tokens, a yes or no in a mixture of long
    texts is under one percent of the signal: existence stayed at chance for 4,000 steps until it was drilled."""
    for _ in range(2):
        kinds = ["chart"] * 8 if scene.bars else rng.sample([*_DRILL, *(("ocr",) if scene.sign else ())], 8)
        yield [lessons.answering(scene, rng, kind, short=True) for kind in kinds]


def _judging(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """More of what needs a comparison: verdicts, choices, reviews."""
    for _ in range(5):
        yield [lessons.verify(scene, rng)]
    yield [lessons.choice(scene, rng), lessons.choice(scene, rng)]
    yield [lessons.review(scene, rng)]


def _evolving(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """Evolution in three directions and its judge."""
    for _ in range(3):
        yield [evolving.evolve(scene, rng)]
    for _ in range(2):
        yield [evolving.eliminate(scene, rng)]


def _questions(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """One question of every family the picture can carry: the evaluation's gold."""
    for kind in kinds_of(scene):
        yield [lessons.answering(scene, rng, kind)]
    yield [lessons.choice(scene, rng)]


def _foreign(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """Rewriting as somebody does it whose manner is not the model's (a control of the writing-manner gap)."""
    for _ in range(4):
        yield [lessons.rewrite(scene, rng, manner.stranger)]
    for _ in range(2):
        yield [lessons.review(scene, rng, manner.stranger)]


def _rating(scene: Scene, rng: random.Random) -> Iterator[list[lessons.Lesson | None]]:
    """The four scores of instructions; verdicts too, which the same judge goes on giving."""
    for score in rating.SCORES:
        for _ in range(2):
            yield [rating.rate(scene, rng, score)]
    for _ in range(4):
        yield [lessons.verify(scene, rng)]


GOLD: dict[str, Callable[[Scene, random.Random], Iterator[list[lessons.Lesson | None]]]] = {
    "dense": _dense,
    "tasks": _tasks,
    "drill": _drill,
    "judging": _judging,
    "evolving": _evolving,
    "questions": _questions,
    "foreign": _foreign,
    "rating": _rating,
}


def gold_records(name: str, scene: Scene, image_id: str) -> list[Record]:
    """Gold rows of one set for one picture; role lessons without a picture become text-only rows."""
    rng = random.Random(f"gold-{name}-{image_id}")
    rows = []
    for number, drawn in enumerate(GOLD[name](scene, rng)):
        parts = [p for p in drawn if p is not None]
        if parts:
            rows.append(_record(parts, image_id, number))
    return rows


@dataclass(frozen=True, kw_only=True)
class WorldPaths:
    """Where a world lies under a root: one corpus, one instruction set per kind of gold."""

    corpus: str
    gold: dict[str, str]


def world_paths(root: str, config: WorldConfig, name: str | None = None) -> WorldPaths:
    """URIs of a world's data sets."""
    stem = name or f"starter-{config.split}"
    gold = {g: join(root, "instructions", f"{stem}-{g}") for g in config.gold}
    return WorldPaths(corpus=join(root, "corpora", stem), gold=gold)


def write_world(root: str, config: WorldConfig, name: str | None = None) -> WorldPaths:
    """Write (or finish writing) the corpus, then its gold sets, each committed shard by shard and published."""
    paths = world_paths(root, config, name)
    shards = -(-config.images // config.shard_images)
    settings = config.model_dump(mode="json")

    def indices(shard: int) -> range:
        return range(shard * config.shard_images, min(config.images, (shard + 1) * config.shard_images))

    stem = name or f"starter-{config.split}"
    plan_dataset(
        paths.corpus, kind="corpus", name=stem, shards=shards, config={**settings, "gold": []}, parents=[]
    )
    pending = pending_shards(paths.corpus)
    with Progress(sum(len(indices(k)) for k in pending), unit="images", label=f"corpus {stem}") as progress:
        for shard in pending:
            rows = [corpus_row(scene_at(config, i), config, i) for i in indices(shard)]
            commit_shard(paths.corpus, shard, {"rows": corpus.to_table(rows)}, counts={"accepted": len(rows)})
            progress.advance(len(rows))
    freeze(paths.corpus)
    for gold, uri in paths.gold.items():
        parents = [Parent(uri=paths.corpus, sha256=manifest_hash(paths.corpus))]
        settings_of = {**settings, "gold": [gold]}
        plan_dataset(
            uri,
            kind="instructions",
            name=f"{stem}-{gold}",
            shards=shards,
            config=settings_of,
            parents=parents,
        )
        pending = pending_shards(uri)
        with Progress(sum(len(indices(k)) for k in pending), unit="images", label=f"gold {gold}") as progress:
            for shard in pending:
                made: list[Record] = []
                for i in indices(shard):
                    image_id = f"starter-{config.split}-{config.seed}-{i:07d}"
                    made += gold_records(gold, scene_at(config, i), image_id)
                commit_shard(uri, shard, {"rows": records.to_table(made)}, counts={"accepted": len(made)})
                progress.advance(len(indices(shard)))
        freeze(uri)
    return paths
