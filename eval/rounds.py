"""``l2t eval rounds``: the rounds of a bootstrap loop side by side on one page: what was written, what was kept and
why, what it did to the model, and the signs of collapse."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cluster import storage
from cluster.bootstrap.config import BootstrapConfig
from cluster.bootstrap.decision import Decision, Indicator
from cluster.bootstrap.loop import decisions_of, loop_at
from cluster.bootstrap.round import Round
from cluster.datasets import dataset_exists
from cluster.errors import UserError
from cluster.storage import join
from datagen import gallery
from eval.charts import Point, points
from eval.document import document
from eval.improvement import relative
from eval.tasks import TASKS

EXAMPLES = """examples:
  l2t eval rounds runs/demo/bootstrap/bootstrap          writes rounds.html there (l2t bootstrap does this at its end)
  l2t eval rounds s3://bucket/bootstrap/mine --out rounds.html
"""
PICTURES = 4  # of every round, with all that was written about them
NORMAL_95 = 1.96


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t eval rounds",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("home", metavar="URI", help="<root>/bootstrap/<name> of a loop")
    made.add_argument("--out", metavar="URI", help="the page (default: rounds.html there)")
    return made


def main(argv: list[str]) -> int:
    """Write the page; returns the exit code."""
    args = parser().parse_args(argv)
    config = loop_at(args.home)
    place = args.out or join(args.home, "rounds.html")
    storage.write_bytes(place, render(config, list(decisions_of(config))).encode())
    print(place)
    return 0


def render(config: BootstrapConfig, decisions: Sequence[Decision]) -> str:
    """The page as text.

    Raises:
        UserError: no round is decided yet.
    """
    if not decisions:
        raise UserError(
            f"{config.home}: no round is finished yet; l2t bootstrap ... --status says where it is"
        )
    return document(
        "rounds.html.jinja",
        more_style=gallery.CSS,
        config=config,
        rounds=decisions,
        indicators=[_indicator(name, decisions) for name in _names(decisions)],
        states=_states(decisions),
        tasks=_tasks(decisions),
        models=_models(decisions),
        chart=_chart(decisions),
        written=_written(config, decisions),
    )


def _names(decisions: Sequence[Decision]) -> list[str]:
    return list(dict.fromkeys(i.name for d in decisions for i in d.indicators))


def _indicator(name: str, decisions: Sequence[Decision]) -> dict[str, Any]:
    known: list[Indicator | None] = [
        next((i for i in d.indicators if i.name == name), None) for d in decisions
    ]
    bounds = next(i for i in known if i is not None)
    high = "" if bounds.ceiling is None else f" to {bounds.ceiling:g}"
    return {"name": name.replace("_", " "), "cells": known, "allowed": f"from {bounds.floor:g}{high}"}


def _states(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Terminal states of drafts, the most frequent first, with every round's count and share."""
    totals: dict[str, int] = {}
    for decided in decisions:
        for state, count in decided.mixture.drafts.items():
            totals[state] = totals.get(state, 0) + count
    drafts = [sum(d.mixture.drafts.values()) for d in decisions]
    return [
        {
            "state": state,
            "cells": [
                (
                    d.mixture.drafts.get(state, 0),
                    100 * d.mixture.drafts.get(state, 0) / total if total else 0.0,
                )
                for d, total in zip(decisions, drafts, strict=True)
            ],
        }
        for state in sorted(totals, key=lambda s: -totals[s])
    ]


def _measured(decisions: Sequence[Decision]) -> dict[str, dict[str, Mapping[str, float | None]]]:
    """Value and error by task and model, of all rounds."""
    found: dict[str, dict[str, Mapping[str, float | None]]] = {}
    for decided in decisions:
        for task, models in decided.results.items():
            found.setdefault(task, {}).update(models)
    return found


def _models(decisions: Sequence[Decision]) -> list[str]:
    names = {name for models in _measured(decisions).values() for name in models}
    return sorted(names, key=lambda name: int(name.removeprefix("round")))


def _tasks(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    models = _models(decisions)
    return [
        {
            "task": task,
            "metric": TASKS[task].rule.primary.replace("_", " ") + ("" if _higher(task) else " ↓"),
            "cells": [values.get(model) for model in models],
        }
        for task, values in _measured(decisions).items()
    ]


def _higher(task: str) -> bool:
    rule = TASKS[task].rule
    return rule.metrics[rule.primary].higher


def _chart(decisions: Sequence[Decision]) -> Markup | None:
    """Improvement over the first model by task, with the interval of the value itself."""
    rows = []
    for task, values in _measured(decisions).items():
        first = (values.get("round0") or {}).get("value")
        if not first:
            continue
        entries = []
        for model in _models(decisions):
            value, se = ((values.get(model) or {}).get(key) for key in ("value", "se"))
            if model == "round0" or value is None:
                continue
            change = relative(value, first, higher=_higher(task))
            half = None if se is None else 100 * NORMAL_95 * se / abs(first)
            entries.append(
                Point(
                    series=int(model.removeprefix("round")),
                    value=change,
                    low=None if half is None else change - half,
                    high=None if half is None else change + half,
                    note=f"{model}: {value:.3g}",
                )
            )
        rows.append((task, entries))
    if not any(entries for _, entries in rows):
        return None
    ends = [
        end for _, entries in rows for p in entries for end in (p.value, p.low, p.high) if end is not None
    ]
    return points(
        rows,
        label="improvement over round 0 by task",
        low=max(-100.0, min(0.0, *ends)),
        high=min(100.0, max(0.0, *ends)),
        unit="%",
        zero=True,
    )


def _written(config: BootstrapConfig, decisions: Sequence[Decision]) -> list[tuple[int, Markup]]:
    """A look at what every round wrote, with what became of it."""
    if config.datagen is None:
        return []
    drafts = [(d.round, Round(config=config, number=d.round).drafts) for d in decisions]
    return [
        (number, Markup(gallery.section(uri, images=PICTURES, corpus=config.corpus)))
        for number, uri in drafts
        if dataset_exists(uri)
    ]
