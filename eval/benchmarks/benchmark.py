"""What a benchmark is to the importer: how its rows are found and how one becomes gold rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from datagen.importers.rejects import BadRow
from eval.benchmarks.cells import Draft
from eval.benchmarks.gold import GoldReject
from eval.benchmarks.sources import ENDINGS, Row, Sources, all_rows, split_name


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark, in all the layouts it is published in.

    Attributes:
        read: a source row to gold rows (none for rows that are there to be joined); raises BadRow.
        rows: the rows of the source; benchmarks in several files join them here.
        split: the one evaluated by default; "" where there is only one.
        also: further splits it needs.
        columns: of its CSV files, where these have no header line.
        pictures: least and most pictures of a row.
        answered: whether every row needs a reference.
        endings: of the files that hold its rows.
    """

    name: str
    read: Callable[[Row], Iterable[Draft]]
    rows: Callable[[Sources], Iterator[Row]] | None = None
    split: str = ""
    also: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    pictures: tuple[int, int] = (1, 1)
    answered: bool = True
    endings: tuple[str, ...] = ENDINGS

    def items(self, sources: Sources) -> Iterator[tuple[Draft | GoldReject, str]]:
        """Every gold row and every reject of a source with its place; ids are unique among the gold rows."""
        taken: set[str] = set()
        for row in self.rows(sources) if self.rows else all_rows(sources, self.columns):
            try:
                drafts = self._drafts(row, sources.split)
            except BadRow as error:
                yield _reject(row, error), row.where
                continue
            for draft in drafts:
                try:
                    self._check(draft, taken)
                except BadRow as error:
                    yield replace(_reject(row, error), id=draft.id), row.where
                else:
                    taken.add(draft.id)
                    yield draft, row.where

    def _drafts(self, row: Row, split: str) -> list[Draft]:
        if row.bad is not None:
            raise row.bad
        named = row.values.get("split")
        if isinstance(named, str) and split and split_name(named) != split:
            raise BadRow("wrong_split", f"a row of split {named!r}, wanted is {split!r}")
        return list(self.read(row))

    def _check(self, draft: Draft, taken: set[str]) -> None:
        least, most = self.pictures
        if draft.id in taken:
            raise BadRow("duplicate_id", f"an earlier row has the id {draft.id!r}")
        if len(draft.images) < least:
            raise BadRow("no_image", "a row without a picture")
        if len(draft.images) > most:
            raise BadRow("several_images", f"{len(draft.images)} pictures where {most} is expected")
        if self.answered and not draft.golds:
            raise BadRow("no_answer", "a row without an answer")


def _reject(row: Row, error: BadRow) -> GoldReject:
    named = row.values.get("id", row.values.get("question_id", ""))
    return GoldReject(
        id=str(named) if isinstance(named, str | int) else "",
        reason=error.reason,
        detail=str(error),
        where=row.where,
    )
