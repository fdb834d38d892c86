"""One corpus shard through a program: every row a coroutine, bad rows as rejects, the books at the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from datagen import corpus
from datagen.config import DatagenConfig
from datagen.corpus import BadImage, CorpusRow
from datagen.engine import Engine
from datagen.programs import fail_all, run_program
from datagen.programs.desk import Desk
from datagen.programs.draft import outcome
from datagen.prompts import PromptSet
from datagen.records import ACCEPTED_STATES, Record, to_table


@dataclass
class ShardResult:
    """What a shard came to. ``started`` counts drafts when they begin, ``records`` those that ended: they
    must agree.
    """

    index: int
    images: int = 0
    started: int = 0
    records: list[Record] = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """Records by terminal state."""
        return dict(sorted(Counter(outcome(r.state, r.reason) for r in self.records).items()))

    def tokens(self) -> dict[str, int]:
        """Calls and tokens, added up."""
        return {
            "calls": sum(r.calls for r in self.records),
            "prompt": sum(r.tokens_prompt for r in self.records),
            "cached": sum(r.tokens_cached for r in self.records),
            "completion": sum(r.tokens_completion for r in self.records),
        }

    def tables(self) -> dict[str, pa.Table]:
        """The streams of an instruction data set."""
        kept = [r for r in self.records if r.state in ACCEPTED_STATES]
        return {
            "rows": to_table(kept),
            "rejects": to_table([r for r in self.records if r.state not in ACCEPTED_STATES]),
        }

    def check(self) -> None:
        """Every draft started has ended in exactly one record, and parents are in the same shard.

        Raises:
            ValueError: the books do not balance (a bug of a program).
        """
        ids = {r.id for r in self.records}
        if len(ids) != len(self.records) or len(ids) != self.started:
            raise ValueError(
                f"shard {self.index}: {self.started} drafts, {len(self.records)} records, {len(ids)} ids"
            )
        if orphans := [r.id for r in self.records if not ids.issuperset(r.parents)]:
            raise ValueError(
                f"shard {self.index}: {len(orphans)} records with unknown parents, first {orphans[0]}"
            )


@dataclass
class ShardRunner:
    """Runs shards over shared engines; ``admission`` bounds the images in work over all shards of an
    actor.
    """

    config: DatagenConfig
    prompts: PromptSet
    engines: Mapping[str, Engine]
    revision: str
    admission: asyncio.Semaphore
    progress: Callable[[list[Record]], None] = lambda records: None

    async def run(self, index: int, table: pa.Table) -> ShardResult:
        """All rows of a shard; rows end in any order, records are in the order of the corpus.

        Raises:
            EngineDead: the engine is gone; nothing of this shard has been committed.
        """
        begun = time.monotonic()
        result = ShardResult(index=index, images=table.num_rows)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._row(index, position, row))
                    for position, row in enumerate(table.to_pylist())
                ]
        except BaseExceptionGroup as several:
            # Rows die together when their engine does; one of them says why.
            raise _cause(several) from several
        for task in tasks:
            started, records = task.result()
            result.started += started
            result.records += records
        result.seconds = time.monotonic() - begun
        result.check()
        return result

    async def _row(self, index: int, position: int, values: dict[str, Any]) -> tuple[int, list[Record]]:
        async with self.admission:
            try:
                row = corpus.from_row(values)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                stub = CorpusRow(
                    image_id=_name(values, index, position), image=b"", width=0, height=0, sha256=""
                )
                desk = self._desk(stub, None)
                records = fail_all(desk, "row", f"malformed corpus row: {error}")
            else:
                desk = self._desk(row, None)
                try:
                    desk.picture = await asyncio.to_thread(corpus.decode_image, row.image)
                except BadImage as error:
                    records = fail_all(desk, "image", str(error))
                else:
                    records = await run_program(desk)
        self.progress(records)
        return desk.started, records

    def _desk(self, row: CorpusRow, picture: Any) -> Desk:
        return Desk(
            config=self.config,
            prompts=self.prompts,
            engines=self.engines,
            row=row,
            picture=picture,
            revision=self.revision,
        )


def _cause(error: BaseException) -> BaseException:
    """The first failure in groups of groups: a shard's rows each run a group of drafts."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _name(values: dict[str, Any], index: int, position: int) -> str:
    name = values.get("image_id")
    return name if isinstance(name, str) and name else f"shard-{index}-row-{position}"
