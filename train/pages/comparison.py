"""A page that lays the losses of several runs over each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster import storage
from cluster.errors import UserError
from train.pages.curves import TONES, Curve, plot
from train.pages.document import document
from train.pages.page import SCRIPTS, STYLES
from train.pages.panels import Panel, legend, lowest
from train.pages.runlog import RunLog, number, read_run

# Not the weighted loss: it is another quantity in each mode.
_LOSSES = (
    ("loss_response", "Response loss"),
    ("loss_instruction", "Instruction loss"),
    ("loss_patch", "Patch loss"),
)


def write_comparison(runs: Sequence[str], out: str) -> str:
    """Write a page with the losses of several runs over each other, by step and by learned response tokens.

    Only the response loss is the same quantity for every mode of the mask (paper's figure 8), so it comes first.

    Raises:
        UserError: no runs, the same one twice, or one that is not readable.
    """
    if not runs:
        raise UserError("a comparison needs at least one run")
    if len({uri.rstrip("/") for uri in runs}) < len(runs):
        raise UserError("a run is named twice: " + ", ".join(runs))
    html = comparison_html([read_run(uri) for uri in runs])
    storage.write_bytes(out, html.encode())
    return html


def comparison_html(runs: Sequence[RunLog]) -> str:
    """The page of several runs."""
    names = _names(runs)
    panels = [
        panel
        for key, title in _LOSSES
        for by_tokens in (False, True)
        if (panel := _overlay(runs, names, key, title, by_tokens=by_tokens)) is not None
    ]
    rows = [
        {
            "name": name,
            "tone": tone % TONES,
            "run": run,
            "held_out": lowest(run.series("holdout_loss_response")),
            "last": next((y for _, y in reversed(run.series("loss_response")) if y == y), None),
            "seconds": number((run.done or run.last).get("seconds")),
            "tokens": run.total("tokens"),
            "response": run.total("tokens_response"),
            "instruction": run.total("tokens_instruction"),
        }
        for tone, (name, run) in enumerate(zip(names, runs, strict=True))
    ]
    return document(
        "comparison.html.jinja",
        styles=STYLES,
        scripts=SCRIPTS,
        rows=rows,
        panels=panels,
        settings=differing([run.config for run in runs]),
    )


def _names(runs: Sequence[RunLog]) -> list[str]:
    """The last parts of the addresses, as many as it takes to tell them apart."""
    addresses = [run.uri.rstrip("/").split("/") for run in runs]
    for parts in range(1, max(map(len, addresses)) + 1):
        names = ["/".join(address[-parts:]) for address in addresses]
        if len(set(names)) == len(names):
            return names
    return [run.uri for run in runs]


def _overlay(
    runs: Sequence[RunLog], names: Sequence[str], key: str, title: str, *, by_tokens: bool
) -> Panel | None:
    curves = []
    for tone, (name, run) in enumerate(zip(names, runs, strict=True)):
        place = (
            _response_tokens(run) if by_tokens else {line["step"]: float(line["step"]) for line in run.lines}
        )
        for held_out in (False, True):
            found = run.series(f"holdout_{key}" if held_out else key)
            points = [(place[step], loss) for step, loss in found]
            if not any(loss == loss for _, loss in points):
                continue
            said = f"{name}, held out" if held_out else name
            curves.append(Curve(name=said, tone=tone, points=points, sparse=held_out))
    if not curves:
        return None
    along = "learned response tokens" if by_tokens else "step"
    return Panel(
        title=f"{title} by {along}",
        chart=plot(curves, label=f"{title} by {along}", x_label=along),
        legend=legend(curves),
    )


def _response_tokens(run: RunLog) -> dict[float, float]:
    """Learned response tokens up to and with each step."""
    places, sum_so_far = {}, 0.0
    for line in run.lines:
        sum_so_far += number(line.get("tokens_response")) or 0.0
        places[line["step"]] = sum_so_far
    return places


def differing(configs: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Settings in which configs differ: (``a.b``, the value of each)."""
    flat = [dict(_flat("", config)) for config in configs]
    keys = sorted({key for config in flat for key in config})
    rows = [(key, [config.get(key, "–") for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(f"{prefix}.{key}" if prefix else str(key), inner)
        ]
    if isinstance(value, list) and value:
        return [pair for i, inner in enumerate(value) for pair in _flat(f"{prefix}.{i}", inner)]
    return [(prefix, "null" if value is None else str(value))]
