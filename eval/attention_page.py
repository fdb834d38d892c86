"""The page of attention on the picture: shares by model, head and sample, and heat maps over the pictures.

One file that loads nothing, without script, under a policy that lets only its own style apply.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from cluster import storage
from cluster.datasets import iter_tables, manifest_hash, read_manifest
from cluster.errors import UserError
from eval.config import GoldSet
from eval.document import document
from eval.overlay import overlay, plain
from eval.samples import Chunk, load
from eval.scorers.base import Array
from eval.statistics import mean_estimate, paired_mean
from eval.tasks import lite_order

if TYPE_CHECKING:
    from PIL.Image import Image

COLORS = 6
# A plot, in the units of its drawing: the frame inside leaves room for labels.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 190, 42, 422, 14, 166
BINS = 24


@dataclass(frozen=True, kw_only=True)
class Looked:
    """One model's rows: the accepted ones by sample id."""

    name: str
    uri: str
    rows: Mapping[str, Mapping[str, Any]]
    failed: int

    def column(self, name: str) -> Array:
        """A number of every row."""
        return np.array([row[name] for row in self.rows.values()], dtype=np.float64)

    @property
    def images(self) -> list[str]:
        """Image of every row, for clustered errors."""
        return [row["image_id"] for row in self.rows.values()]


def write_page(
    uris: Sequence[str], out: str, *, samples: int = 24, title: str = "Attention on the picture"
) -> str:
    """Render and store the page of data sets that ``l2t eval attention`` made; returns its text.

    Args:
        uris: the first is the model that the others are compared with.
        samples: how many pictures are shown, the same ones for all models.

    Raises:
        UserError: a URI holds no such data set, or the models share no sample.
    """
    html = render([_read(uri) for uri in uris], samples=samples, title=title)
    storage.write_bytes(out, html.encode())
    return html


def _read(uri: str) -> Looked:
    manifest = read_manifest(uri)
    if manifest.config.get("what") != "attention":
        raise UserError(f"{uri} holds no attention; give what `l2t eval attention` printed")
    rows = [row for table in iter_tables(uri) for row in table.to_pylist()]
    good = {row["sample_id"]: row for row in rows if row["state"] == "accepted"}
    name = next(iter(manifest.models))
    return Looked(name=name, uri=uri, rows=dict(sorted(good.items())), failed=len(rows) - len(good))


def render(found: Sequence[Looked], *, samples: int, title: str) -> str:
    """The page as text."""
    shared = [s for s in found[0].rows if all(s in other.rows for other in found)]
    if not shared:
        raise UserError("no sample was looked at by all of these models; measure them on the same gold set")
    chosen = _choose(found[0], shared, samples)
    return document(
        "attention.html.jinja",
        styles=("page.css", "attention.css"),
        title=title,
        models=[_line(one, found[0], k) for k, one in enumerate(found)],
        heads=_heads(found),
        histogram=_histogram(found),
        samples=[_card(found, sample, picture) for sample, picture in _pictures(found[0], chosen)],
        shared=len(shared),
        sources=[{"uri": one.uri, "sha": manifest_hash(one.uri)[:16]} for one in found],
    )


def _line(one: Looked, base: Looked, color: int) -> dict[str, Any]:
    mass = mean_estimate(one.column("mass"), one.images)
    difference = ""
    if one is not base and (both := [s for s in one.rows if s in base.rows]):
        left, right = (np.array([looked.rows[s]["mass"] for s in both]) for looked in (one, base))
        paired = paired_mean(left, right, [one.rows[s]["image_id"] for s in both])
        difference = f"{100 * paired.value:+.2f} ± {100 * paired.se:.2f}"
    return {
        "name": one.name,
        "color": color % COLORS,
        "mass": f"{100 * mass.value:.1f} ± {100 * mass.se:.1f}" if math.isfinite(mass.se) else "–",
        "difference": difference or ("baseline" if one is base else "–"),
        "first": f"{100 * one.column('mass_first').mean():.1f}",
        "even": f"{100 * (one.column('image_tokens') / one.column('tokens')).mean():.1f}",
        "n": len(one.rows),
        "failed": one.failed,
    }


def _heads(found: Sequence[Looked]) -> Markup:
    """Mean share of each head on the picture, a bar per head and model."""
    means = [np.mean([row["mass_head"] for row in one.rows.values()], axis=0) for one in found]
    heads = max(len(m) for m in means)
    step = (RIGHT - LEFT) / heads
    width = min(18.0, step * 0.8 / len(found))
    body = [_scale(1.0)]
    for k, values in enumerate(means):
        for head, value in enumerate(values):
            x = LEFT + step * (head + 0.5) + width * (k - len(found) / 2)
            tall = (BOTTOM - TOP) * value
            note = escape(f"{found[k].name}, head {head}: {100 * value:.1f} %")
            body.append(
                f'<rect class="c{k % COLORS}" x="{x:.1f}" y="{BOTTOM - tall:.1f}" width="{width * 0.9:.1f}" '
                f'height="{tall:.1f}"><title>{note}</title></rect>'
            )
    every = -(-heads // 16)
    body += [_below(LEFT + step * (head + 0.5), str(head)) for head in range(0, heads, every)]
    return _svg("share of each head's attention on the picture", body)


def _histogram(found: Sequence[Looked]) -> Markup:
    """How many samples have which share (mean over heads), in percent of the samples."""
    counts = [np.histogram(one.column("mass"), BINS, (0, 1))[0] / max(1, len(one.rows)) for one in found]
    top = 0.04 * math.ceil(max(float(c.max()) for c in counts) / 0.04)  # quarters are whole percents
    body = [_scale(top)]
    for k, shares in enumerate(counts):
        points = " ".join(
            f"{LEFT + (RIGHT - LEFT) * x / BINS:.1f},{BOTTOM - (BOTTOM - TOP) * share / top:.1f}"
            for bin_number, share in enumerate(shares)
            for x in (bin_number, bin_number + 1)
        )
        name = escape(found[k].name)
        body.append(
            f'<polyline class="step c{k % COLORS}" points="{points}"><title>{name}</title></polyline>'
        )
    body += [_below(LEFT + (RIGHT - LEFT) * p / 100, f"{p} %") for p in range(0, 101, 20)]
    return _svg("distribution over samples of the share on the picture", body)


def _scale(top: float) -> str:
    """Lines across at quarters of ``top``, a share, with their percentage."""
    lines = []
    for part in range(5):
        y = BOTTOM - (BOTTOM - TOP) * part / 4
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{25 * part * top:.0f} %"
        lines.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    return "".join(lines)


def _below(x: float, label: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{BOTTOM + 17}" text-anchor="middle">{label}</text>'


def _svg(label: str, body: Sequence[str]) -> Markup:
    frame = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{frame}{''.join(body)}</svg>")


def _choose(one: Looked, shared: Sequence[str], number: int) -> list[str]:
    """Samples of all tasks in turn, each task's in the order of a hash of their ids."""
    by_task: dict[str, list[str]] = {}
    for sample in sorted(shared, key=lite_order):
        by_task.setdefault(one.rows[sample]["task"], []).append(sample)
    turns = [(turn, task, s) for task, names in sorted(by_task.items()) for turn, s in enumerate(names)]
    return [sample for _, _, sample in sorted(turns)[:number]]


def _pictures(one: Looked, samples: Sequence[str]) -> list[tuple[str, Image]]:
    """(sample, picture as the model saw it) for those whose picture can still be read, in order."""
    gold = GoldSet.model_validate(read_manifest(one.uri).config["gold_set"])
    places: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for sample in samples:
        row = one.rows[sample]
        pick = (row["task"], sample.removeprefix(f"{row['task']}:"))
        places.setdefault((row["benchmark"], row["shard"]), []).append(pick)
    found: dict[str, Image] = {}
    for (benchmark, shard), picks in places.items():
        for item in load(gold, Chunk(index=0, source=shard, picks=tuple(picks), benchmark=benchmark)):
            if item.image is not None:
                found[item.sample.id] = item.image
    return [(sample, found[sample]) for sample in samples if sample in found]


def _card(found: Sequence[Looked], sample: str, picture: Image) -> dict[str, Any]:
    first = found[0].rows[sample]
    # One scale for all maps of a card, so that a model that looks away is pale.
    scale = max(max(one.rows[sample]["map"]) for one in found)
    maps = []
    for k, one in enumerate(found):
        row = one.rows[sample]
        shape, region = (row["rows"], row["columns"]), tuple(row["region"])
        cells, top = (np.array(row[name], dtype=np.float64).reshape(shape) for name in ("map", "top_map"))
        top_share = row["mass_head"][row["top_head"]]
        maps.append(
            {
                "name": one.name,
                "color": k % COLORS,
                "mean": overlay(picture, cells, region, scale),
                "share": f"{100 * row['mass']:.1f} %",
                "top": overlay(picture, top, region, float(top.max())),
                "top_head": row["top_head"],
                "top_share": f"{100 * top_share:.1f} %",
            }
        )
    return {
        "picture": plain(picture),
        "question": first["question"],
        "answer": first["answer"],
        "task": first["task"],
        "image_id": first["image_id"],
        "maps": maps,
    }
