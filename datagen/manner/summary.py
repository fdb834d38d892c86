"""From measured rows to the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.errors import UserError
from datagen.manner.config import MannerConfig
from datagen.manner.estimates import Bootstrap, mean_change, ratio_change
from datagen.manner.judging import Verdict
from datagen.manner.repetition import distinct, self_bleu
from datagen.manner.result import (
    Change,
    Estimate,
    Judgement,
    Likelihood,
    Manner,
    Reference,
    Repetition,
    Style,
)
from datagen.manner.style import STATISTICS, statistics
from datagen.manner.survey import Survey
from datagen.manner.uncertainty import numbered
from datagen.manner.vocabulary import Compared, compare
from datagen.manner.words import encode

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the rows came from: URIs, names and revisions of the models, the prompts."""

    instructions: str
    before: str
    models: dict[str, str]
    names: dict[str, str]
    prompts: str


def summarise(rows: Sequence[Row], survey: Survey, source: Source, config: MannerConfig) -> Manner:
    """The result of all measured rows.

    Raises:
        UserError: the engine refused every answer.
    """
    # One order for every run: draws of the bootstrap go by position.
    measured = sorted((r for r in rows if not r["failure"]), key=lambda r: (r["id"], r["turn"]))
    if not measured:
        raise UserError(
            f"the engine refused all {len(rows)} answers, the first with: {rows[0]['failure'] if rows else '-'}. "
            "A larger context may help: --set inner.max_model_len=…"
        )
    clusters = numbered([r["image"] for r in measured])
    draws = Bootstrap(clusters=clusters, replicates=config.resamples, seed=config.seed)
    usable = np.array([bool(r["own"]) and not r["own_refused"] for r in measured])
    compared = _compared(measured, usable, draws)
    return Manner(
        instructions=source.instructions,
        before=source.before,
        models=source.models,
        names=source.names,
        prompts=source.prompts,
        seed=config.seed,
        survey=survey,
        failed=len(rows) - len(measured),
        changed=sum(r["before"] != r["after"] for r in measured),
        images=int(clusters.max()) + 1,
        reference=Reference(
            answers=len(measured),
            usable=int(usable.sum()),
            refused=sum(bool(r["own_refused"]) for r in measured),
            cut=sum(bool(r["own_cut"]) for r in measured),
        ),
        likelihood=_likelihood(measured, usable, draws),
        divergences=compared.divergences if compared else (),
        styles=_styles(measured, usable, draws),
        repetition=_repetition(measured, usable),
        words=compared.words if compared else None,
        function_words=compared.function_words if compared else None,
        judgement=_judgement(measured, draws) if config.pairwise else None,
    )


def _texts(rows: Sequence[Row], column: str) -> list[str]:
    return [row[column] or "" for row in rows]


def _likelihood(rows: Sequence[Row], usable: np.ndarray, draws: Bootstrap) -> Likelihood:
    def column(name: str) -> np.ndarray:
        return np.array([row[name] if row[name] is not None else np.nan for row in rows], dtype=np.float64)

    sides = ("before", "after", "own")
    nats = {side: column(f"nll_{side}") for side in sides}
    tokens = {side: column(f"tokens_{side}") for side in sides}
    rate = {side: nats[side] / tokens[side] for side in sides}
    changed = np.array([row["before"] != row["after"] for row in rows])
    per_answer = mean_change(rate, usable, draws)
    of_changed = mean_change(rate, usable, draws, only=changed) if changed.any() else None
    per_token, perplexity = ratio_change(nats, tokens, usable, draws)
    return Likelihood(
        answers=len(rows),
        per_token=per_token,
        perplexity=perplexity,
        per_answer=per_answer,
        total=mean_change(nats, usable, draws),
        per_answer_changed=of_changed,
        closed=_closed(per_answer),
        closed_changed=_closed(of_changed),
    )


def _closed(change: Change | None) -> float | None:
    if change is None or change.own is None or change.before.value <= change.own.value:
        return None
    return -change.difference.value / (change.before.value - change.own.value)


def _styles(rows: Sequence[Row], usable: np.ndarray, draws: Bootstrap) -> tuple[Style, ...]:
    found = {side: [statistics(text) for text in _texts(rows, side)] for side in ("before", "after", "own")}
    return tuple(
        Style(
            name=name,
            label=label,
            change=mean_change(
                {side: np.array([s[name] for s in values]) for side, values in found.items()}, usable, draws
            ),
        )
        for name, label in STATISTICS.items()
    )


def _repetition(rows: Sequence[Row], usable: np.ndarray) -> tuple[Repetition, ...]:
    """Over the questions with a usable reference: these measures depend on how many texts there are."""
    kept = [row for row, there in zip(rows, usable, strict=True) if there]
    vocabulary, encoded = encode(*(_texts(kept, side) for side in ("before", "after", "own")))
    size = len(vocabulary)
    measures = {
        "distinct_1": ("different words of all words", lambda t: distinct(t, 1, size)),
        "distinct_2": ("different word pairs of all pairs", lambda t: distinct(t, 2, size)),
        "self_bleu": ("self-BLEU: likeness to the other answers", lambda t: self_bleu(t, size)),
    }
    return tuple(
        Repetition(name=name, label=label, before=of(encoded[0]), after=of(encoded[1]), own=of(encoded[2]))
        for name, (label, of) in measures.items()
    )


def _compared(rows: Sequence[Row], usable: np.ndarray, draws: Bootstrap) -> Compared | None:
    """Words against the reference, None where the inner LLM gave no usable answer or nothing but blanks."""
    kept = [row for row, there in zip(rows, usable, strict=True) if there]
    if not kept:
        return None
    clusters = numbered([row["image"] for row in kept])
    within = Bootstrap(clusters=clusters, replicates=draws.replicates, seed=draws.seed)
    return compare(
        _texts(kept, "before"), _texts(kept, "after"), _texts(kept, "own"), within, seed=draws.seed
    )


def _judgement(rows: Sequence[Row], draws: Bootstrap) -> Judgement:
    books = Counter(row["verdict"] for row in rows if row["verdict"])
    asked = sum(books.values())
    judged = asked - books["no_reference"] - books["refused"]
    readable = [row for row in rows if row["verdict"] in ("after", "before", "tie", "inconsistent")]
    shown = [row["first_shown"] for row in readable]
    verdicts: tuple[Verdict, ...] = ("after", "before", "tie", "inconsistent", "unparsed")
    return Judgement(
        pairs=asked,
        **{verdict: books[verdict] for verdict in verdicts},
        no_reference=books["no_reference"],
        refused=books["refused"],
        preferred=_preferred(rows, draws),
        first_shown=sum(shown) / (2 * len(shown)) if shown else None,
        can_judge=judged > 0 and 2 * (books["after"] + books["before"] + books["tie"]) >= judged,
    )


def _preferred(rows: Sequence[Row], draws: Bootstrap) -> Estimate | None:
    won = np.array([row["verdict"] == "after" for row in rows], dtype=np.float64)
    decided = np.array([row["verdict"] in ("after", "before") for row in rows], dtype=np.float64)
    if not decided.any():
        return None

    def share(drawn: np.ndarray) -> list[float]:
        below = float(drawn @ decided)
        return [float(drawn @ won) / below if below else np.nan]

    return draws.estimate(share)[0]
