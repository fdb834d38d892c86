"""Summaries of teacher-forced likelihoods: response loss and VC by model and gold set, paired against the
baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.scorers.base import Array
from eval.statistics import mean_estimate, paired_mean

# What is summarised, and whether more is better.
MEASURES = {"loss": False, "vc": True, "vc_per_token": True}


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """One model on one gold set: row i of every array is sample ``ids[i]`` about image ``clusters[i]``."""

    name: str
    set: str
    ids: list[str]
    tasks: list[str]
    clusters: list[str]
    values: Mapping[str, Array]
    failed: int


def read(name: str, rows: Sequence[Mapping[str, Any]]) -> Likelihoods:
    """Rows of a likelihood data set; failed ones are counted and left out."""
    good = sorted((r for r in rows if r["state"] == "accepted"), key=lambda r: r["sample_id"])
    return Likelihoods(
        name=name,
        set=str(rows[0]["set"]) if rows else "test",
        ids=[r["sample_id"] for r in good],
        tasks=[r["task"] for r in good],
        clusters=[r["image_id"] for r in good],
        values={m: np.array([r[m] for r in good], dtype=np.float64) for m in MEASURES},
        failed=len(rows) - len(good),
    )


def compare(found: Sequence[Likelihoods], baseline: str) -> dict[str, Any]:
    """Per gold set and measure: each model's mean with clustered error, difference to the baseline, and
    values.

    ``values`` are all samples' numbers, for pictures of the distribution.
    """
    out: dict[str, Any] = {}
    for set_name in dict.fromkeys(f.set for f in found):
        group = [f for f in found if f.set == set_name]
        base = next((f for f in group if f.name == baseline), group[0])
        out[set_name] = {
            measure: {
                "higher": higher,
                "models": {f.name: _entry(f, base, measure) for f in group},
            }
            for measure, higher in MEASURES.items()
        }
    return out


def _entry(mine: Likelihoods, base: Likelihoods, measure: str) -> dict[str, Any]:
    values = mine.values[measure]
    if len(values) == 0:
        return {"value": None, "se": None, "n": 0, "failed": mine.failed, "values": [], "difference": None}
    entry: dict[str, Any] = {k: _json(v) for k, v in asdict(mean_estimate(values, mine.clusters)).items()}
    entry |= {"failed": mine.failed, "values": [float(v) for v in values], "difference": None}
    if mine is not base:
        entry["difference"] = _difference(mine, base, measure)
    return entry


def _difference(mine: Likelihoods, base: Likelihoods, measure: str) -> dict[str, Any] | None:
    at = {sample: i for i, sample in enumerate(base.ids)}
    both = [(i, at[s]) for i, s in enumerate(mine.ids) if s in at]
    if not both:
        return None
    left = np.array([mine.values[measure][i] for i, _ in both])
    right = np.array([base.values[measure][j] for _, j in both])
    result = paired_mean(left, right, [mine.clusters[i] for i, _ in both])
    return {k: _json(v) for k, v in asdict(result).items()}


def _json(value: float) -> float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(diagnostics: Mapping[str, Any]) -> str:
    """As terminal lines."""
    lines = []
    for set_name, measures in diagnostics.items():
        for measure, data in measures.items():
            cells = []
            for name, entry in data["models"].items():
                if entry["value"] is not None:
                    cells.append(f"{name} {entry['value']:.3f} ± {entry['se']:.3f}")
            arrow = "" if data["higher"] else " ↓"
            lines.append(f"{set_name} {measure}{arrow}: " + "   ".join(cells))
    return "\n".join(lines)
