"""Reading published data sets: joins, mixed batches, rejects, resume."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cluster import datasets
from cluster.errors import UserError
from datagen import records
from datagen.corpus import CorpusRow
from tests.train.conftest import World, record, write_world
from train.batch import LanguageMicrobatch, StepBatch
from train.build import language_data
from train.config import TrainConfig
from train.data import LanguageData
from train.prepare import plan
from train.templates import TemplateSet


@pytest.fixture
def open_data(small_model: Any) -> Any:
    model, processor = small_model

    def make(cfg: TrainConfig) -> LanguageData:
        return language_data(cfg, model.config, processor, TemplateSet())

    return make


def seen(micro: LanguageMicrobatch) -> int:
    """Pictures of a microbatch."""
    return len(micro.pictures.get("pixel_values", ()))


def content(batch: StepBatch) -> list[list[int]]:
    """The rows of a step, independent of microbatches and padding."""
    return sorted(
        [token for token in row if token]
        for micro in batch.microbatches
        for row in micro.ids.tolist()
        if any(row)
    )


def test_an_epoch_has_every_row_once(make_config: Any, open_data: Any) -> None:
    cfg = make_config()
    data = open_data(cfg)
    steps = list(islice(data.steps(0), plan(cfg).steps_per_epoch))
    assert sum(step.stats["samples"] for step in steps) == sum(step.rows for step in steps) == 3 * (12 + 2)
    assert sum(seen(m) for s in steps for m in s.microbatches) == 3 * 12
    assert any(0 < seen(m) < len(m.ids) for s in steps for m in s.microbatches), "text-only rows are mixed in"


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_together_take_the_same_rows(make_config: Any, open_data: Any, world_size: int) -> None:
    cfg = make_config()
    alone = [content(step) for step in islice(open_data(cfg).steps(0), 7)]
    shares = [list(islice(open_data(cfg).steps(0, rank=r, world=world_size), 7)) for r in range(world_size)]
    assert [
        sorted(row for share in step for row in content(share)) for step in zip(*shares, strict=True)
    ] == alone
    for step in zip(*shares, strict=True):
        assert len({len(share.microbatches) for share in step}) == 1


@pytest.mark.parametrize("start", [1, 2, 5, 6, 9])
def test_any_step_can_be_the_first(make_config: Any, open_data: Any, start: int) -> None:
    cfg = make_config()
    whole = [content(step) for step in islice(open_data(cfg).steps(0), 12)]
    assert [content(step) for step in islice(open_data(cfg).steps(start), 12 - start)] == whole[start:]


def test_microbatches_do_not_change_steps(make_config: Any, open_data: Any) -> None:
    small, large = (make_config(microbatch=size) for size in (2, 8))
    for a, b in zip(islice(open_data(small).steps(0), 5), islice(open_data(large).steps(0), 5), strict=True):
        assert content(a) == content(b)


def test_kinds_and_weights(make_config: Any, open_data: Any, world: World) -> None:
    cfg = make_config(
        data=[{**world, "kinds": ["where"], "weight": 0.5}, {**world, "kinds": ["text"], "weight": 2}]
    )
    assert plan(cfg).rows == (18, 6)
    assert plan(cfg).rows_per_epoch == 9 + 12
    steps = list(islice(open_data(cfg).steps(0), plan(cfg).steps_per_epoch))
    assert sum(seen(m) for s in steps for m in s.microbatches) == 9


def test_bad_rows_become_rejects_and_books_balance(make_config: Any, open_data: Any, tmp_path: Path) -> None:
    def spoil(row: CorpusRow) -> CorpusRow:
        broken = {"s0-1": row.image[:60], "s1-2": b"", "s2-0": b"no picture at all"}
        return replace(row, image=broken.get(row.image_id, row.image))

    extra = (
        record("other-shard", ("s1-1",), [("Q?", "A")]),
        record("no-answer", ("s0-0",), [("Q?", "")]),
        record("special", ("s0-0",), [("Q </s>?", "A")]),
    )
    cfg = make_config(data=[write_world(tmp_path, spoil=spoil, extra=extra)])
    steps = list(islice(open_data(cfg).steps(0), plan(cfg).steps_per_epoch))
    reasons = {reject.row: reject.reason for step in steps for reject in step.rejects}
    assert set(reasons) == {"other-shard", "no-answer", "special"} | {
        f"{image}-{kind}" for image in ("s0-1", "s1-2", "s2-0") for kind in ("color", "where")
    }
    assert "not in the corpus shard" in reasons["other-shard"]
    assert "no image bytes" in reasons["s1-2-color"]
    assert "cannot decode" in reasons["s2-0-where"]
    used = sum(step.stats["samples"] for step in steps)
    assert used + sum(len(step.rejects) for step in steps) == plan(cfg).rows_per_epoch == 45


def test_padding_is_small(make_config: Any, open_data: Any) -> None:
    data = open_data(make_config(global_batch=16, group_batches=3))
    steps = list(islice(data.steps(0), 2))
    tokens = sum(step.stats["tokens"] for step in steps)
    assert tokens / sum(m.ids.numel() for step in steps for m in step.microbatches) > 0.85


def test_wrong_data_sets_are_named(make_config: Any, world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a published dataset"):
        plan(make_config(data=[{"corpus": world["corpus"], "instructions": str(tmp_path / "nowhere")}]))
    with pytest.raises(UserError, match="holds corpus, not instructions"):
        plan(make_config(data=[{"corpus": world["corpus"], "instructions": world["corpus"]}]))
    with pytest.raises(UserError, match="holds instructions, not a corpus"):
        plan(make_config(data=[{"corpus": world["instructions"], "instructions": world["instructions"]}]))
    with pytest.raises(UserError, match="no rows of kinds nonsense"):
        plan(make_config(data=[{**world, "kinds": ["nonsense"]}]))
    many = str(tmp_path / "many")
    datasets.plan_dataset(many, kind="instructions", name="many", shards=4, config={})
    for shard in range(4):
        datasets.commit_shard(
            many, shard, {"rows": records.to_table([record(f"r{shard}", (), [("Q", "A")])])}
        )
    datasets.freeze(many)
    with pytest.raises(UserError, match="another corpus"):
        plan(make_config(data=[{"corpus": world["corpus"], "instructions": many}]))
