"""The page's section on improvement: categories with and without RefCOCO, the radar, training seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.charts import Series
from eval.improvement import CATEGORIES, OVERALL
from eval.radar import Axis, radar
from eval.terminal import VIEW_NAMES, interval, plus_minus

TITLES = {
    "vqa": "VQA",
    "multimodal": "multimodal",
    "ocr": "OCR",
    "captions": "captions",
    "grounding": "grounding",
    "hallucination": "hallucination",
    "text": "text only",
    "other": "other",
    OVERALL: "overall",
}
assert TITLES.keys() >= CATEGORIES.keys()


def improvement(summary: Mapping[str, Any], color: Mapping[str, int]) -> dict[str, Any] | None:
    """Template values; None for one model alone."""
    models = [m["name"] for m in summary["models"]]
    others = [name for name in models if name != summary["baseline"]]
    if not others or not summary["averages"]["all"]:
        return None
    rows = []
    for view, blocks in summary["averages"].items():
        for block, found in blocks.items():
            if view != "all" and found["tasks"] == summary["averages"]["all"][block]["tasks"]:
                continue  # nothing of it was left out
            name = TITLES[block] if view == "all" else f"{TITLES[block]}, {VIEW_NAMES[view]}"
            cells = [_cell(found["models"].get(model)) for model in others]
            rows.append({"name": name, "tasks": found["tasks"], "cells": cells, "whole": block == OVERALL})
    return {
        "models": [{"name": name, "color": color[name]} for name in others],
        "rows": rows,
        "radar": _radar(summary, models, color),
    }


def _cell(found: Mapping[str, Any] | None) -> dict[str, Any]:
    if found is None or found["value"] is None:
        return {"value": "–", "star": False}
    return {
        "value": plus_minus(found, sign=True),
        "star": found["p"] is not None and found["p"] < 0.05,
    }


def _radar(summary: Mapping[str, Any], models: list[str], color: Mapping[str, int]) -> str:
    axes = []
    for task in summary["tasks"]:
        values = [task["models"].get(name, {}).get("value") for name in models]
        if task["higher"] and all(value is not None for value in values):
            axes.append(Axis(name=task["task"], values=values, best=max(values)))
    series = [Series(name=name, color=color[name]) for name in models]
    return radar(series, axes, label="models over tasks")


def seeds(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Template values of the table over training seeds; None without recipes."""
    found = summary.get("seeds")
    if not found:
        return None
    names = list(found["recipes"])
    others = [name for name in names if name != found["base"]]
    rows = [
        {
            "name": task,
            "cells": [
                *(interval(each["recipes"][n]) for n in names),
                *(interval(each["differences"][n], sign=True) for n in others),
            ],
        }
        for task, each in found["tasks"].items()
    ]
    for view, by_recipe in found["averages"].items():
        cells = [
            interval(by_recipe[n][OVERALL], sign=True) + " %" if OVERALL in by_recipe[n] else "–"
            for n in others
        ]
        rows.append({"name": f"overall, {VIEW_NAMES[view]}", "cells": [*[""] * len(names), *cells]})
    return {
        "header": [
            *(f"{n} ({len(found['recipes'][n])})" for n in names),
            *(f"{n} − {found['base']}" for n in others),
        ],
        "rows": rows,
    }
