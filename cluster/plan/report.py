"""A forecast as text, as JSON, as a page that loads nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.progress import clock

if TYPE_CHECKING:
    from cluster.plan.forecast import Forecast, Quantity

TEMPLATES = Path(__file__).parent / "templates"
AMOUNTS = {
    "drafts": "drafts",
    "accepted": "accepted rows",
    "calls": "engine calls",
    "prompt": "prompt tokens",
    "cached": "of them cached",
    "completion": "tokens written",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every planner offers."""
    parser.add_argument(
        "--gpu-price", type=float, metavar="PER_HOUR", help="of one GPU (without GPUs: of one actor)"
    )
    parser.add_argument(
        "--storage-price", type=float, metavar="PER_GB_MONTH", help="of storage, per 10^9 bytes"
    )
    parser.add_argument("--json", action="store_true", help="all numbers as JSON instead of the table")
    parser.add_argument("--html", metavar="URI", help="a page there, too")


def show(found: Forecast, *, as_json: bool, html: str | None) -> None:
    """Print it, and write the page where one is wanted."""
    if as_json:
        from cluster.plan.forecast import as_json as plain

        print(json.dumps(plain(found), indent=1))
    else:
        print(text(found))
    if html:
        from cluster import storage

        storage.write_bytes(html, page(found).encode())


def text(found: Forecast) -> str:
    """The table for a terminal."""
    lines = [
        f"plan     {found.images:,} images in {found.shards:,} shards on {found.actors:,} actors"
        + (f" ({found.gpus:g} GPUs)" if found.gpus else ""),
        f"profile  {found.source}",
        "",
        f"{'':<18}{'forecast':>16}   5 % … 95 %",
    ]
    lines += [f"{name:<18}{value:>16}   {interval}" for name, value, interval in rows(found)]
    lines += [
        "",
        f"wall     {clock(found.startup_s)} start-up + {clock(found.ends_s)} filling and emptying the batch + "
        f"{clock(found.images / found.rate.value / found.actors)} steady work + {clock(found.tail_s)} tail of the last "
        f"shards + {clock(found.winddown_s)} wind-down",
        "curve    rows/s grow linearly with actors but for these terms:",
        f"         {'actors':>8} {'wall':>10} {'images/s':>10} {'efficiency':>10}",
    ]
    lines += [
        f"         {p.actors:>8,} {clock(p.wall_s):>10} {p.images_per_s:>10,.1f} {p.efficiency:>10.0%}"
        for p in found.curve
    ]
    return "\n".join([*lines, *(f"note     {note}" for note in found.notes)])


def rows(found: Forecast) -> list[tuple[str, str, str]]:
    """(name, value, interval) of every quantity."""
    made = [
        _row("wall time", found.wall_s, clock),
        _row(f"{found.hours_of}-hours", found.hours, lambda x: f"{x:,.2f}"),
        _row("images/s per actor", found.rate, lambda x: f"{x:,.2f}"),
        *(
            _row(label, found.amounts[name], _count)
            for name, label in AMOUNTS.items()
            if name in found.amounts
        ),
        _row("storage", found.storage_bytes, size),
        ("storage requests", _count(found.storage_requests), ""),
    ]
    if found.cost is not None:
        made.append(_row("cost", found.cost, lambda x: f"{x:,.2f}"))
        accepted = found.amounts.get("accepted")
        if accepted is not None and accepted.value:
            made.append(("per accepted row", f"{found.cost.value / accepted.value:.6f}", ""))
    if found.storage_cost_month is not None:
        made.append(_row("storage, a month", found.storage_cost_month, lambda x: f"{x:,.4f}"))
    return made


def _row(name: str, found: Quantity, form) -> tuple[str, str, str]:  # type: ignore[no-untyped-def]
    return name, form(found.value), f"{form(found.low)} … {form(found.high)}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def size(number: float) -> str:
    """Bytes for people, in powers of 1000 as stores bill them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} PB"


def page(found: Forecast) -> str:
    """One self-contained page."""
    from markupsafe import Markup

    from cluster.pages import environment, policy

    style = (TEMPLATES / "plan.css").read_text()
    return (
        environment(TEMPLATES)
        .get_template("plan.html.jinja")
        .render(
            policy=policy(style),
            style=Markup(style),
            plan=found,
            rows=rows(found),
            curve=[(p, clock(p.wall_s)) for p in found.curve],
            points=_points(found),
            clock=clock,
        )
    )


WIDTH, HEIGHT, LEFT, BOTTOM = 640.0, 300.0, 56.0, 36.0


def _points(found: Forecast) -> dict[str, object]:
    """The scaling curve in the picture's coordinates, both axes in powers of two, and the straight line."""
    from math import log2

    most = max(1.0, log2(found.curve[-1].actors))
    base = found.curve[0].images_per_s
    low, high = log2(base), log2(base) + most

    def place(actors: float, speed: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 16) * log2(actors) / most
        y = 16 + (HEIGHT - BOTTOM - 16) * (1 - (log2(speed) - low) / (high - low))
        return round(x, 1), round(y, 1)

    spots = [(p, *place(p.actors, p.images_per_s)) for p in found.curve]
    ideal = [place(p.actors, base * p.actors) for p in (found.curve[0], found.curve[-1])]
    return {
        "spots": spots,
        "line": " ".join(f"{x},{y}" for _, x, y in spots),
        "ideal": " ".join(f"{x},{y}" for x, y in ideal),
        "width": WIDTH,
        "height": HEIGHT,
        "floor": HEIGHT - BOTTOM,
        "left": LEFT,
    }
