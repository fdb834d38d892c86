"""What a study leaves behind: numbers by arm with their seeds, verdicts on claims; JSON, Markdown and one page."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from cluster import storage
from cluster.config import Config
from cluster.manifest import code_version
from cluster.storage import join
from eval.charts import Point, points
from eval.document import document
from eval.seeds import Seeds, over_seeds
from eval.study.claims import Judged, judge, values
from eval.study.config import Study


class Cell(Config):
    """An arm's number: mean over seeds (None: nothing was measured) with its 95 % interval (None: too few seeds), and
    every seed's value."""

    mean: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]


class Row(Config):
    """A task, ``overall``, or a teacher-forced measure, with every arm's number."""

    name: str
    metric: str
    higher: bool
    cells: dict[str, Cell]


class Result(Config):
    """A study's outcome."""

    name: str
    study: Study
    machine: str
    code: str
    finished: str
    samples: int
    rows: tuple[Row, ...]
    claims: tuple[Judged, ...]


def result_of(name: str, study: Study, summary: Mapping[str, Any]) -> Result:
    """The outcome from the comparison of all runs."""
    rows = [_row(study, summary, "overall", "improvement, %", True)]
    rows += [_row(study, summary, t["task"], str(t["metric"]), bool(t["higher"])) for t in summary["tasks"]]
    for place, measures in summary["diagnostics"].items():
        for measure, found in measures.items():
            rows.append(_row(study, summary, f"{place}.{measure}", "nats", bool(found["higher"])))
    return Result(
        name=name,
        study=study,
        machine=f"{os.cpu_count()} cores, {platform.machine()}, no GPU" if not _gpu() else "with a GPU",
        code=code_version(),
        finished=datetime.now(UTC).isoformat(timespec="minutes"),
        samples=sum(t["n"] for t in summary["tasks"]),
        rows=tuple(rows),
        claims=tuple(judge(study, summary)),
    )


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _row(study: Study, summary: Mapping[str, Any], name: str, metric: str, higher: bool) -> Row:
    cells = {arm: _cell(tuple(values(summary, study, arm, name))) for arm in study.arms}
    return Row(name=name, metric=metric, higher=higher, cells=cells)


def _cell(found: tuple[float, ...]) -> Cell:
    over: Seeds = over_seeds(found)
    known = over.low == over.low  # NaN where there are too few seeds
    return Cell(
        mean=over.mean if found else None,
        low=over.low if known else None,
        high=over.high if known else None,
        values=found,
    )


def write(result: Result, place: str) -> list[str]:
    """``results.json``, ``table.md`` and ``page.html``; their URIs."""
    texts = {
        "results.json": json.dumps(result.model_dump(mode="json"), indent=1) + "\n",
        "table.md": markdown(result),
        "page.html": page(result),
    }
    for name, text in texts.items():
        storage.write_bytes(join(place, name), text.encode())
    return [join(place, name) for name in texts]


def markdown(result: Result) -> str:
    """Title, question, design, table and verdicts."""
    study, arms = result.study, list(result.study.arms)
    lines = [f"# {study.title}", "", study.question, "", study.design, ""]
    lines += [f"* `{arm}`: {spec.note}" for arm, spec in study.arms.items() if spec.note]
    lines += ["", "| | metric | " + " | ".join(arms) + " |", "|---|---|" + "---|" * len(arms)]
    for row in result.rows:
        arrow = "" if row.higher else " ↓"
        lines.append(
            f"| {row.name}{arrow} | {row.metric} | " + " | ".join(told(row.cells[a]) for a in arms) + " |"
        )
    lines += [
        "",
        f"Mean over {study.seeds} training seeds ± half of its 95 % interval (Student's t). `overall`: ",
    ]
    lines[-1] += f"mean relative improvement over `{study.base}`'s mean, all tasks alike."
    if result.claims:
        lines += ["", "| claim | from | measured | verdict |", "|---|---|---|---|"]
        for judged in result.claims:
            claim = judged.claim
            where = f"{claim.metric}: {claim.arm} − {claim.against}"
            lines.append(f"| {claim.says} | {claim.source} | {where} {span(judged)} | **{judged.verdict}** |")
    lines += ["", f"`l2t study {result.name}`, commit {result.code}, {result.machine}, {result.finished}."]
    return "\n".join(lines) + "\n"


def told(cell: Cell) -> str:
    """A cell for a person."""
    if cell.mean is None:
        return "–"
    half = "" if cell.high is None else f" ± {_number(cell.high - cell.mean)}"
    return f"{_number(cell.mean)}{half}"


def span(judged: Judged) -> str:
    """The measured difference of a claim with its interval."""
    unit = " %" if judged.unit else ""
    if judged.mean is None:
        return "–"
    if judged.low is None or judged.high is None:
        return f"{judged.mean:+.3g}{unit} ({judged.seeds} seed{'s' * (judged.seeds != 1)}: no interval)"
    return f"{judged.mean:+.3g}{unit} [{judged.low:+.3g}, {judged.high:+.3g}]"


def _number(value: float) -> str:
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.000"


def page(result: Result) -> str:
    """One self-contained page."""
    arms = list(result.study.arms)
    return document(
        "study.html.jinja",
        result=result,
        study=result.study,
        arms=[(arm, spec, i) for i, (arm, spec) in enumerate(result.study.arms.items())],
        told=told,
        span=span,
        plot=_plot(result, arms),
    )


def _plot(result: Result, arms: list[str]) -> Markup:
    """Every arm's improvement over the baseline's mean by task, seeds as an interval."""
    rows = []
    for row in result.rows:
        base = row.cells[result.study.base].mean
        if row.name == "overall" or "." in row.name or not base:
            continue
        sign = 100 / abs(base) * (1 if row.higher else -1)
        rows.append(
            (
                row.name,
                [
                    _point(i, row.cells[arm], base, sign)
                    for i, arm in enumerate(arms)
                    if row.cells[arm].values
                ],
            )
        )
    known = [v for _, found in rows for p in found for v in (p.value, p.low, p.high) if v is not None]
    low, high = max(-100.0, min(known, default=-1.0)), min(100.0, max(known, default=1.0))
    return points(rows, label="improvement by task", low=low, high=high, unit="%")


def _point(series: int, cell: Cell, base: float, sign: float) -> Point:
    ends = [None if v is None else sign * (v - base) for v in (cell.low, cell.high)]
    low, high = ends if sign > 0 else ends[::-1]
    assert cell.mean is not None
    return Point(series=series, value=sign * (cell.mean - base), low=low, high=high, note=told(cell))
