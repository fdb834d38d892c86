"""The parts of the page that come from the comparison: cards, table, interval charts, diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from eval.charts import Point, Series, densities, points
from eval.improvement import OVERALL
from eval.terminal import plus_minus

# What is shown of the diagnostics, and whether 0 belongs on its scale.
_DIAGNOSTIC = {
    "vc_per_token": ("Visual contribution per response token (nats)", True),
    "loss": ("Response loss (nats per token)", False),
}


def comparison(summary: dict[str, Any], color: Mapping[str, int]) -> dict[str, Any]:
    """Template values of the result and difference sections; ``color`` maps a model to its colour number."""
    names = [m["name"] for m in summary["models"]]
    shares = [t for t in summary["tasks"] if t["share"]]
    others = [t for t in summary["tasks"] if t["metric"] == "cider"]
    top = max((m["high"] or m["value"] or 0 for t in others for m in t["models"].values()), default=1) or 1
    return {
        "models": [{"name": n, "color": color[n]} for n in names],
        "many": len(names) > 3,
        "cards": [_card(n, summary, color[n]) for n in names],
        "rows": [_row(t, names) for t in summary["tasks"]],
        "overview": points(
            [(_task_name(t), _values(t, names, color)) for t in shares],
            label="scores by task",
            low=0,
            high=100,
            marks=[t["chance"] for t in shares],
        ),
        "corpus_chart": others
        and points(
            [(t["task"], _values(t, names, color)) for t in others],
            label="caption scores by task",
            low=0,
            high=top,
        ),
        "forest": len(names) > 1 and _forest(summary, shares, color),
    }


def _task_name(task: Mapping[str, Any]) -> str:
    return task["task"] + ("" if task["higher"] else " ↓")


def _card(name: str, summary: dict[str, Any], color: int) -> dict[str, Any]:
    mean = summary["mean"][name]
    relative = mean["relative"]
    if name == summary["baseline"]:
        change = "the baseline"
    elif relative["value"] is None:
        change = "no relative mean: the baseline is 0 everywhere"
    else:
        change = f"{plus_minus(relative, sign=True)} % relative, over {mean['relative_tasks']} tasks"
        without = summary["averages"]["without_refcoco"].get(OVERALL)
        if without and len(without["tasks"]) < mean["relative_tasks"]:
            change += f"; {plus_minus(without['models'][name], sign=True)} % without RefCOCO"
    return {
        "name": name,
        "color": color,
        "tasks": mean["tasks"],
        "relative": change,
        "mean": "–" if mean["value"]["value"] is None else f"{mean['value']['value']:.1f}",
    }


def _row(task: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    known = {n: task["models"][n]["value"] for n in names if n in task["models"]}
    numbers = [v for v in known.values() if v is not None]
    best = (max if task["higher"] else min)(numbers) if len(set(numbers)) > 1 else None
    return {
        **{k: task[k] for k in ("title", "rule", "n", "images")},
        "task": task["task"],
        "metric": task["metric"].replace("_", " ") + ("" if task["higher"] else " ↓"),
        "cells": [_cell(task, n, best) for n in names],
    }


def _cell(task: Mapping[str, Any], name: str, best: float | None) -> dict[str, Any]:
    entry = task["models"].get(name)
    if entry is None or entry["value"] is None:
        return {"value": "–", "se": "", "star": False, "best": False, "note": "no value"}
    p = task["differences"].get(name, {}).get("p_holm")
    others = ", ".join(
        f"{k} {m['value']:.1f}"
        for k, m in entry["metrics"].items()
        if k != task["metric"] and m["value"] is not None
    )
    bounds = "no interval: reported" if entry["low"] is None else f"95 % interval {_bounds(entry)}"
    note = f"{bounds}; {others}; {entry['truncated']} cut off; {entry['method']}"
    return {
        "value": f"{entry['value']:.1f}",
        "se": "" if entry["se"] is None else f"± {entry['se']:.1f}",
        "star": p is not None and p < 0.05,
        "best": entry["value"] == best,
        "note": note,
    }


def _bounds(entry: Mapping[str, Any], form: str = ".1f") -> str:
    return f"{entry['low']:{form}} to {entry['high']:{form}}"


def _percent(task: Mapping[str, Any]) -> float:
    """What turns a share as it is printed into percent (OCRBench counts of 1000)."""
    return 100 / task["scale"] if task["share"] else 1.0


def _scaled(entry: Mapping[str, Any], factor: float) -> dict[str, float | None]:
    return {k: None if entry[k] is None else factor * entry[k] for k in ("value", "low", "high")}


def _values(task: Mapping[str, Any], names: Sequence[str], color: Mapping[str, int]) -> list[Point]:
    out = []
    for name in names:
        entry = task["models"].get(name)
        if entry and entry["value"] is not None:
            bounds = "reported" if entry["low"] is None else _bounds(entry)
            note = f"{name}, {task['task']}: {entry['value']:.1f} ({bounds})"
            out.append(Point(series=color[name], note=note, **_scaled(entry, _percent(task))))
    return out


def _forest(summary: dict[str, Any], tasks: Sequence[Mapping[str, Any]], color: Mapping[str, int]) -> Markup:
    rows, left, right = [], 0.0, 1.0
    for task in tasks:
        entries = []
        factor = _percent(task) if task["higher"] else -_percent(task)
        for name, difference in task["differences"].items():
            if difference["low"] is None:
                continue
            value, low, high = (factor * difference[k] for k in ("value", "low", "high"))
            left, right = min(left, low, high), max(right, low, high)
            p = difference["p_holm"]
            note = f"{name}, {task['task']}: {value:+.1f} ({min(low, high):+.1f} to {max(low, high):+.1f})"
            note += f", adjusted p {p:.3g}" if p is not None else ""
            entries.append(
                Point(series=color[name], value=value, low=min(low, high), high=max(low, high), note=note)
            )
        rows.append((task["task"], entries))
    label = f"differences to {summary['baseline']}"
    return points(rows, label=label, low=left, high=right, zero=True, unit="points, better to the right")


def diagnostics(summary: dict[str, Any], color: Mapping[str, int]) -> list[dict[str, Any]]:
    """One block per gold set with its figures."""
    blocks = []
    for set_name, measures in summary["diagnostics"].items():
        figures = []
        for measure, (caption, zero) in _DIAGNOSTIC.items():
            models = {n: e for n, e in measures[measure]["models"].items() if e["values"]}
            if not models:
                continue
            chart = densities(
                [(Series(name=n, color=color.get(n, 0)), e["values"]) for n, e in models.items()],
                label=caption,
                x_label=caption,
                zero=zero,
            )
            rows = [_diagnostic_line(n, e, color.get(n, 0), summary["baseline"]) for n, e in models.items()]
            figures.append({"caption": caption, "chart": chart, "lines": rows})
        blocks.append({"title": f"{set_name} set", "figures": figures})
    return blocks


def _diagnostic_line(name: str, entry: Mapping[str, Any], color: int, baseline: str) -> dict[str, Any]:
    difference = entry["difference"]
    shown = "baseline" if name == baseline else "–"
    if difference is not None and difference["value"] is not None:
        shown = f"{difference['value']:+.3f} ± {difference['se']:.3f}"
    return {
        "name": name,
        "color": color,
        "mean": f"{entry['value']:.3f} ± {entry['se']:.3f}",
        "difference": shown,
        "n": entry["n"],
    }
