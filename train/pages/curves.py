"""Curves over steps as inline SVG, 400 units wide so that their text keeps its size on a telephone.

Colours and dashes are classes of the page's style; all text that comes from data is escaped here. What a reader
points at is read from the attribute ``data-plot`` by the page's script; without the script the curves are all there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup, escape

from datagen.manner.charts import ticks

WIDTH, HEIGHT = 400.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 16.0, 36.0
TONES = 8  # c0 to c7 in the style
MAX_POINTS = 500  # of one curve; more than a screen can tell apart
FEW = 12  # up to here each point gets a dot and there is nothing to smooth

Point = tuple[float, float]  # y is nan where nothing was measured


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line; ``sparse`` is measured now and then (held-out losses): dashed, with dots, never smoothed."""

    name: str
    tone: int
    points: Sequence[Point]
    sparse: bool = False
    smooth: bool = True


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A vertical line with a word on it."""

    x: float
    label: str


def plot(
    curves: Sequence[Curve],
    *,
    label: str,
    x_label: str,
    marks: Sequence[Mark] = (),
    zero: bool = False,
    percent: bool = False,
) -> Markup:
    """Curves over a common x.

    Args:
        zero: the axis begins at 0. Otherwise it does when that costs little of the height.
        percent: values are shares, shown in per cent.
    """
    kept = [(curve, thinned(curve.points)) for curve in curves]
    known = [(x, y) for _, points in kept for x, y in points if math.isfinite(y)]
    if not known:
        return _svg(44, label, [_text(8, 26, "nothing was logged", "tick")], "")
    frame = _frame(kept, known, zero)
    body = [*_axes(frame, x_label, percent)]
    for mark in marks:
        body += _mark(frame, mark)
    for curve, points in kept:
        body += _drawn(frame, curve, points)
    body.append(f'<line class="cross" x1="0" x2="0" y1="{TOP:g}" y2="{HEIGHT - BOTTOM:g}"/>')
    data = {
        "x": x_label,
        "percent": percent,
        "from": frame.x_low,
        "to": frame.x_high,
        "left": LEFT / WIDTH,
        "right": 1 - RIGHT / WIDTH,
        "curves": [
            {"name": curve.name, "points": [(x, float(f"{y:.5g}")) for x, y in points if math.isfinite(y)]}
            for curve, points in kept
        ],
    }
    return _svg(HEIGHT, label, body, json.dumps(data, separators=(",", ":")))


def thinned(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most about ``limit`` points: of each stretch the lowest and the highest, so that no spike is lost.

    A stretch that holds a gap keeps one.
    """
    points = sorted(points, key=lambda point: point[0])
    if len(points) <= limit:
        return points
    kept: list[Point] = []
    for part in np.array_split(np.arange(len(points)), limit // 2):
        finite = [i for i in part if math.isfinite(points[i][1])]
        ends = (
            {min(finite, key=lambda i: points[i][1]), max(finite, key=lambda i: points[i][1])}
            if finite
            else set()
        )
        gap = {i for i in part if not math.isfinite(points[i][1])}
        kept += [points[i] for i in sorted(ends | set(list(gap)[:1]))]
    return kept


def moving(values: Sequence[float]) -> list[float]:
    """Mean over a window of a 25th of the values, narrower at the ends, so that no end is pulled to its neighbours."""
    half = len(values) // 50
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(half, np.minimum(at, len(values) - 1 - at))
    return [float(v) for v in (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)]


@dataclass(frozen=True, kw_only=True)
class _Frame:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    highest: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (min(value, self.y_high) - self.y_low) / (self.y_high - self.y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _frame(kept: Sequence[tuple[Curve, list[Point]]], known: Sequence[Point], zero: bool) -> _Frame:
    xs, ys = [x for x, _ in known], [y for _, y in known]
    low, high = min(ys), max(ys)
    # The first steps of a new model, or one bad step, stand far above all others: cut off, unless that is a held-out
    # value, of which each counts.
    usual = float(np.quantile(ys, 0.95))
    sparse = [y for curve, points in kept if curve.sparse for _, y in points if math.isfinite(y)]
    if len(ys) > 2 * FEW and usual > 0 and high > 3 * usual:
        high = max([1.5 * usual, *sparse])
    if zero or 0 <= low < 0.3 * high:
        low = min(low, 0.0)
    room = (high - low or abs(high) or 1.0) * 0.04
    return _Frame(
        x_low=min(0.0, *xs) if len(xs) > 1 else min(0.0, xs[0]),
        x_high=max(xs) if max(xs) > 0 else 1.0,
        y_low=low if low == 0 else low - room,
        y_high=high + room,
        highest=max(ys),
    )


def _axes(frame: _Frame, x_label: str, percent: bool) -> Iterator[str]:
    for tick in ticks(frame.y_low, frame.y_high, 4):
        y = frame.y(tick)
        yield _line(LEFT, y, WIDTH - RIGHT, y, "axis" if tick == 0 else "grid")
        yield _text(LEFT - 6, y + 4, f"{100 * tick:.3g} %" if percent else short(tick), "tick", "end")
    for tick in ticks(frame.x_low, frame.x_high):
        anchor = "end" if frame.x(tick) > WIDTH - 24 else "middle"
        yield _text(min(frame.x(tick), WIDTH - 4), HEIGHT - BOTTOM + 15, short(tick), "tick", anchor)
    yield _text(WIDTH - RIGHT, HEIGHT - 5, x_label, "tick", "end")
    if frame.highest > frame.y_high:
        yield _text(LEFT, HEIGHT - 5, f"higher values cut off, the highest is {short(frame.highest)}", "tick")


def _mark(frame: _Frame, mark: Mark) -> Iterator[str]:
    x = frame.x(mark.x)
    yield _line(x, TOP, x, HEIGHT - BOTTOM, "mark")
    near_right = x > WIDTH * 0.6
    yield _text(x - 3 if near_right else x + 3, TOP - 4, mark.label, "tick", "end" if near_right else "start")


def _drawn(frame: _Frame, curve: Curve, points: Sequence[Point]) -> Iterator[str]:
    tone, title = f"c{curve.tone % TONES}", f"<title>{escape(curve.name)}</title>"
    dots = curve.sparse or len(points) <= FEW
    smooth = curve.smooth and not dots
    for measured, run in groupby(points, key=lambda point: math.isfinite(point[1])):
        part = list(run)
        if not measured:
            continue
        kind = "raw" if smooth else "line sparse" if curve.sparse else "line"
        yield _path(frame, part, f"{kind} {tone}", title)
        if smooth:
            means = moving([y for _, y in part])
            yield _path(frame, [(x, m) for (x, _), m in zip(part, means, strict=True)], f"line {tone}", title)
        if dots or len(part) == 1:
            yield from (
                f'<circle class="dot {tone}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.4"/>'
                for x, y in part
            )


def _path(frame: _Frame, points: Sequence[Point], kind: str, title: str) -> str:
    corners = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{corners}">{title}</polyline>'


def short(value: float) -> str:
    """A number for an axis: ``0.5``, ``12k``, ``3.5M``, ``2e-05``."""
    size = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.4g}{unit}".replace("-", "−")
    return (f"{value:.0f}" if size >= 1000 else f"{value:.3g}").replace("-", "−")


def _svg(height: float, label: str, body: Sequence[str], data: str) -> Markup:
    reads = f' tabindex="0" data-plot="{escape(data)}"' if data else ""
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}"{reads}>'
        f"{''.join(body)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
