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
from train.build import build_task, language_data
from train.config import TrainConfig
from train.feed.batch import LanguageMicrobatch, StepBatch
from train.feed.data import LanguageData
from train.feed.loader import load_steps
from train.feed.mixture import Mixture
from train.mask.templates import TemplateSet
from train.prepare import plan, prepare


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
    """The rows of a step, independent of microbatches, packing and padding."""
    found = []
    for micro in batch.microbatches:
        rows = micro.ids[0].split(micro.lengths) if micro.lengths else micro.ids
        found += [[token for token in row.tolist() if token] for row in rows]
    return sorted(row for row in found if row)


def test_an_epoch_has_every_row_once(make_config: Any, open_data: Any) -> None:
    cfg = make_config()
    data = open_data(cfg)
    steps = list(islice(data.steps(0), plan(cfg).steps_per_epoch))
    assert sum(step.stats["samples"] for step in steps) == sum(step.rows for step in steps) == 3 * (12 + 2)
    assert sum(seen(m) for s in steps for m in s.microbatches) == 3 * 12
    assert any(0 < seen(m) < len(m.ids) for s in steps for m in s.microbatches), "text-only rows are mixed in"


PADDED_OR_PACKED = pytest.mark.parametrize("packed", [None, 640], ids=["padded", "packed"])


@PADDED_OR_PACKED
@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_together_take_the_same_rows(
    make_config: Any, open_data: Any, world_size: int, packed: int | None
) -> None:
    cfg = make_config(microbatch_tokens=packed)
    alone = [content(step) for step in islice(open_data(cfg).steps(0), 7)]
    shares = [list(islice(open_data(cfg).steps(0, rank=r, world=world_size), 7)) for r in range(world_size)]
    assert [
        sorted(row for share in step for row in content(share)) for step in zip(*shares, strict=True)
    ] == alone
    for step in zip(*shares, strict=True):
        assert len({len(share.microbatches) for share in step}) == 1


@PADDED_OR_PACKED
@pytest.mark.parametrize("start", [1, 2, 5, 6, 9])
def test_any_step_can_be_the_first(make_config: Any, open_data: Any, start: int, packed: int | None) -> None:
    cfg = make_config(microbatch_tokens=packed)
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


def test_loader_processes_give_the_same_steps(make_config: Any, open_data: Any) -> None:
    """Two processes in turn, from the second step on, as one worker of two."""
    cfg = make_config(loaders=2, microbatch_tokens=640)
    prepare(cfg)
    alone = islice(build_task(cfg).data.steps(1, rank=1, world=2), 4)
    loaded = list(load_steps(cfg, None, 1, 5, rank=1, world=2, pin=False))
    assert [content(step) for step in loaded] == [content(step) for step in alone]


def test_an_error_in_a_loader_process_is_raised_here(make_config: Any, tmp_path: Path) -> None:
    own = write_world(tmp_path)
    cfg = make_config(loaders=1, data=[own])
    prepare(cfg)
    for part in Path(own["instructions"]).rglob("*.parquet"):
        part.unlink()
    with pytest.raises(UserError, match="instructions"):
        list(load_steps(cfg, None, 0, 1, rank=0, world=1, pin=False))


def ids_of(cfg: TrainConfig) -> set[tuple[int, str]]:
    mixture = Mixture(cfg.data)
    counts = mixture.row_counts()[0]
    return {
        (shard, str(name))
        for shard in range(len(counts))
        for name in mixture.shard(0, shard).table["id"].to_pylist()
    }


def test_smaller_shares_lie_within_larger_ones(make_config: Any, world: World) -> None:
    """The paper's data-scale ablation: 40 % of the rows are among the 60 %, whatever the seed."""
    chosen = [ids_of(make_config(data=[{**world, "share": s}])) for s in (0.4, 0.6, 1.0)]
    assert chosen[0] < chosen[1] < chosen[2]
    assert ids_of(make_config(data=[{**world, "share": 0.4}], seed=9)) == chosen[0]


def test_conversations_without_their_pictures(make_config: Any, open_data: Any, tmp_path: Path) -> None:
    marked = (record("marked", ("s0-0",), [("<image>\nWhat is it?", "red")]),)
    cfg = make_config(data=[{**write_world(tmp_path, extra=marked), "strip_images": True}])
    steps = list(islice(open_data(cfg).steps(0), plan(cfg).steps_per_epoch))
    assert not any(step.rejects for step in steps)
    assert sum(step.stats["samples"] for step in steps) == 43
    assert not any(micro.pictures for step in steps for micro in step.microbatches)
    assert all(step.stats.get("masked_image", 0) == 0 for step in steps)


def test_pictures_after_their_instruction_are_moved_and_counted_or_refused(
    make_config: Any, open_data: Any, tmp_path: Path
) -> None:
    late = (record("late", ("s0-0",), [("What is it?\n<image>", "red")]),)
    world = write_world(tmp_path, extra=late)
    moved = list(islice(open_data(make_config(data=[world])).steps(0), 6))
    assert sum(step.stats["moved"] for step in moved) == 1
    assert not any(step.rejects for step in moved)
    refused = list(islice(open_data(make_config(data=[world], image_position="refuse")).steps(0), 6))
    assert [r.row for step in refused for r in step.rejects] == ["late"]


def test_a_picture_of_another_size_than_the_corpus_says(make_config: Any, tmp_path: Path) -> None:
    """Tokens are counted by the size that the corpus has; a picture that makes others is a reject, not a crash."""
    from tests.train.families import build

    def lie(row: CorpusRow) -> CorpusRow:
        return replace(row, width=200, height=64) if row.image_id == "s0-1" else row

    model, processor = build("qwen2_vl")
    cfg = make_config(data=[write_world(tmp_path, spoil=lie)], templates={"source": "none"})
    data = language_data(cfg, model.config, processor, TemplateSet())
    steps = list(islice(data.steps(0), plan(cfg).steps_per_epoch))
    reasons = {reject.row: reject.reason for step in steps for reject in step.rejects}
    assert set(reasons) == {"s0-1-color", "s0-1-where"}
    assert "the picture is 64 x 64, the corpus says 200 x 64" in reasons["s0-1-color"]
