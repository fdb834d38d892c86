"""Pictures as inline SVG: no library, no script, no style of their own. Colours are classes ``c0`` .. ``c5`` of the
page, so that light and dark both work and the page's policy can forbid inline styles.

Every function returns markup that is safe to embed: all text that comes from data is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

COLORS = 6  # c0 .. c5 in the page's style sheet


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value with its 95 % interval; ``note`` is shown on hover."""

    series: int
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line or a distribution of one model or run."""

    name: str
    color: int
    x: Sequence[float] = ()
    y: Sequence[float] = ()
    dashed: bool = False


def tone(index: int) -> str:
    """Classes of a series: its colour, and a ring in place of a disc once the colours come round again."""
    return f"c{index % COLORS}" + (" ring" if index // COLORS % 2 else "")


def _color(index: int) -> str:
    return f"c{index % COLORS}"


def _svg(width: float, height: float, label: str, body: list[str]) -> Markup:
    return Markup(
        f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}" '
        f'preserveAspectRatio="xMinYMin meet">{"".join(body)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low if math.isfinite(low) else 0.0]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if raw <= size * m * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def points(
    rows: Sequence[tuple[str, Sequence[Point]]],
    *,
    label: str,
    low: float,
    high: float,
    unit: str = "",
    zero: bool = False,
    marks: Sequence[float | None] = (),
) -> Markup:
    """Rows of values with error bars on one horizontal scale.

    Args:
        rows: (name, points); points of one row are spread vertically a little.
        zero: draw a line at 0 (differences).
        marks: per row, a dotted mark such as chance; None for no mark.
    """
    right, top = 14.0, 8.0
    row_height = max(27.0, 9 + 5.5 * max((len(entries) for _, entries in rows), default=0))
    left = max(104.0, 24 + 6.6 * max((len(name) for name, _ in rows), default=0))
    width, height = 560.0, top + row_height * len(rows) + 34
    bottom = top + row_height * len(rows)

    def at(value: float) -> float:
        clipped = min(max(value, low), high)
        return left + (clipped - low) / (high - low or 1) * (width - left - right)

    body = []
    for tick in ticks(low, high):
        body.append(_line(at(tick), top, at(tick), bottom, "grid"))
        body.append(_text(at(tick), bottom + 15, f"{_number(tick)}", "tick", "middle"))
    if unit:
        body.append(_text(width - right, bottom + 30, unit, "tick", "end"))
    if zero:
        body.append(_line(at(0), top, at(0), bottom, "zero"))
    for index, (name, entries) in enumerate(rows):
        middle = top + row_height * (index + 0.5)
        body.append(_text(left - 10, middle + 4, name, "name", "end"))
        if index < len(marks) and (mark := marks[index]) is not None:
            body.append(_line(at(mark), middle - 11, at(mark), middle + 11, "chance"))
        body += _row_points(entries, middle, row_height, at)
    return _svg(width, height, label, body)


def _row_points(entries: Sequence[Point], middle: float, row_height: float, at) -> list[str]:  # type: ignore[no-untyped-def]
    out = []
    step = min(5.5, (row_height - 7) / max(1, len(entries)))
    for i, point in enumerate(entries):
        if point.value is None:
            continue
        y, color = middle + (i - (len(entries) - 1) / 2) * step, _color(point.series)
        out.append(f"<g><title>{escape(point.note)}</title>")
        if point.low is not None and point.high is not None:
            out.append(_line(at(point.low), y, at(point.high), y, f"bar {color}"))
        out.append(
            f'<circle cx="{at(point.value):.1f}" cy="{y:.1f}" r="3.6" class="{tone(point.series)}"/></g>'
        )
    return out


def lines(series: Sequence[Series], *, label: str, x_label: str) -> Markup:
    """Curves over a common x; each faint as it was measured and strong as a moving average."""
    width, height, left, right, top, bottom = 560.0, 250.0, 44.0, 10.0, 10.0, 34.0
    known = [(x, y) for s in series for x, y in zip(s.x, s.y, strict=True) if math.isfinite(y)]
    if not known:
        return _svg(width, 40, label, [_text(10, 24, "nothing was logged", "tick")])
    x_high = max(x for x, _ in known) or 1
    # The first steps of a fresh model are far above all after; the upper edge leaves out the top percent.
    y_high = float(np.quantile([y for _, y in known], 0.99)) * 1.05 or 1.0
    y_low = min(0.0, min(y for _, y in known))

    def at(x: float, y: float) -> str:
        px = left + x / x_high * (width - left - right)
        py = height - bottom - (min(y, y_high) - y_low) / (y_high - y_low) * (height - top - bottom)
        return f"{px:.1f},{py:.1f}"

    body = []
    for tick in ticks(y_low, y_high, 4):
        y = float(at(0, tick).split(",")[1])
        body += [
            _line(left, y, width - right, y, "grid"),
            _text(left - 6, y + 4, _number(tick), "tick", "end"),
        ]
    for tick in ticks(0, x_high):
        x = float(at(tick, y_low).split(",")[0])
        body.append(_text(x, height - bottom + 15, f"{tick:g}", "tick", "middle"))
    body.append(_text(width - right, height - 4, x_label, "tick", "end"))
    for s in series:
        pairs = [(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(y)]
        dash = " dashed" if s.dashed else ""
        for smooth, kind in ((False, "raw"), (True, "curve")):
            ys = _moving([y for _, y in pairs]) if smooth else [y for _, y in pairs]
            path = " ".join(at(x, y) for (x, _), y in zip(pairs, ys, strict=True))
            look = f"{kind} {_color(s.color)}{dash if smooth else ''}"
            body.append(
                f'<polyline class="{look}" points="{path}"><title>{escape(s.name)}</title></polyline>'
            )
    return _svg(width, height, label, body)


def _moving(values: Sequence[float]) -> list[float]:
    span = max(1, len(values) // 25)
    kernel, padded = (
        np.ones(span) / span,
        np.pad(np.asarray(values, float), (span // 2, span - 1 - span // 2), "edge"),
    )
    return [float(v) for v in np.convolve(padded, kernel, "valid")]


def densities(
    series: Sequence[tuple[Series, Sequence[float]]], *, label: str, x_label: str, zero: bool = False
) -> Markup:
    """Histograms over each other as outlines, with each mean as a dashed mark; the outer 1 % is left out."""
    width, height, left, right, top, bottom = 560.0, 220.0, 12.0, 12.0, 12.0, 34.0
    # Few samples in narrow bins show noise, not a shape.
    bins = min(40, max(10, round(1.5 * math.sqrt(max((len(v) for _, v in series), default=0)))))
    everything = np.array([v for _, values in series for v in values if math.isfinite(v)])
    if everything.size == 0:
        return _svg(width, 40, label, [_text(10, 24, "no values", "tick")])
    low, high = (float(v) for v in np.quantile(everything, (0.005, 0.995)))
    low, high = (min(low, 0.0), high) if zero else (low, high)
    high = high if high > low else low + 1
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(np.clip(v, low, high), edges)[0] / max(1, len(v)) for _, v in series]
    peak = max(float(s.max()) for s in shares) or 1.0

    def x_at(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (width - left - right)

    def y_at(share: float) -> float:
        return height - bottom - share / peak * (height - top - bottom)

    body = [_line(left, y_at(0), width - right, y_at(0))]
    for tick in ticks(low, high):
        body.append(_text(x_at(tick), height - bottom + 15, _number(tick), "tick", "middle"))
    if zero:
        body.append(_line(x_at(0), top, x_at(0), y_at(0), "zero"))
    for (s, values), share in zip(series, shares, strict=True):
        corners = [f"{x_at(low):.1f},{y_at(0):.1f}"]
        for i, part in enumerate(share):
            corners += [
                f"{x_at(edges[i]):.1f},{y_at(part):.1f}",
                f"{x_at(edges[i + 1]):.1f},{y_at(part):.1f}",
            ]
        corners.append(f"{x_at(high):.1f},{y_at(0):.1f}")
        color, mean = _color(s.color), float(np.mean(values)) if len(values) else math.nan
        body.append(
            f'<polygon class="hill {color}" points="{" ".join(corners)}">'
            f"<title>{escape(s.name)}: mean {mean:.3f}, {len(values)} samples</title></polygon>"
        )
        if math.isfinite(mean):
            body.append(_line(x_at(mean), top, x_at(mean), y_at(0), f"mean {color}"))
    body.append(_text(width - right, height - 4, x_label, "tick", "end"))
    return _svg(width, height, label, body)
