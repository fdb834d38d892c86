"""Counting what became of every row of a unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from datagen.exporters.config import Unexported, Unit, UnitDone
from datagen.exporters.samples import Sample


class Ledger:
    """Every sample that goes through `fit` ends in `done` or `refuse`."""

    def __init__(self) -> None:
        self.rows = 0
        self.images = 0
        self.states: Counter[str] = Counter()
        self.unexported: list[Unexported] = []

    def fit(self, samples: Iterable[Sample | Unexported]) -> Iterator[Sample]:
        """The samples that have their images; the others are written down."""
        for sample in samples:
            if isinstance(sample, Unexported):
                self.unexported.append(sample)
            else:
                yield sample

    def refuse(self, sample: Sample, reason: str) -> None:
        """The format cannot hold this one."""
        self.unexported.append(Unexported(id=sample.record.id, shard=sample.shard, reason=reason))

    def done(self, sample: Sample) -> None:
        """This one is written."""
        self.rows += 1
        self.states[sample.record.state] += 1

    def entry(self, unit: Unit, size: int) -> UnitDone:
        """The book entry.

        Raises:
            ValueError: rows are unaccounted for, which is a bug of a format.
        """
        if self.rows + len(self.unexported) != sum(unit.takes):
            raise ValueError(
                f"unit {unit.index}: {sum(unit.takes)} rows to export, {self.rows} written, {len(self.unexported)} not"
            )
        return UnitDone(
            index=unit.index,
            rows=self.rows,
            images=self.images,
            bytes=size,
            states=dict(sorted(self.states.items())),
            unexported=tuple(self.unexported),
        )
