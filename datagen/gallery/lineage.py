"""Rows of an image as families: what was made from what, the steps of each row, and what became of it."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from math import isfinite
from typing import Any

from datagen.gallery.books import in_words, tone_of
from datagen.gallery.facts import NOTES
from datagen.gallery.visible import Piece, label, word_diff
from datagen.programs.draft import outcome
from datagen.records import GateResult, Record

MAX_TURNS, MAX_GATES, MAX_OPTIONS, MAX_SCORES = 80, 60, 26, 40
RANK = {"bad": 0, "cut": 1, "out": 2, "kept": 3, "good": 4}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REWRITES = {
    "accepted": "rewritten",
    "kept": "already in the model's manner",
    "fallback": "no rewrite passed",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stage of a row's way, with the tone of how it went."""

    name: str
    tone: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownTurn:
    """One message; ``pieces`` is the word diff where the answer was rewritten."""

    role: str
    text: str
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record as the page shows it; ``depth`` is its distance from the first draft of its lineage, ``facets``,
    ``scores`` and ``order`` are JSON for the filters."""

    record: Record
    tone: str
    fate: str
    depth: int
    steps: list[Step]
    turns: list[ShownTurn]
    more_turns: int
    options: list[tuple[str, str, bool]]
    failed: list[GateResult]
    passed: list[GateResult]
    made_of: str
    facets: str
    scores: str
    order: str

    @property
    def shown_scores(self) -> list[tuple[str, float]]:
        """The scores as they are, the first of very many."""
        return [(label(name), value) for name, value in self.record.scores[:MAX_SCORES]]


def entries(records: list[Record]) -> list[Entry]:
    """Records as a family tree, each under what it was made from; every record once, whatever its parents say."""
    known = {r.id: r for r in records}
    children: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (tone_of(r.state) != "good", r.round, r.format)):
        parent = next((p for p in record.parents if p in known and p != record.id), "")
        children.setdefault(parent, []).append(record)
    found: list[Entry] = []
    done: set[str] = set()

    def walk(first: list[Record]) -> None:
        waiting = deque((record, 0, 0) for record in first)
        while waiting:
            record, depth, round = waiting.popleft()
            if record.id in done:
                continue
            done.add(record.id)
            found.append(_entry(record, depth, round))
            below = [(child, depth + 1, record.round) for child in children.get(record.id, [])]
            waiting.extendleft(reversed(below))

    walk(children.get("", []))
    # Rows in a circle of parents have no first draft; they stand on their own.
    for record in records:
        walk([record])
    return found


def _entry(record: Record, depth: int, parent_round: int) -> Entry:
    key = outcome(record.state, record.reason)
    checks = [g for g in record.gates if g.name not in NOTES][:MAX_GATES]
    turns = _turns(record)
    return Entry(
        record=record,
        tone=tone_of(record.state),
        fate=in_words(key),
        depth=min(depth, 4),
        steps=_steps(record, depth, parent_round, checks),
        turns=turns[:MAX_TURNS],
        more_turns=max(0, len(turns) - MAX_TURNS),
        options=[
            (LETTERS[i], text, i == record.answer_index)
            for i, text in enumerate(record.options[:MAX_OPTIONS])
        ],
        failed=[g for g in checks if not g.passed],
        passed=[g for g in checks if g.passed],
        made_of=next(iter(record.parents), ""),
        facets=_json(_facets(record, key, checks)),
        scores=_json([(label(n), v) for n, v in record.scores[:MAX_SCORES] if v is not None and isfinite(v)]),
        order=_json(
            {
                "state": RANK[tone_of(record.state)],
                "length": sum(len(t.text) for t in record.conversation if t.role == "assistant"),
                "gates": sum(not g.passed for g in checks),
                "depth": depth,
            }
        ),
    )


def made(record: Record, depth: int, parent_round: int) -> str:
    """How a row came to be, in two or three words."""
    if record.kind == "choice" or (depth and record.format == "choice"):
        return "as a choice"
    if not depth:
        if record.program.startswith("import"):
            return "imported"
        if record.parents:
            return "taken as it was"
        return "draft" if record.calls else "given"
    if record.round > parent_round:
        how = "evolved" if record.program == "evolve" else "made harder"
        return f"{how}, round {record.round}"
    return "as yes or no" if record.format == "bool" else "made from it"


def _steps(record: Record, depth: int, parent_round: int, checks: list[GateResult]) -> list[Step]:
    steps = [Step(name=made(record, depth, parent_round), tone="")]
    failed = [g.name for g in checks if not g.passed]
    if checks:
        went = f"{len(checks) - len(failed)} of {len(checks)} gates" if failed else f"{len(checks)} gates"
        name = "1 gate" if len(checks) == 1 and not failed else went
        steps.append(Step(name=name, tone="out" if failed else "good", title=label(", ".join(failed))))
    if record.verdict:
        said = record.verdict.result
        tone = {"yes": "good", "no": "out"}.get(said, "cut")
        steps.append(Step(name=f"verdict {label(said)}", tone=tone))
    if record.rewrite:
        tone = {"fallback": "kept"}.get(record.rewrite, "good")
        steps.append(Step(name=REWRITES.get(record.rewrite, label(record.rewrite)), tone=tone))
    return steps


def _turns(record: Record) -> list[ShownTurn]:
    """The whole conversation; an answer that was rewritten as a diff to what it was before."""
    before = _before(record)
    shown: list[ShownTurn] = []
    for place, turn in enumerate(record.conversation):
        pieces: tuple[Piece, ...] = ()
        if place in before and before[place] != turn.text:
            pieces = tuple(word_diff(before[place], turn.text))
        shown.append(ShownTurn(role=turn.role, text=turn.text, pieces=pieces))
    return shown


def _before(record: Record) -> dict[int, str]:
    """Answers as they were, by their place in the conversation. The note of a row with one answer is its old text, of
    a row with several ``<place>\\t<old text>``; of an answer rewritten twice the oldest counts."""
    places = [place for place, turn in enumerate(record.conversation) if turn.role == "assistant"]
    found: dict[int, str] = {}
    for gate in record.gates:
        if gate.name != "original_answer":
            continue
        if len(places) == 1:
            found.setdefault(places[0], gate.detail)
        else:
            number, _, text = gate.detail.partition("\t")
            found |= {place: text for place in places if str(place) == number and place not in found}
    return found


def _facets(record: Record, key: str, checks: list[GateResult]) -> list[tuple[str, list[str]]]:
    facets: list[tuple[str, list[str]]] = [
        ("state", [label(record.state)]),
        ("reason", [label(key)]),
        ("kind", [label(record.kind)]),
        ("format", [label(record.format)]),
        ("verdict", [label(record.verdict.result) if record.verdict else "none"]),
        ("gate", sorted({label(g.name) for g in checks if not g.passed})),
        ("rewrite", [label(record.rewrite)] if record.rewrite else []),
    ]
    return [(name, values) for name, values in facets if values]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
