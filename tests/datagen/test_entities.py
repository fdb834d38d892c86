"""Document frequencies by Ray against a plain count, kept for a run that continues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.runtime import init_ray
from datagen.corpus import Box, CorpusRow
from datagen.entities import frequencies
from tests.datagen.conftest import row

NAMES = ("dog", "tree", "kite")


def test_images_are_counted_not_objects(
    tmp_path: Path, write_corpus: Callable[[list[list[CorpusRow]]], str]
) -> None:
    rows = [
        replace(row(i), objects=tuple(Box(name=n, box=(0, 0, 1, 1)) for n in NAMES[: i % 4] * 2))
        for i in range(10)
    ]
    corpus, output = write_corpus([rows[:4], rows[4:]]), str(tmp_path / "out")
    with init_ray(num_cpus=2):
        counted = frequencies(corpus, output)
    assert counted == Counter(name for i in range(10) for name in NAMES[: i % 4])
    assert frequencies("nowhere", output) == counted, "counted once for a run"
