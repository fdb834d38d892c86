"""Pictures as inline SVG, 400 units wide so that their text keeps its size on a telephone; colours are variables of
the page's style. All text that comes from data is escaped here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH = 400.0
BINS = 36


@dataclass(frozen=True, kw_only=True)
class Hill:
    """One distribution; ``tone`` is ``before``, ``after``, ``own`` or ``change``."""

    name: str
    tone: str
    values: Sequence[float]


def hills(
    series: Sequence[Hill], *, label: str, x_label: str, zero: bool = False, whole: bool = False
) -> Markup:
    """Histograms over each other as outlines, each mean as a dashed mark; the outer 1 % stands at the edges.

    Args:
        zero: the axis holds 0, with a line there. whole: values are integers, one bin each where they fit.
    """
    height, left, right, top, bottom = 190.0, 8.0, 8.0, 10.0, 34.0
    series = [s for s in series if len(s.values)]
    known = np.array([v for s in series for v in s.values])
    if known.size == 0:
        return _svg(40, label, [_text(8, 24, "nothing to show", "tick")])
    low, high = (float(v) for v in np.quantile(known, (0.005, 0.995)))
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    edges = _edges(low, high, whole)
    low, high = float(edges[0]), float(edges[-1])
    shares = [np.histogram(np.clip(s.values, low, high), edges)[0] / len(s.values) for s in series]
    peak = max(float(share.max()) for share in shares) or 1.0

    def x_at(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (WIDTH - left - right)

    def y_at(share: float) -> float:
        return height - bottom - share / peak * (height - top - bottom)

    body = [_line(left, y_at(0), WIDTH - right, y_at(0), "axis")]
    for tick in ticks(low, high):
        body.append(_text(x_at(tick), height - bottom + 15, _number(tick), "tick", "middle"))
    if zero:
        body.append(_line(x_at(0), top, x_at(0), y_at(0), "zero"))
    for s, share in zip(series, shares, strict=True):
        steps = [
            f"{x_at(edge):.1f},{y_at(part):.1f}"
            for part, pair in zip(share, itertools.pairwise(edges), strict=True)
            for edge in pair
        ]
        corners = [f"{x_at(low):.1f},{y_at(0):.1f}", *steps, f"{x_at(high):.1f},{y_at(0):.1f}"]
        mean = float(np.mean(s.values))
        body.append(
            f'<polygon class="hill t-{s.tone}" points="{" ".join(corners)}">'
            f"<title>{escape(s.name)}: mean {mean:.3g}, {len(s.values)} values</title></polygon>"
        )
        body.append(_line(x_at(mean), top, x_at(mean), y_at(0), f"mean t-{s.tone}"))
    body.append(_text(WIDTH - right, height - 4, x_label, "tick", "end"))
    return _svg(height, label, body)


def _edges(low: float, high: float, whole: bool) -> np.ndarray:
    if whole and high - low <= 2 * BINS:
        return np.arange(math.floor(low) - 0.5, math.ceil(high) + 1.0)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One row of `steps`: where it was and is, with intervals; None for what is not shown."""

    name: str
    before: tuple[float, float | None, float | None] | None
    after: tuple[float, float | None, float | None]
    floor: float | None


def steps(rows: Sequence[Step], *, label: str, x_label: str) -> Markup:
    """Where each quantity was and is, on one scale from 0."""
    left, right, top, row = 96.0, 12.0, 8.0, 38.0
    bottom = top + row * len(rows)
    values = [v for r in rows for v in (*(r.before or ()), *r.after, r.floor) if v is not None]
    high = max([*values, 1e-9]) * 1.05

    def at(value: float) -> float:
        return left + value / high * (WIDTH - left - right)

    body = []
    for tick in ticks(0.0, high, 4):
        body.append(_line(at(tick), top, at(tick), bottom, "grid"))
        body.append(_text(at(tick), bottom + 15, _number(tick), "tick", "middle"))
    body.append(_text(WIDTH - right, bottom + 30, x_label, "tick", "end"))
    for i, entry in enumerate(rows):
        middle = top + row * (i + 0.5)
        body.append(_text(left - 8, middle + 4, entry.name, "name", "end"))
        if entry.floor is not None:
            body.append(_line(at(entry.floor), middle - 13, at(entry.floor), middle + 13, "floor"))
        for place, tone, y in ((entry.before, "before", middle - 6), (entry.after, "after", middle + 6)):
            if place is None:
                continue
            value, low, top_value = place
            body.append(f"<g><title>{escape(entry.name)}, {tone}: {value:.3f}</title>")
            if low is not None and top_value is not None:
                body.append(_line(at(low), y, at(top_value), y, f"bar t-{tone}"))
            body.append(f'<circle class="dot t-{tone}" cx="{at(value):.1f}" cy="{y:.1f}" r="4"/></g>')
    return _svg(bottom + 36, label, body)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low] if math.isfinite(low) else []
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if raw <= size * m * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _svg(height: float, label: str, body: list[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
