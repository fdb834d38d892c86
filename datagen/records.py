"""The record: one conversation about images, with all that happened to it on the way (contract 2).

Kept and rejected rows share this one shape, so a rejected draft can be read, counted and re-judged like an accepted
one. Standard library and pyarrow only: everything that touches instructions imports this file, in processes where
torch or vLLM must not load.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = "1"

State = Literal["accepted", "kept_original", "rejected", "truncated", "failed"]
ACCEPTED_STATES: tuple[State, ...] = ("accepted", "kept_original")
Format = Literal["open", "bool", "choice"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message; ``role`` is ``user`` or ``assistant``; images belong to the first user turn of a conversation."""

    role: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a text was drawn; ``temperature`` 0 is greedy, ``top_k`` 0 is off, ``max_tokens`` counts new tokens."""

    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 64
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the verifier said: ``result`` is ``yes``, ``no`` or ``unparsed``; the evidence comes first (ComVint)."""

    result: str
    evidence: str = ""


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One mechanical check; ``detail`` says what was found, in words a person can act on."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of an instruction data set.

    ``state`` is the terminal state, ``reason`` says why in a fixed short form (``unverified``, ``parse:synthesize`` …)
    and is empty for accepted rows. ``tokens_*`` add up every engine call spent on this row and on no other row.
    ``rewrite`` is the writing-manner outcome: ``accepted``, ``kept``, ``fallback`` or empty when not tried.
    """

    id: str
    image_ids: tuple[str, ...]
    kind: str
    format: Format
    conversation: tuple[Turn, ...]
    state: State
    reason: str = ""
    round: int = 0
    parents: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    answer_index: int | None = None
    rewrite: str = ""
    program: str = ""
    program_version: str = ""
    prompt_set: str = ""
    prompt_version: str = ""
    model_revision: str = ""
    sampling: Sampling = Sampling()
    verdict: Verdict | None = None
    scores: tuple[tuple[str, float], ...] = ()
    gates: tuple[GateResult, ...] = ()
    calls: int = 0
    tokens_prompt: int = 0
    tokens_cached: int = 0
    tokens_completion: int = 0
    source: str = ""

    @property
    def question(self) -> str:
        """Text of the first user turn, empty where a draft never got one."""
        return next((t.text for t in self.conversation if t.role == "user"), "")

    @property
    def answer(self) -> str:
        """Text of the first assistant turn, empty where a draft never got one."""
        return next((t.text for t in self.conversation if t.role == "assistant"), "")


_TURN = pa.struct([("role", pa.string()), ("text", pa.string())])
_SAMPLING = pa.struct(
    [
        ("seed", pa.int64()),
        ("temperature", pa.float64()),
        ("top_p", pa.float64()),
        ("top_k", pa.int32()),
        ("max_tokens", pa.int32()),
        ("stop", pa.list_(pa.string())),
    ]
)
_VERDICT = pa.struct([("result", pa.string()), ("evidence", pa.string())])
_GATE = pa.struct([("name", pa.string()), ("passed", pa.bool_()), ("detail", pa.string())])

RECORD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image_ids", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("format", pa.string()),
        ("conversation", pa.list_(_TURN)),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("round", pa.int32()),
        ("parents", pa.list_(pa.string())),
        ("options", pa.list_(pa.string())),
        ("answer_index", pa.int32()),
        ("rewrite", pa.string()),
        ("program", pa.string()),
        ("program_version", pa.string()),
        ("prompt_set", pa.string()),
        ("prompt_version", pa.string()),
        ("model_revision", pa.string()),
        ("sampling", _SAMPLING),
        ("verdict", _VERDICT),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("gates", pa.list_(_GATE)),
        ("calls", pa.int32()),
        ("tokens_prompt", pa.int64()),
        ("tokens_cached", pa.int64()),
        ("tokens_completion", pa.int64()),
        ("source", pa.string()),
    ],
    metadata={"l2t.schema": "record", "l2t.schema_version": SCHEMA_VERSION},
)


def record_id(*lineage: Any) -> str:
    """Stable id from content and lineage: the first 20 hex digits of sha256 over their canonical JSON."""
    return hashlib.sha256(json.dumps(lineage, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[
        :20
    ]


def to_table(records: list[Record]) -> pa.Table:
    """Records as one Arrow table of ``RECORD_SCHEMA``; an empty list gives an empty table of that schema."""
    return pa.Table.from_pylist([_plain(r) for r in records], schema=RECORD_SCHEMA)


def _plain(record: Record) -> dict[str, Any]:
    # dataclasses.asdict copies every leaf; this is five times as fast and was a sixth of datagen's own CPU time.
    return {
        **vars(record),
        "conversation": [vars(turn) for turn in record.conversation],
        "sampling": vars(record.sampling),
        "verdict": vars(record.verdict) if record.verdict else None,
        "gates": [vars(gate) for gate in record.gates],
    }


def from_row(row: dict[str, Any]) -> Record:
    """One ``pa.Table.to_pylist()`` row back to a Record.

    Raises:
        KeyError: the row lacks a field of the schema (an older schema version).
    """
    values: dict[str, Any] = {f.name: row[f.name] for f in fields(Record)}
    for name in ("image_ids", "parents", "options"):
        values[name] = tuple(values[name] or ())
    values["conversation"] = tuple(Turn(**t) for t in values["conversation"] or ())
    sampling = dict(values["sampling"])
    values["sampling"] = Sampling(**{**sampling, "stop": tuple(sampling["stop"] or ())})
    values["verdict"] = Verdict(**values["verdict"]) if values["verdict"] else None
    values["scores"] = tuple((k, v) for k, v in values["scores"] or ())
    values["gates"] = tuple(GateResult(**g) for g in values["gates"] or ())
    return Record(**values)


def from_table(table: pa.Table) -> list[Record]:
    """All rows of an instruction table, in order."""
    return [from_row(row) for row in table.to_pylist()]
