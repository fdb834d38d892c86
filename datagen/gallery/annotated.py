"""Images of a corpus as the page shows them: the picture with its boxes drawn over it, and every annotation."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Any

from cluster.datasets import Manifest, read_shard
from datagen.corpus import CorpusRow, from_row
from datagen.gallery.books import in_words, tone_of
from datagen.gallery.facts import is_of
from datagen.gallery.lineage import RANK
from datagen.gallery.pictures import Mark, Picture, image_bytes, thumbnail
from datagen.gallery.sample import FEW_SHARDS, Choice
from datagen.gallery.visible import label, origin
from datagen.programs.draft import outcome

COLORS = 8
# A crowded Visual Genome image has hundreds of regions; above this many boxes nobody sees the picture.
MAX_MARKS, MAX_ITEMS = 40, 80


@dataclass(frozen=True, kw_only=True)
class Item:
    """An annotation; ``mark`` is its box over the picture, None where it has none (or they are too many)."""

    text: str
    detail: str = ""
    mark: Mark | None = None


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One image with its annotations, or a row that was refused with the ``fields`` it came with."""

    picture: Picture
    tone: str
    fate: str
    facets: str
    order: str
    lists: list[tuple[str, list[Item], int]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A row to show, by its place in a stream of a shard."""

    shard: int
    stream: str
    place: int


def choose(uri: str, manifest: Manifest, looked_at: list[int], choice: Choice) -> list[Pick]:
    """Seeded sample of rows over sources and shards, and some rejects where there are any."""
    rng = random.Random(f"{choice.seed}-corpus")
    shards = looked_at
    if choice.images is not None:
        rejecting = [k for k in shards if "rejects" in manifest.shards[k].parts]
        first = rng.sample(rejecting, min(1, len(rejecting)))
        rest = [k for k in rng.sample(shards, len(shards)) if k not in first]
        shards = sorted([*first, *rest][:FEW_SHARDS])
    strata: dict[str, list[Pick]] = {}
    for shard in shards:
        for stream in manifest.shards[shard].parts:
            for pick, stratum, key in _places(uri, shard, stream):
                if is_of(key, choice.state):
                    strata.setdefault(stratum, []).append(pick)
    if choice.images is None:
        return [pick for picks in strata.values() for pick in picks]
    drawn = [rng.sample(picks, min(len(picks), choice.images)) for _, picks in sorted(strata.items())]
    in_turn = [picks[i] for i in range(choice.images) for picks in drawn if i < len(picks)]
    return in_turn[: choice.images]


def _places(uri: str, shard: int, stream: str) -> list[tuple[Pick, str, str]]:
    table = read_shard(uri, shard, stream, verify=False) if stream != "rows" else None
    if table is None:
        sources = read_shard(uri, shard, columns=["source"], verify=False)["source"].to_pylist()
        return [
            (Pick(shard=shard, stream=stream, place=i), f"rows {origin(s or '')}", "accepted")
            for i, s in enumerate(sources)
        ]
    keys = [_key(row) for row in table.drop_columns(_heavy(table.column_names)).to_pylist()]
    return [(Pick(shard=shard, stream=stream, place=i), key, key) for i, key in enumerate(keys)]


def _heavy(names: list[str]) -> list[str]:
    return [name for name in names if name == "image"]


def _key(row: dict[str, Any]) -> str:
    return outcome(str(row.get("state") or "rejected"), str(row.get("reason") or ""))


def read(uri: str, picks: list[Pick], side: int) -> Iterator[Annotated]:
    """The picked rows, shard by shard as they are taken; pictures are read for those alone."""
    order = sorted(picks, key=lambda p: (p.shard, p.stream, p.place))
    for (shard, stream), of_stream in groupby(order, key=lambda p: (p.shard, p.stream)):
        places = [pick.place for pick in of_stream]
        if stream != "rows":
            rows = read_shard(uri, shard, stream, verify=False).take(places).to_pylist()
            yield from (_refused(row, side) for row in rows)
            continue
        names = [f for f in CorpusRow.__dataclass_fields__ if f != "image"]
        rows = read_shard(uri, shard, columns=names, verify=False).take(places).to_pylist()
        pictures = image_bytes(uri, shard, [row["image_id"] for row in rows])
        for row in rows:
            row["image"] = {"bytes": pictures.get(row["image_id"], b"")}
            yield _shown(from_row(row), side)


def _shown(row: CorpusRow, side: int) -> Annotated:
    # Where objects have boxes, those of regions would hide the picture and wait until somebody points at them.
    quiet = bool(row.objects)
    boxes = [_mark("object", i, o.name, o.box, row) for i, o in enumerate(row.objects[:MAX_MARKS])]
    areas = [_mark("region", i, r.phrase, r.box, row, quiet) for i, r in enumerate(row.regions[:MAX_MARKS])]
    objects = [
        Item(text=o.name, detail=", ".join(o.attributes), mark=mark)
        for o, mark in zip_longest(row.objects, boxes)
    ]
    regions = [
        Item(text=r.phrase, detail=_box_text(r.box), mark=mark) for r, mark in zip_longest(row.regions, areas)
    ]
    lists = {
        "captions": [Item(text=c) for c in row.captions],
        "objects": objects,
        "regions": regions,
        "relations": [Item(text=_relation(row, r.subject, r.predicate, r.object)) for r in row.relations],
        "printed words": [Item(text=t) for t in row.ocr],
    }
    names = sorted({label(o.name) for o in row.objects})
    has = [name for name, items in lists.items() if items] or ["nothing"]
    facets = [
        ("source", [origin(row.source) or "none"]),
        ("has", has),
        ("object", names),
        ("reason", ["accepted"]),
    ]
    fields = [("size", f"{row.width} x {row.height}"), ("source", row.source), ("sha256", row.sha256)]
    picture = thumbnail(row.image_id, row.image, side, [*boxes, *areas])
    return Annotated(
        picture=picture,
        tone="good" if picture.data else "bad",
        fate=in_words("accepted") if picture.data else in_words("failed:image"),
        facets=json.dumps([(name, values) for name, values in facets if values]),
        order=json.dumps(
            {
                "state": RANK["good" if picture.data else "bad"],
                "length": sum(map(len, row.captions)),
                "items": len(row.objects) + len(row.regions),
            }
        ),
        lists=[(name, items[:MAX_ITEMS], len(items)) for name, items in lists.items() if items],
        fields=[(name, value) for name, value in [*fields, ("facts", row.facts)] if value],
    )


def _refused(row: dict[str, Any], side: int) -> Annotated:
    """A row of the rejects, whatever columns the importer gave it."""
    key = _key(row)
    image = row.pop("image", None)
    data = image.get("bytes") if isinstance(image, dict) else None
    name = str(row.get("image_id") or "")
    fields = [
        (label(k), v if isinstance(v, str) else json.dumps(v, default=str)) for k, v in row.items() if v
    ]
    return Annotated(
        picture=thumbnail(name, data, side),
        tone=tone_of(key),
        fate=in_words(key),
        facets=json.dumps([("reason", [label(key)])]),
        order=json.dumps({"state": RANK[tone_of(key)], "length": 0, "items": 0}),
        fields=fields,
    )


def _mark(
    what: str, number: int, name: str, box: tuple[int, ...], row: CorpusRow, quiet: bool = False
) -> Mark:
    """A box inside its picture, whatever the annotation says."""
    x1, y1, x2, y2 = (*box, 0, 0, 0, 0)[:4]
    left, top = (min(max(0, v), side) for v, side in ((x1, row.width), (y1, row.height)))
    right, bottom = (min(max(0, v), side) for v, side in ((x2, row.width), (y2, row.height)))
    return Mark(
        key=f"{what}-{number}",
        color=number % COLORS,
        quiet=quiet,
        x=left,
        y=top,
        width=max(0, right - left),
        height=max(0, bottom - top),
        name=label(name),
    )


def _box_text(box: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, box))}]"


def _relation(row: CorpusRow, subject: int, predicate: str, object: int) -> str:
    things = [row.objects[i] if 0 <= i < len(row.objects) else None for i in (subject, object)]
    named = [" ".join((*thing.attributes, thing.name)) if thing else "?" for thing in things]
    return f"{named[0]} {predicate} {named[1]}"
