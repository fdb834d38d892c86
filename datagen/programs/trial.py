"""Is anything coming of it? A bootstrapping model that cannot write an instruction and answer it is found out
in its first drafts, before a cluster has written a million of them (*ours*)."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from cluster import storage
from cluster.errors import UserError
from cluster.stages import STOPPED
from datagen.programs.draft import outcome
from datagen.records import ACCEPTED_STATES, Record, to_table

# Judges may be strict: so many times more drafts may all fail there.
JUDGED_FACTOR = 16
# Ends that say nothing about the model.
_NOT_ITS_FAULT = ("failed:image", "failed:row", "failed:engine", "failed:program")
# Ends before there was an instruction with an answer to judge.
_UNREADABLE_STEPS = ("instruct", "extract", "respond")
_UNREADABLE = (
    "rejected:no_instruction",
    *(f"rejected:gate:{gate}" for gate in ("length", "degenerate", "meta_talk", "template_only")),
)
_EXAMPLES = 3
_SHOWN = 100


def _readable(end: str) -> bool:
    return end not in _UNREADABLE and end.rpartition(":")[2] not in _UNREADABLE_STEPS


@dataclass
class Trial:
    """Counts a worker's drafts until one is accepted; ``patience`` see `datagen.config.Bootstrap`."""

    output: str
    patience: int
    drafts: list[Record] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    passed: bool = False

    def see(self, records: Iterable[Record]) -> None:
        """Drafts that ended.

        Raises:
            UserError: nothing usable came of as many as may be without; the drafts are kept under ``output``.
        """
        if self.passed or not self.patience:
            return
        for record in records:
            end = outcome(record.state, record.reason)
            if end in _NOT_ITS_FAULT:
                continue
            self.ends[end] += 1
            self.drafts.append(record)
            self.passed = self.passed or record.state in ACCEPTED_STATES
        if self.passed:
            self.drafts.clear()
            return
        readable = sum(n for end, n in self.ends.items() if _readable(end))
        if self.ends.total() >= self.patience * (JUDGED_FACTOR if readable else 1):
            raise UserError(self._message(readable))

    def _message(self, readable: int) -> str:
        total = self.ends.total()
        shares = ", ".join(f"{end} {n / total:.0%}" for end, n in self.ends.most_common())
        texts = [said for r in self.drafts if (said := " ".join(t.text for t in r.conversation).strip())]
        examples = "; ".join(repr(text[:_SHOWN]) for text in texts[:_EXAMPLES]) or "nothing"
        what = (
            f"none of the first {total} drafts was accepted, though {readable} could be read"
            if readable
            else f"none of the first {total} drafts holds an instruction with an answer"
        )
        place = storage.join(self.output, "trial/drafts.parquet")
        buffer = io.BytesIO()
        pq.write_table(to_table(self.drafts), buffer, compression="zstd")
        storage.write_bytes(place, buffer.getvalue())
        way_out = (
            "Look at which gate rejects them: it may be set too strictly, or the judge may not know its prompt."
            if readable
            else "The generator does not follow its template when it is shown an image alone: train it longer "
            "with mode l2t, or, where it was not trained so, try bootstrap.extract=true and another generator."
        )
        message = (
            f"{what} ({shares}). It wrote, for example: {examples}. {way_out} These drafts are kept in {place}, "
            "finished shards stay; bootstrap.patience=0 goes on regardless."
        )
        storage.write_bytes(storage.join(self.output, STOPPED), message.encode())
        return message
