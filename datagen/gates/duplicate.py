"""The same exchange twice about one image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from datagen.parsing import normalise
from datagen.records import ACCEPTED_STATES, GateResult, Record


def reject_duplicates(records: Iterable[Record], imported: frozenset[str] = frozenset()) -> list[Record]:
    """Records of one image in their lineage order; of accepted ones that say the same (normalised conversation)
    the first stays and the others become ``rejected: duplicate``. Those with ids in ``imported`` always stay: a set
    that is worked on does not lose rows.
    """
    seen: dict[tuple[str, ...], str] = {}
    kept: list[Record] = []
    for record in records:
        if record.state in ACCEPTED_STATES:
            key = tuple(normalise(turn.text) for turn in record.conversation)
            first = seen.setdefault(key, record.id)
            if first != record.id and record.id not in imported:
                gate = GateResult(name="duplicate", passed=False, detail=f"same as {first}")
                record = replace(record, state="rejected", reason="duplicate", gates=(*record.gates, gate))
        kept.append(record)
    return kept
