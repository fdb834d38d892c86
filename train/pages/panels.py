"""The parts of the run page: which curves stand together, where tokens go, and what the held-out losses say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from train.pages.curves import TONES, Curve, Mark, plot
from train.pages.runlog import RunLog, number

# More than this above its lowest, a held-out loss counts as risen; less is noise of a few hundred rows.
RISEN = 0.01
REASONS = {
    "image": "image tokens; never learned",
    "instruction": "instructions, which this mode does not learn",
    "response": "answers, not learned here",
    "template": "task templates: sentences that say how to answer",
    "role": "role markers such as USER:",
    "system": "the system prompt",
    "space": "blanks, nothing visible",
    "text_only": "instructions of conversations without an image",
    "special": "tokens without text, such as begin of text",
}
EXAMPLES = 3  # rejected rows shown for each reason


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart with its `legend`."""

    title: str
    chart: Markup
    legend: list[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Lowest:
    """Where a held-out loss was lowest, and where it is now."""

    step: float
    value: float
    last_step: float
    last: float

    @property
    def risen(self) -> float:
        """How far it is above its lowest now, as a share of that."""
        return self.last / self.value - 1 if self.value > 0 else 0.0

    @property
    def overfits(self) -> bool:
        """Whether it has risen by more than noise."""
        return self.risen > RISEN


def lowest(points: Sequence[tuple[float, float]]) -> Lowest | None:
    """Of (step, loss) points, the last of equal ones; None without any."""
    known = [(x, y) for x, y in points if math.isfinite(y)]
    if not known:
        return None
    step, value = min(known, key=lambda point: (point[1], -point[0]))
    return Lowest(step=step, value=value, last_step=known[-1][0], last=known[-1][1])


def losses(run: RunLog) -> list[Panel]:
    """Training and held-out loss of each part, the lowest held-out one marked."""
    parts = [
        ("loss_response", "Response loss"),
        ("loss_instruction", "Instruction loss"),
        ("loss_patch", "Patch loss"),
    ]
    measured = [(key, title) for key, title in parts if run.has(key) or run.has(f"holdout_{key}")]
    if len(measured) != 1:
        measured.append(("loss", "Loss, weighted over both parts" if measured else "Loss"))
    return [_loss(run, key, title) for key, title in measured if run.has(key) or run.has(f"holdout_{key}")]


def _loss(run: RunLog, key: str, title: str) -> Panel:
    held_out = run.series(f"holdout_{key}")
    unit = "patch" if key == "loss_patch" else "token"
    curves = [Curve(name="training", tone=0, points=run.series(key))]
    marks = []
    if (low := lowest(held_out)) is not None:
        curves.append(Curve(name="held out", tone=1, points=held_out, sparse=True))
        if low.step < low.last_step:
            marks = [Mark(x=low.step, label=f"held out lowest, {low.value:.4g}")]
    return _panel(
        f"{title}, nats per {unit}", curves, x_label="step", marks=marks, note=_said(low) if low else ""
    )


def _said(low: Lowest) -> str:
    best = f"Held out it was lowest at step {low.step:.0f} with {low.value:.4g}"
    if low.last_step == low.step:
        return f"{best}, the newest measurement."
    return f"{best}; at step {low.last_step:.0f} it is {low.last:.4g}, {100 * low.risen:.1f} % above."


def health(run: RunLog) -> list[Panel]:
    """Everything else that changes while a model trains; a chart only for what was logged."""
    shares = {
        "padding": "padding_share",
        "waiting for data": "data_wait_share",
    }
    charts = [
        ("Gradient norm", _curves(run, {"before clipping": "grad_norm"}), {}),
        ("Learning rate", rates(run), {"zero": True}),
        ("Tokens per second", _curves(run, {"tokens": "tokens_per_s"}), {"zero": True}),
        ("Samples per second", _curves(run, {"samples": "samples_per_s"}), {"zero": True}),
        ("MFU, model FLOPs used", _curves(run, {"MFU": "mfu"}), {"zero": True, "percent": True}),
        ("Shares lost", _curves(run, shares), {"zero": True, "percent": True}),
        ("Memory, GB", _curves(run, {"peak": "memory_gb"}), {"zero": True}),
        ("Learned tokens per log line", _learned(run), {"zero": True}),
    ]
    return [_panel(title, curves, "", x_label="step", **how) for title, curves, how in charts if curves]


def rates(run: RunLog) -> list[Curve]:
    """Learning rate of each module; modules whose rates are equal all the time share a curve."""
    names = sorted({name for line in run.lines if isinstance(line.get("lr"), dict) for name in line["lr"]})
    together: dict[tuple[Any, ...], list[str]] = {}
    for name in names:
        # Not the points themselves: nan would make equal curves unequal.
        together.setdefault(tuple(f"{x} {y}" for x, y in run.series(f"lr/{name}")), []).append(name)
    return [
        Curve(name=", ".join(alike), tone=tone, points=run.series(f"lr/{alike[0]}"), smooth=False)
        for tone, alike in enumerate(together.values())
        if run.has(f"lr/{alike[0]}")
    ]


def _curves(run: RunLog, keys: dict[str, str]) -> list[Curve]:
    there = [(name, key) for name, key in keys.items() if run.has(key)]
    return [Curve(name=name, tone=tone, points=run.series(key)) for tone, (name, key) in enumerate(there)]


def _learned(run: RunLog) -> list[Curve]:
    keys = {"response": "tokens_response", "instruction": "tokens_instruction", "patch": "tokens_patch"}
    return [curve for curve in _curves(run, keys) if any(y > 0 for _, y in curve.points)]


def _panel(title: str, curves: list[Curve], note: str = "", **how: Any) -> Panel:
    return Panel(title=title, chart=plot(curves, label=title, **how), legend=legend(curves), note=note)


def legend(curves: Sequence[Curve]) -> list[tuple[str, str]]:
    """(name, class of its line) of each curve; one curve alone needs none."""
    if len(curves) == 1:
        return []
    return [(c.name, f"c{c.tone % TONES}{' sparse' if c.sparse else ''}") for c in curves]


@dataclass(frozen=True, kw_only=True)
class Share:
    """Tokens that met one fate; ``left`` and ``share`` in 0..1."""

    key: str
    words: str
    tokens: int
    left: float
    share: float
    learned: bool


def token_shares(run: RunLog) -> list[Share]:
    """Where all tokens of the run went: learned parts first, then the masked by reason, most first; they add up."""
    total = run.total("tokens")
    if not total:
        return []
    masked: dict[str, float] = {}
    for line in run.lines:
        size = number(line.get("tokens")) or 0.0
        shares = line.get("masked_share")
        for reason, share in shares.items() if isinstance(shares, dict) else ():
            masked[reason] = masked.get(reason, 0.0) + (number(share) or 0.0) * size
    rows = [
        (f"learned_{part}", f"learned: {part}", run.total(f"tokens_{part}"), True)
        for part in ("instruction", "response")
    ]
    by_count = sorted(masked.items(), key=lambda item: -item[1])
    rows += [(reason, REASONS.get(reason, ""), count, False) for reason, count in by_count]
    # Shares are logged with four digits; what these digits lose is not worth a row.
    rest = total - sum(count for _, _, count, _ in rows)
    if rest > 0.002 * total:
        rows.append(("rest", "not said by the log", rest, False))
    found: list[Share] = []
    left = 0.0
    for key, words, count, learned in rows:
        if count <= 0:
            continue
        share = count / total
        found.append(
            Share(key=key, words=words, tokens=round(count), left=left, share=share, learned=learned)
        )
        left += share
    return found


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """Rows that one reason kept out, with a few of them as (data set, row)."""

    reason: str
    rows: int
    examples: list[tuple[str, str]]


def rejected(run: RunLog) -> list[Rejected]:
    """Rejected rows by reason, most first; numbers in a reason do not make it another one."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for reject in run.rejects:
        reason = str(reject.get("reason", "no reason given"))
        groups.setdefault("".join("#" if c.isdigit() else c for c in reason), []).append(reject)
    found = [
        Rejected(
            reason=str(rows[0].get("reason", "no reason given")),
            rows=len(rows),
            examples=[
                (f"{row.get('dataset', '?')}, shard {row.get('shard', '?')}", str(row.get("row", "?")))
                for row in rows[:EXAMPLES]
            ],
        )
        for rows in groups.values()
    ]
    return sorted(found, key=lambda entry: -entry.rows)


def broken_steps(run: RunLog) -> list[int]:
    """Steps whose loss or gradient norm was logged, and was no finite number."""
    keys = ("loss", "grad_norm")
    return [
        line["step"]
        for line in run.lines
        if any(line.get(k) is not None and number(line[k]) is None for k in keys)
    ]
