"""One self-contained page of an experiment: comparison, mechanism, training, samples, data.

No script, nothing loaded, under a policy that lets only its own style apply; pictures are encoded anew and small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cluster import storage
from cluster.datasets import manifest_hash, read_manifest
from cluster.errors import UserError
from datagen import gallery
from eval import blind_panel, differences, improvement_panel, panels, report
from eval.curves import training
from eval.document import document
from eval.recipes import check, over_recipes
from eval.runs import Reported
from eval.terminal import waiting

# Of a task and a pair of models, shared among the pairs: a page of 20 tasks with pictures stays near 2 MB.
SAMPLES = 6


def write_page(
    out: str,
    *,
    evals: Sequence[str] = (),
    summary: str | None = None,
    trains: Mapping[str, str] | None = None,
    instructions: Sequence[str] = (),
    baseline: str | None = None,
    recipes: Mapping[str, Sequence[str]] | None = None,
    reported: Mapping[str, Mapping[str, Reported]] | None = None,
    title: str = "Learning to instruct",
) -> str:
    """Render and store the page; returns its text.

    Args:
        evals: data sets that ``eval run`` made, answers and likelihoods of any number of models.
        summary: URI of a stored comparison, instead of ``evals``.
        trains: training run URI by name; a name that is also a model's gets the model's colour.
        instructions: instruction data sets, for where their rows went and the gallery.
        recipes: models that are training seeds of one recipe, by its name.
        reported: numbers without samples, by model and task; with ``evals`` only.

    Raises:
        UserError: a URI holds nothing of the kind, or a log is not readable.
    """
    found = None
    if summary:
        found = report.read(summary)
        if recipes:
            check(recipes, [m["name"] for m in found["models"]])
            found["seeds"] = over_recipes(found["tasks"], recipes, found["baseline"])
    elif evals or reported:
        found = report.summarise(evals, baseline, recipes=recipes, reported=reported)
    html = render(found, trains=trains or {}, instructions=instructions, title=title)
    storage.write_bytes(out, html.encode())
    return html


def write_summary(out: str, summary: dict[str, Any], title: str = "Comparison") -> None:
    """The page of a comparison that was just made, without training runs and instruction data."""
    storage.write_bytes(out, render(summary, trains={}, instructions=(), title=title).encode())


def render(
    summary: dict[str, Any] | None,
    *,
    trains: Mapping[str, str],
    instructions: Sequence[str],
    title: str = "Learning to instruct",
) -> str:
    """The page as text; ``summary`` is what :func:`eval.report.summarise` gives."""
    names = [m["name"] for m in summary["models"]] if summary else []
    color = {name: i for i, name in enumerate([*names, *(n for n in trains if n not in names)])}
    differing, missing = _differing(summary)
    content: dict[str, Any] = {
        "title": title,
        "lead": _lead(summary),
        "waiting": waiting(summary) if summary else [],
        "gallery": [Markup(gallery.section(uri)) for uri in instructions],
        "summary": summary,
        **(panels.comparison(summary, color) if summary else {}),
        "improvement": improvement_panel.improvement(summary, color) if summary else None,
        "seeds": improvement_panel.seeds(summary) if summary else None,
        "diagnostics": panels.diagnostics(summary, color) if summary else [],
        "blind": blind_panel.panel(summary, color) if summary else None,
        "pairs": (summary or {}).get("pairs", []),
        "training": training(trains, color),
        "differing": differing,
        "missing": missing,
        "sources": _sources(summary, trains, instructions),
    }
    sections = (
        ("result", "Result", summary),
        ("improvement", "Improvement", content["improvement"]),
        ("seeds", "Seeds", content["seeds"]),
        ("differences", "Differences", len(names) > 1),
        ("pairs", "Pairs", content["pairs"]),
        ("mechanism", "Mechanism", content["diagnostics"] or content["blind"]),
        ("training", "Training", content["training"]),
        ("samples", "Samples", differing or missing),
        ("data", "Data", content["gallery"]),
        ("sources", "Sources", True),
    )
    content["contents"] = [(anchor, name) for anchor, name, there in sections if there]
    return document("page.html.jinja", more_style=gallery.CSS if instructions else "", **content)


def _lead(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "Instruction data and training runs."
    tasks, models = summary["tasks"], summary["models"]
    samples = sum(t["n"] for t in tasks)
    many = f"{len(models)} models on the same" if len(models) > 1 else "One model on"
    return f"{many} {samples:,} samples of {len(tasks)} tasks; errors are clustered by image."


def _differing(summary: dict[str, Any] | None) -> tuple[list[differences.Disagreement], str]:
    """Where each model and the baseline differ; and why there is nothing to show, where data sets are gone."""
    pairs = differences.pairs_of(summary["models"], summary["baseline"]) if summary else []
    show = max(2, SAMPLES // max(1, len(pairs)))
    found = []
    for mine, base in pairs:
        try:
            verdicts = (mine.get("verdicts", ""), base.get("verdicts", ""))
            names = (mine["name"], mine["uri"], base["name"], base["uri"])
            found.append(differences.find(*names, show, verdicts=verdicts))
        except UserError as error:
            return [], str(error)  # a stored comparison outlives its data sets
    return [each for each in found if each.tasks], ""


def _sources(
    summary: dict[str, Any] | None, trains: Mapping[str, str], instructions: Sequence[str]
) -> list[dict[str, str]]:
    found = [
        {
            "uri": s["uri"],
            "what": f"results, {s['rows']:,} samples, code {s['code']}",
            "sha": s["sha256"][:16],
        }
        for s in (summary["sources"] if summary else [])
    ]
    for uri in instructions:
        manifest = read_manifest(uri)
        what = f"instructions, {sum(manifest.totals.rows.values()):,} rows, code {manifest.code_version}"
        found.append({"uri": uri, "what": what, "sha": manifest_hash(uri)[:16]})
    return found + [{"uri": uri, "what": f"training run {name}", "sha": ""} for name, uri in trains.items()]
