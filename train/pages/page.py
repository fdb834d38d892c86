"""``run.html`` of a training run."""

from __future__ import annotations

from cluster import storage
from train.pages.document import document, duration, thousands
from train.pages.panels import broken_steps, health, losses, lowest, rejected, token_shares
from train.pages.runlog import RunLog, number, read_run

SHOWN_TEMPLATES = 40
STYLES, SCRIPTS = ("base.css", "run.css"), ("plot.js",)
Card = tuple[str, str, str]  # what, the number, words below it


def write_page(run: str) -> str:
    """Write ``<run>/run.html`` from what the run has written so far; returns the page.

    Raises:
        UserError: there is no run, or one of its files is not readable.
    """
    html = run_html(read_run(run))
    storage.write_bytes(storage.join(run, "run.html"), html.encode())
    return html


def run_html(run: RunLog) -> str:
    """The page of one run."""
    listed = (run.templates or {}).get("templates") or []
    part = next((part for part in ("response", "patch") if run.has(f"holdout_loss_{part}")), "")
    return document(
        "run.html.jinja",
        styles=STYLES,
        scripts=SCRIPTS,
        run=run,
        finished=run.done is not None,
        cards=_cards(run),
        part=part,
        held_out=lowest(run.series(f"holdout_loss_{part}")),
        broken=broken_steps(run),
        losses=losses(run),
        health=health(run),
        tokens=token_shares(run),
        cut_off=round(run.total("cut_off_tokens")),
        templates=listed[:SHOWN_TEMPLATES],
        more_templates=max(0, len(listed) - SHOWN_TEMPLATES),
        rejects=rejected(run),
    )


def _cards(run: RunLog) -> list[Card]:
    last, done = run.last, run.done or {}
    seconds = number(done.get("seconds", last.get("seconds")))
    step = number(done.get("steps", last.get("step")))
    cards: list[Card] = [("Steps", thousands(step) if step is not None else "–", _planned(run))]
    used, out = (number(done.get(key, last.get(key))) for key in ("used", "rejected"))
    if used is not None:
        cards.append(("Samples", thousands(used), f"{thousands(out)} rejected" if out else "none rejected"))
    if tokens := run.total("tokens"):
        learned = sum(run.total(f"tokens_{part}") for part in ("instruction", "response"))
        cards.append(("Tokens", _large(tokens), f"{100 * learned / tokens:.1f} % learned"))
    elif patches := run.total("tokens_patch"):
        cards.append(("Patches", _large(patches), "learned"))
    if seconds:
        rate = f"{used / seconds:.1f} samples per second" if used else ""
        cards.append(("Time", duration(seconds), rate))
    for key, what in (("loss_response", "Response loss"), ("loss_instruction", "Instruction loss")):
        known = [y for _, y in run.series(key) if y == y]
        held = lowest(run.series(f"holdout_{key}"))
        if known:
            cards.append(
                (
                    what,
                    f"{known[-1]:.4g}",
                    f"held out {held.last:.4g}" if held else "nats per token, last line",
                )
            )
    if workers := number(last.get("workers")):
        cards.append(("Workers", f"{workers:.0f}", ""))
    return cards


def _planned(run: RunLog) -> str:
    """How far a run is to go, in steps or in epochs."""
    if steps := number(run.config.get("steps")):
        return f"of {thousands(steps)}"
    epochs, epoch = number(run.config.get("epochs")), number(run.last.get("epoch"))
    return f"epoch {epoch:.2f} of {epochs:g}" if epochs and epoch is not None else ""


def _large(count: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return thousands(count)
