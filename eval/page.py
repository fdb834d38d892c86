"""One self-contained page of an experiment: comparison, mechanism, training, samples, data; no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster import storage
from cluster.datasets import manifest_hash, read_manifest
from datagen import gallery
from eval import differences, panels, report
from eval.curves import training

TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    out: str,
    *,
    evals: Sequence[str] = (),
    summary: str | None = None,
    trains: Mapping[str, str] | None = None,
    instructions: Sequence[str] = (),
    baseline: str | None = None,
    title: str = "Learning to instruct",
) -> str:
    """Render and store the page; returns its text.

    Args:
        evals: data sets that ``eval run`` made, answers and likelihoods of any number of models.
        summary: URI of a stored comparison, instead of ``evals``.
        trains: training run URI by name; a name that is also a model's gets the model's colour.
        instructions: instruction data sets, for where their rows went and the gallery.

    Raises:
        UserError: a URI holds nothing of the kind, or a log is not readable.
    """
    found = report.read(summary) if summary else report.summarise(evals, baseline) if evals else None
    html = render(found, trains=trains or {}, instructions=instructions, title=title)
    storage.write_bytes(out, html.encode())
    return html


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
    content: dict[str, Any] = {
        "title": title,
        "lead": _lead(summary),
        "style": Markup((TEMPLATES / "page.css").read_text()),
        "gallery_style": Markup(gallery.CSS) if instructions else "",
        "gallery": [Markup(gallery.section(uri)) for uri in instructions],
        "summary": summary,
        **(panels.comparison(summary, color) if summary else {}),
        "diagnostics": panels.diagnostics(summary, color) if summary else [],
        "training": training(trains, color),
        "differing": _differing(summary),
        "sources": _sources(summary, trains, instructions),
    }
    sections = (
        ("result", "Result", summary),
        ("differences", "Differences", summary),
        ("mechanism", "Mechanism", content["diagnostics"]),
        ("training", "Training", content["training"]),
        ("samples", "Samples", content["differing"]),
        ("data", "Data", content["gallery"]),
        ("sources", "Sources", True),
    )
    content["contents"] = [(anchor, name) for anchor, name, there in sections if there]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(content)


def _lead(summary: dict[str, Any] | None) -> str:
    if summary is None:
        return "Instruction data and training runs."
    tasks, models = summary["tasks"], summary["models"]
    samples = sum(t["n"] for t in tasks)
    return (
        f"{len(models)} models on the same {samples:,} questions of {len(tasks)} task families, "
        f"answered through vLLM and scored exactly; errors are clustered by image."
    )


def _differing(summary: dict[str, Any] | None) -> differences.Disagreement | None:
    if summary is None or len(summary["models"]) < 2:
        return None
    base = next(m for m in summary["models"] if m["name"] == summary["baseline"])
    other = [m for m in summary["models"] if m is not base][-1]
    found = differences.find(other["name"], other["uri"], base["name"], base["uri"])
    return found if found.samples else None


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
