"""The same exchange twice about one image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from datagen.parsing import normalise
from datagen.records import ACCEPTED_STATES, GateResult, Record


def reject_duplicates(records: Iterable[Record]) -> list[Record]:
    """Records of one image in their lineage order; of accepted ones that say the same (normalised question
    and answer) the first stays and the others become ``rejected: duplicate``.
    """
    seen: dict[tuple[str, str], str] = {}
    kept: list[Record] = []
    for record in records:
        if record.state in ACCEPTED_STATES:
            key = (normalise(record.question), normalise(record.answer))
            first = seen.setdefault(key, record.id)
            if first != record.id:
                gate = GateResult(name="duplicate", passed=False, detail=f"same as {first}")
                record = replace(record, state="rejected", reason="duplicate", gates=(*record.gates, gate))
        kept.append(record)
    return kept
