"""Before the engines start: how many answers there are, which are soft format, and which of them are the sample.

An answer is in the sample when the hash of its id is among the smallest ``rows``: the sample depends on ids and seed
alone, not on shards, their order or the number of workers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from cluster.config import Config
from cluster.datasets import read_manifest, read_shard
from cluster.errors import UserError
from datagen.manner.pairs import Answer, by_id, own_pairs, paired
from datagen.records import RECORD_SCHEMA, from_table

ROWS = "rows"
COUNTED = ("answers", "hard", "unpaired", "soft", "changed")


class Survey(Config):
    """Answers of a whole instruction set: ``answers = hard + unpaired + soft``, ``changed`` of the soft ones differ
    from before. ``cutoff``: a soft answer is measured if its hash is at most this, in hexadecimal."""

    answers: int
    hard: int
    unpaired: int
    soft: int
    changed: int
    measured: int
    cutoff: str


def hash_of_answer(answer: Answer, seed: int) -> int:
    """64 bits, uniform, of id, turn and seed."""
    text = f"{seed}\t{answer.id}\t{answer.turn}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def shard_answers(instructions: str, before: str | None, shard: int) -> Iterator[Answer]:
    """All answers of one shard.

    Raises:
        UserError: a part that is missing, altered, or of another schema version.
    """
    records = from_table(_rows(instructions, shard))
    if before is None:
        for record in records:
            yield from own_pairs(record)
        return
    # Shard k of an instruction set holds the images of shard k of its corpus, and so does that of its child.
    there = shard < len(read_manifest(before).shards)
    earlier = by_id(from_table(_rows(before, shard))) if there else {}
    for record in records:
        yield from paired(record, earlier)


def _rows(uri: str, shard: int):  # type: ignore[no-untyped-def]
    if ROWS not in read_manifest(uri).shards[shard].parts:
        return RECORD_SCHEMA.empty_table()
    return read_shard(uri, shard, ROWS, schema=RECORD_SCHEMA)


def survey_shard(answers: Iterable[Answer], *, rows: int, seed: int) -> tuple[Counter[str], np.ndarray]:
    """Counts of one shard and the smallest ``rows`` hashes of its soft answers (uint64, sorted)."""
    counts: Counter[str] = Counter()
    hashes = []
    for answer in answers:
        counts["answers"] += 1
        if answer.before is None:
            counts["unpaired"] += 1
        elif answer.hard:
            counts["hard"] += 1
        else:
            counts["soft"] += 1
            counts["changed"] += answer.before != answer.after
            hashes.append(hash_of_answer(answer, seed))
    return counts, np.sort(np.array(hashes, dtype=np.uint64))[:rows]


def merged(parts: Iterable[tuple[Counter[str], np.ndarray]], *, rows: int, where: str) -> Survey:
    """The survey of all shards.

    Raises:
        UserError: there is nothing to measure.
    """
    counts: Counter[str] = Counter()
    smallest = np.zeros(0, dtype=np.uint64)
    for more, hashes in parts:
        counts.update(more)
        smallest = np.sort(np.concatenate([smallest, hashes]))[:rows]
    if not len(smallest):
        raise UserError(f"{where}: nothing to measure. {_why_nothing(counts)}")
    return Survey(
        **{key: counts[key] for key in COUNTED},
        measured=len(smallest),
        cutoff=f"{int(smallest[-1]):016x}",
    )


def _why_nothing(counts: Counter[str]) -> str:
    if not counts["answers"]:
        return "It has no answers."
    if counts["unpaired"] == counts["answers"]:
        return (
            f"None of its {counts['answers']} answers has a partner in --before: ids or parents' ids have to be the "
            "same, in the same shard, and the question too."
        )
    return (
        f"Of its {counts['answers']} answers {counts['hard']} are hard format (one word, a letter, a number, a box), "
        "and those have no manner of writing."
    )


def in_sample(answer: Answer, *, seed: int, cutoff: str) -> bool:
    """Whether an answer is measured."""
    return answer.before is not None and not answer.hard and hash_of_answer(answer, seed) <= int(cutoff, 16)
