"""``manner.html``: one page without scripts and without anything loaded from elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from cluster.pages import environment, policy
from datagen.manner.charts import Hill, Step, hills, steps
from datagen.manner.result import Divergence, Estimate, Judgement, Manner
from datagen.manner.style import sentence_lengths

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 5
SIDES = {"before": "before", "after": "after", "own": "the model's own answers"}
VERDICTS = {
    "after": "the new answer reads more like the model",
    "before": "the old answer reads more like the model",
    "tie": "the judge sees no difference",
    "inconsistent": "the judge contradicts itself when the order is swapped",
    "unparsed": "the judge's words are not a verdict",
    "no_reference": "no answer of the model's own to compare with",
    "refused": "too long for the judge",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One rewritten answer as the page shows it; ``change`` is in nats per token, negative: more likely now."""

    question: str
    diff: Markup
    own: str
    before: float
    after: float
    change: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of the judgement bar; ``left`` and ``share`` in per cent."""

    key: str
    words: str
    pairs: int
    left: float
    share: float


def render(result: Manner, rows: Sequence[dict[str, Any]]) -> str:
    """The page of a result and the rows it was made from."""
    measured = [row for row in rows if not row["failure"]]
    changed = [row for row in measured if row["before"] != row["after"]]
    # Without a rewrite there is one distribution, not two equal ones; with one, it shows where it was at work.
    shown = changed or measured
    sides = [side for side in SIDES if changed or side != "before"]
    by_change = sorted(changed, key=_change)
    filters = {"thousands": _thousands, "signed": _signed, "percent": _percent, "range": _range}
    style = (TEMPLATES / "manner.css").read_text()
    return (
        environment(TEMPLATES, filters)
        .get_template("manner.html.jinja")
        .render(
            policy=policy(style),
            style=Markup(style),
            r=result,
            compares=bool(changed),
            findings=findings(result) if changed else [],
            names={**SIDES, **({} if changed else {"after": "as it is"})},
            sides=sides,
            nll_hills=hills(
                [_rates(shown, side) for side in sides], label="Nats per token", x_label="nats per token"
            ),
            change_hills=hills(
                [Hill(name="difference", tone="change", values=[_change(row) for row in by_change])],
                label="Difference of nats per token, rewritten answers",
                x_label="nats per token, after − before",
                zero=True,
            ),
            length_hills=hills(
                [_lengths(shown, side) for side in sides],
                label="Words per sentence",
                x_label="words",
                whole=True,
            ),
            divergence_steps=steps(
                [_step(d, compares=bool(changed)) for d in result.divergences],
                label="Divergence from the model's own answers",
                x_label="bits",
            ),
            segments=segments(result.judgement) if result.judgement else [],
            most=[_pair(row) for row in by_change[:SHOWN]],
            least=[_pair(row) for row in by_change[SHOWN:][-SHOWN:][::-1]],
        )
    )


def findings(result: Manner) -> list[str]:
    """What the numbers say, in words; without a clear difference they say that."""
    likelihood = result.likelihood.per_answer.difference
    said = [
        "The model finds the answers "
        + _direction(
            likelihood, "more likely than before", "less likely than before", "about as likely as before"
        )
    ]
    closed, of_changed = result.likelihood.closed, result.likelihood.closed_changed
    if closed is not None and closed > 0:
        said[0] += f": {_percent(closed)} of the way to its own answers"
        said[0] += f", {_percent(of_changed)} for those that were changed" if of_changed is not None else ""
    for gap in result.divergences:
        if gap.name in ("words", "function words"):
            said.append(
                f"The {gap.name} are "
                + _direction(
                    gap.difference, "closer to its own", "further from its own", "about as far from its own"
                )
                + f" ({gap.before.value:.3f} to {gap.after.value:.3f} bits)"
            )
    return said


def _direction(difference: Estimate, down: str, up: str, neither: str) -> str:
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return neither
    return down if difference.high < 0 else up


def _usable(rows: Sequence[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    return [r for r in rows if r["own"] and not r["own_refused"]] if side == "own" else list(rows)


def _rates(rows: Sequence[dict[str, Any]], side: str) -> Hill:
    values = [_rate(row, side) for row in _usable(rows, side)]
    return Hill(name=SIDES[side], tone=side, values=values)


def _lengths(rows: Sequence[dict[str, Any]], side: str) -> Hill:
    return Hill(
        name=SIDES[side], tone=side, values=sentence_lengths([row[side] for row in _usable(rows, side)])
    )


def _step(divergence: Divergence, *, compares: bool) -> Step:
    return Step(
        name=divergence.name,
        before=_bounds(divergence.before) if compares else None,
        after=_bounds(divergence.after),
        floor=divergence.floor,
    )


def _bounds(estimate: Estimate) -> tuple[float, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def segments(judgement: Judgement) -> list[Segment]:
    """The judgement bar; its pairs add up to all pairs."""
    found: list[Segment] = []
    left = 0.0
    for key, words in VERDICTS.items():
        pairs = getattr(judgement, key)
        share = 100 * pairs / max(1, judgement.pairs)
        found.append(Segment(key=key, words=words, pairs=pairs, left=left, share=share))
        left += share
    return found


def _rate(row: dict[str, Any], side: str) -> float:
    return float(row[f"nll_{side}"] / row[f"tokens_{side}"])


def _change(row: dict[str, Any]) -> float:
    return _rate(row, "after") - _rate(row, "before")


def _pair(row: dict[str, Any]) -> Pair:
    return Pair(
        question=row["question"],
        diff=marked(row["before"], row["after"]),
        own="" if row["own_refused"] else row["own"] or "",
        before=_rate(row, "before"),
        after=_rate(row, "after"),
        change=_change(row),
        verdict=VERDICTS.get(row["verdict"], ""),
    )


def marked(before: str, after: str) -> Markup:
    """Both texts as one, word by word: what went and what came."""
    old, new = before.split(), after.split()
    parts = []
    for kind, i, j, k, m in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(escape(" ".join(old[i:j])))
            continue
        parts += [Markup("<del>{}</del>").format(" ".join(old[i:j]))] if i < j else []
        parts += [Markup("<ins>{}</ins>").format(" ".join(new[k:m]))] if k < m else []
    return Markup(" ").join(parts)


def _thousands(n: int) -> str:
    return f"{n:,}".replace(",", "\u202f")


def _signed(value: float, digits: int = 2) -> str:
    # -0.001 to two digits is no change, and a minus before it would say otherwise.
    value = round(value, digits)
    return f"{'−' if value < 0 else '+' if value > 0 else '±'}{abs(value):.{digits}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u2009%"


def _range(estimate: Estimate, digits: int = 2) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{_plain(estimate.low, digits)} to {_plain(estimate.high, digits)}"


def _plain(value: float, digits: int) -> str:
    # Adding 0 takes the sign from a zero.
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
