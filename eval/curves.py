"""The page's training section: loss of instruction and response apart, from the runs' ``log.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cluster import storage
from cluster.errors import UserError
from eval.charts import Series, lines


def read_log(uri: str) -> list[dict[str, Any]]:
    """The lines of a training run's ``log.jsonl``; a last line cut short by a kill is left out.

    Raises:
        UserError: there is no log, or a line inside it is not JSON.
    """
    place = storage.join(uri, "log.jsonl")
    if not storage.exists(place):
        raise UserError(
            f"{uri}: no log.jsonl there; give the URI of a training run (<root>/checkpoints/<run>)"
        )
    texts = [t for t in storage.read_bytes(place).decode("utf-8", "replace").splitlines() if t.strip()]
    rows = []
    for number, text in enumerate(texts, 1):
        try:
            rows.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number == len(texts):
                break
            raise UserError(f"{place}, line {number}: not JSON ({error})") from error
    return [r for r in rows if isinstance(r, dict) and "step" in r]


def training(trains: Mapping[str, str], color: Mapping[str, int]) -> dict[str, Any] | None:
    """Template values of the section; None without runs."""
    if not trains:
        return None
    logs = {name: read_log(uri) for name, uri in trains.items()}
    figures = []
    for key, caption in (
        ("loss_instruction", "Instruction loss, nats per token"),
        ("loss_response", "Response loss, nats per token"),
    ):
        series = [
            Series(name=n, color=color[n], x=x, y=y)
            for n, rows in logs.items()
            for x, y in [_curve(rows, key)]
            if x
        ]
        chart = lines(series, label=caption, x_label="step")
        figures.append({"caption": caption, "chart": chart})
    return {"figures": figures, "runs": [_run_line(n, rows, color[n]) for n, rows in logs.items()]}


def _curve(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    known = [(float(r["step"]), float(r[key])) for r in rows if r.get(key) is not None]
    return [x for x, _ in known], [y for _, y in known]


def _run_line(name: str, rows: Sequence[Mapping[str, Any]], color: int) -> dict[str, Any]:
    def last(key: str) -> str:
        _, values = _curve(rows, key)
        return f"{values[-1]:.3f}" if values and math.isfinite(values[-1]) else "–"

    rates = [r["samples_per_s"] for r in rows if r.get("samples_per_s")]
    learned = sum((r.get("tokens_instruction") or 0) + (r.get("tokens_response") or 0) for r in rows)
    return {
        "name": name,
        "color": color,
        "steps": int(rows[-1]["step"]) if rows else 0,
        "instruction": last("loss_instruction"),
        "response": last("loss_response"),
        "tokens": f"{learned:,}" if learned else "–",
        "rate": f"{sum(rates) / len(rates):.0f}" if rates else "–",
    }
