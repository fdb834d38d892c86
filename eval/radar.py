"""A radar of models over tasks, as inline SVG like `eval.charts`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from eval.charts import COLORS, Series

# Fewer axes make no area, more cannot be told apart.
LEAST, MOST = 3, 24
SIZE, RADIUS = (560.0, 400.0), 138.0
RINGS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One spoke: ``values`` in the order of the models, None where there is none; ``best`` is its outer end."""

    name: str
    values: Sequence[float | None]
    best: float


def radar(models: Sequence[Series], axes: Sequence[Axis], *, label: str) -> Markup:
    """Every spoke from 0 to the best model's value, so that a small lead looks small.

    A model without a value of some axis is left out. Empty where there are too few or too many axes.
    """
    axes = [axis for axis in axes if axis.best > 0]
    if not LEAST <= len(axes) <= MOST:
        return Markup("")
    body = [_ring(share, len(axes)) for share in RINGS]
    for i, axis in enumerate(axes):
        x, y = _at(i, len(axes), 1.0)
        body.append(
            f'<line x1="{SIZE[0] / 2:.1f}" y1="{SIZE[1] / 2:.1f}" x2="{x:.1f}" y2="{y:.1f}" class="grid"/>'
        )
        body.append(_name(axis, i, len(axes)))
    for k, model in enumerate(models):
        values = [axis.values[k] for axis in axes]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            continue
        places = [_at(i, len(axes), max(0.0, v) / axes[i].best) for i, v in enumerate(known)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        color = f"c{model.color % COLORS}"
        body.append(
            f'<polygon class="web {color}" points="{points}"><title>{escape(model.name)}</title></polygon>'
        )
        for axis, value, (x, y) in zip(axes, known, places, strict=True):
            note = escape(f"{model.name}, {axis.name}: {value:.1f}")
            body.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" class="{color}"><title>{note}</title></circle>'
            )
    return Markup(
        f'<svg class="plot" viewBox="0 0 {SIZE[0]:g} {SIZE[1]:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(body)}</svg>"
    )


def _at(i: int, n: int, share: float) -> tuple[float, float]:
    angle = 2 * math.pi * i / n - math.pi / 2
    return SIZE[0] / 2 + RADIUS * share * math.cos(angle), SIZE[1] / 2 + RADIUS * share * math.sin(angle)


def _ring(share: float, n: int) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_at(i, n, share) for i in range(n)))
    return f'<polygon class="ring" points="{points}"/>'


def _name(axis: Axis, i: int, n: int) -> str:
    x, y = _at(i, n, 1.09)
    side = (x - SIZE[0] / 2) / RADIUS
    anchor = "middle" if abs(side) < 0.15 else "start" if side > 0 else "end"
    return (
        f'<text x="{x:.1f}" y="{y + 4:.1f}" class="tick" text-anchor="{anchor}">{escape(axis.name)} '
        f'<tspan class="end">{axis.best:.4g}</tspan></text>'
    )
