"""What people bring that cannot be trained on: each says what it is, where, and what to do; nothing goes unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from datagen.corpus import CorpusRow
from datagen.records import Turn
from tests.train.conftest import record, write_world
from train.config import TrainConfig
from train.launch import launch
from train.models.export import save_model
from train.prepare import prepare, start_model


def saved(model: Any, folder: Path) -> str:
    save_model(*model, folder)
    return str(folder)


def test_every_kind_of_bad_row_is_counted_with_its_reason(make_config: Any, tmp_path: Path) -> None:
    """One run over all of them: used and rejected rows add up to what is stored."""

    def spoil(row: CorpusRow) -> CorpusRow:
        from dataclasses import replace

        broken = {"s0-1": row.image[:60], "s1-2": b"", "s2-0": b"GIF89a but no picture"}
        return replace(row, image=broken.get(row.image_id, row.image))

    def talk(name: str, *turns: tuple[str, str]) -> Any:
        from dataclasses import replace

        made = tuple(Turn(role=role, text=text) for role, text in turns)
        return replace(record(name, ("s0-0",), [("Q", "A")]), conversation=made)

    bad = {
        "no answer": talk("no-answer", ("user", "Q?")),
        "empty answer": talk("empty-answer", ("user", "Q?"), ("assistant", " ")),
        "empty conversation": talk("nothing"),
        "expected": talk("answers-first", ("assistant", "A"), ("user", "Q")),
        "special token": talk("token", ("user", "Q </s> A?"), ("assistant", "A")),
        "2 image markers": talk("markers", ("user", "<image> <image> Q"), ("assistant", "A")),
        "not in the corpus shard": record("gone", ("nowhere",), [("Q", "A")]),
        "image tokens do not fit": record("long", ("s0-0",) * 40, [("Q", "A")]),
    }
    world = write_world(tmp_path, spoil=spoil, extra=tuple(bad.values()))
    cfg = make_config(data=[world], steps=None, epochs=1, holdout=None)
    done = launch(cfg)
    rejects = [json.loads(line) for line in (Path(cfg.output) / "rejects.jsonl").read_text().splitlines()]
    stored = 3 * (12 + 2) + len(bad)
    assert done["used"] + done["rejected"] == stored
    assert done["rejected"] == len(rejects) == len(bad) + 6
    reasons = {reject["row"]: reject["reason"] for reject in rejects}
    for words, row in bad.items():
        assert words in reasons[row.id], (row.id, reasons[row.id])
    for image, words in (("s0-1", "cannot decode"), ("s1-2", "no image bytes"), ("s2-0", "cannot decode")):
        assert words in reasons[f"{image}-color"]
    assert all(reject["dataset"] == world["instructions"] for reject in rejects)


def test_a_data_set_with_parts_of_another_schema(make_config: Any, tmp_path: Path) -> None:
    world = write_world(tmp_path)
    part = sorted(Path(world["instructions"]).rglob("*.parquet"))[0]
    pq.write_table(pa.table({"prompt": ["Q"], "completion": ["A"]}), part)
    with pytest.raises(UserError, match=rf"{part.name}|shard 0") as error:
        launch(make_config(data=[world]))
    assert world["instructions"] in str(error.value)


def test_a_tokenizer_without_a_chat_template(make_config: Any, small_model: Any, tmp_path: Path) -> None:
    folder = saved(small_model, tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").unlink()
    with pytest.raises(UserError, match="chat template") as error:
        launch(make_config(model=folder, shape=None))
    assert "chat" in str(error.value) and "vicuna" in str(error.value), "the way out"
    assert (
        launch(make_config(model=folder, shape=None, chat="starter", output=str(tmp_path / "ok")))["steps"]
        == 4
    )


def test_a_processor_that_disagrees_about_image_tokens(
    make_config: Any, small_model: Any, tmp_path: Path
) -> None:
    folder = saved(small_model, tmp_path / "model")
    place = tmp_path / "model/processor_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "patch_size": 8}))
    with pytest.raises(
        UserError, match="makes 16 features of a picture and its processor writes 64 image tokens"
    ):
        launch(make_config(model=folder, shape=None))


def test_a_layout_whose_end_is_no_token_of_the_model(
    make_config: Any, small_model: Any, tmp_path: Path
) -> None:
    folder = saved(small_model, tmp_path / "model")
    with pytest.raises(UserError, match=r"<\|im_end\|>"):
        launch(make_config(model=folder, shape=None, chat="chatml"))


def test_a_run_of_a_version_with_other_settings(make_config: Any) -> None:
    cfg: TrainConfig = make_config()
    prepare(cfg)
    place = Path(cfg.output) / "config.yaml"
    place.write_text(place.read_text() + "warp_drive: 9\n")
    with pytest.raises(UserError, match="warp_drive"):
        prepare(cfg)


def test_no_such_model(make_config: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model folder"):
        start_model(make_config(model=str(tmp_path / "nowhere"), shape=None))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 1}, "exactly one of steps and epochs"),
        ({"shape": None}, "give model"),
        ({"microbatch_tokens": 100}, "below max_length"),
        ({"workers": (3, 2)}, "least, most"),
        ({"parallel": "fsdp"}, "give workers"),
        ({"checkpoint": {"keep_best": 1}}, "give holdout"),
    ],
)
def test_settings_that_contradict_each_other(make_config: Any, settings: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_config(**settings)
