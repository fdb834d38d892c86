"""Round trips: what the tools of each format read is what the records say, and images are equal to the byte."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datagen.exporters import cli
from datagen.exporters.samples import safe_name
from datagen.records import Record
from tests.datagen.curate.conftest import image, publish, record
from tests.datagen.exporters.conftest import JPEG, ODD_IDS, OTHER, PNG, rows

EXPORTABLE = [
    "one",
    "two",
    "many",
    "text",
    "talk",
    "marker",
    "system",
    "kept",
    *(f"odd-{n}" for n in range(5)),
]
BYTES = {"pic/1": JPEG, "plain": PNG, **dict.fromkeys(ODD_IDS, OTHER)}


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def by_id() -> dict[str, Record]:
    return {row.id: row for shard in rows() for row in shard}


def messages(record: Record) -> list[dict[str, str]]:
    return [{"role": t.role, "content": t.text} for t in record.conversation]


def test_llava(instructions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "llava"
    assert cli.main(["llava", instructions, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "11 rows with 7 images" in said and "1  a system turn, which LLaVA's format does not have" in said
    found = {row["id"]: row for row in json.loads((out / "train.json").read_text())}
    records = by_id()
    assert list(found) == [name for name in EXPORTABLE if name not in ("marker", "system")]
    for name, row in found.items():
        paths = row.get("image", [])
        paths = [paths] if isinstance(paths, str) else paths
        for image_id, path in zip(records[name].image_ids, paths, strict=True):
            place = (out / "images" / path).resolve()
            assert place.is_relative_to(out / "images") and place.read_bytes() == BYTES[image_id]
        first, rest = row["conversations"][0], row["conversations"][1:]
        text = "<image>\n" * len(paths) + records[name].question
        assert first == {"from": "human", "value": text}
        back = [
            {"role": {"human": "user", "gpt": "assistant"}[t["from"]], "content": t["value"]} for t in rest
        ]
        assert back == messages(records[name])[1:]
        assert tuple(row["image_ids"]) == records[name].image_ids
    assert len(list((out / "images").rglob("*.*"))) == 7, "each image once, unused and broken ones not at all"
    listed = [json.loads(line) for line in (out / "unexported-train.jsonl").read_text().splitlines()]
    assert {row["id"] for row in listed} == {"gone", "broken", "marker", "system", "half"}
    reasons = {row["id"]: row["reason"] for row in listed}
    assert reasons["gone"] == "image missing: not in shard 0 of the corpus"
    assert reasons["half"] == "the last question has no answer"


def loads_in_llava(rows_: list[dict], folder: Path) -> None:
    """The steps of LLaVA's LazySupervisedDataset that fail on wrong data."""
    roles = {"human": "USER", "gpt": "ASSISTANT"}
    for row in rows_:
        said = row["conversations"]
        assert [roles[t["from"]] for t in said] == ["USER", "ASSISTANT"] * (len(said) // 2)
        markers = sum(t["value"].count("<image>") for t in said)
        paths = [row["image"]] if isinstance(row.get("image"), str) else row.get("image", [])
        assert markers == len(paths)
        for path in paths:
            Image.open(folder / path).convert("RGB")


def test_llava_trains(instructions: str, tmp_path: Path) -> None:
    out = tmp_path / "llava"
    cli.main(["llava", instructions, "--out", str(out)])
    loads_in_llava(json.loads((out / "train.json").read_text()), out / "images")


@pytest.mark.parametrize("states", ["accepted,kept_original", "kept_original"])
def test_huggingface(instructions: str, tmp_path: Path, states: str) -> None:
    out = tmp_path / "hub"
    options = ["--states", states]
    cli.main(["huggingface", instructions, "--out", str(out), *options])
    found = datasets.load_dataset(str(out))
    assert set(found) == {"train"}
    raw = found["train"].cast_column("images", datasets.List(datasets.Image(decode=False)))
    records = by_id()
    assert raw["id"] == (EXPORTABLE if states.startswith("accepted") else ["kept"])
    for row, shown in zip(raw, found["train"], strict=True):
        record = records[row["id"]]
        assert row["messages"] == messages(record)
        assert [i["bytes"] for i in row["images"]] == [BYTES[i] for i in record.image_ids]
        assert all(isinstance(i, Image.Image) for i in shown["images"])
        assert (row["kind"], row["format"], row["state"]) == (record.kind, record.format, record.state)
        assert (tuple(row["options"]), row["answer_index"]) == (record.options, record.answer_index)
        assert [(s["name"], s["value"]) for s in row["scores"]] == list(record.scores)
        assert tuple(row["image_ids"]) == record.image_ids


def test_huggingface_with_one_picture_a_row(tmp_path: Path) -> None:
    rows_ = [record(f"r{n}", ["a"] if n % 2 else []) for n in range(2500)]
    uri = publish(tmp_path, "single", [[image("a", PNG)]], [rows_])
    out = tmp_path / "hub"
    cli.main(["huggingface", uri, "--out", str(out)])
    found = datasets.load_dataset(str(out), split="train")
    assert found.features["image"] == datasets.Image()
    assert found[0]["image"] is None and found[1]["image"].size == (96, 72)
    file = pq.ParquetFile(next((out / "data").glob("*.parquet")))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [1000, 1000, 500]
    streamed = datasets.load_dataset(str(out), split="train", streaming=True)
    assert sum(1 for _ in streamed) == 2500


def test_webdataset(instructions: str, tmp_path: Path) -> None:
    out = tmp_path / "wds"
    cli.main(["webdataset", instructions, "--out", str(out)])
    tar = out / "train-000000.tar"
    records = by_id()
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    texts = [json.loads(sample["json"]) for sample in samples]
    assert [text["id"] for text in texts] == EXPORTABLE
    for sample, text in zip(samples, texts, strict=True):
        record = records[text["id"]]
        pictures = [sample[key] for key in sorted(k for k in sample if k.rsplit(".")[-1] in ("jpg", "png"))]
        assert pictures == [BYTES[image] for image in record.image_ids]
        assert text["messages"] == messages(record)
    again = tmp_path / "again"
    cli.main(["webdataset", instructions, "--out", str(again)])
    assert (again / "train-000000.tar").read_bytes() == tar.read_bytes()
    with tarfile.open(tar) as file:
        assert all(m.isfile() and m.mtime == 0 and "/" not in m.name for m in file)


def test_webdataset_in_datasets(tmp_path: Path) -> None:
    """`datasets` takes tars whose samples all have the same kinds of files, and only those."""
    uri = publish(tmp_path, "single", [[image("a", PNG)]], [[record(f"r{n}", ["a"]) for n in range(3)]])
    cli.main(["webdataset", uri, "--out", str(tmp_path / "wds")])
    loaded = list(datasets.load_dataset(str(tmp_path / "wds"), split="train", streaming=True))
    assert [row["json"]["id"] for row in loaded] == ["r0", "r1", "r2"]
    assert all(row["png"].size == (96, 72) for row in loaded)


def test_the_card(instructions: str, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    cli.main(["huggingface", instructions, "--out", str(out), "--license", "cc-by-4.0"])
    cli.main(["huggingface", instructions, "--out", str(out), "--license", "cc-by-4.0", "--split", "test"])
    _, front, text = (out / "README.md").read_text().split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "cc-by-4.0" and values["size_categories"] == ["n<1K"]
    assert [f["split"] for f in values["configs"][0]["data_files"]] == ["test", "train"]
    assert "rejected:unverified | 1" in text and "corpus `mix`, 9 rows" in text
    assert str(tmp_path) not in text
    both = datasets.load_dataset(str(out))
    assert both["train"]["id"] == both["test"]["id"] == EXPORTABLE


@given(st.text(max_size=120))
def test_safe_names(name: str) -> None:
    safe = safe_name(name)
    assert safe.isascii() and safe.replace("-", "").replace("_", "").isalnum() and len(safe) <= 100
    assert Path(safe).name == safe and not safe.startswith((".", "-"))


@given(st.lists(st.text(alphabet="aA/.-_0ü", max_size=6), unique=True, max_size=8))
def test_different_images_have_different_names(names: list[str]) -> None:
    assert len({safe_name(name) for name in names}) == len(names)


def test_a_name_cannot_be_taken_by_another_image() -> None:
    stolen = safe_name("a/b")
    assert safe_name(stolen) != stolen


def test_headers_decide_about_endings(instructions: str, tmp_path: Path) -> None:
    out = tmp_path / "llava"
    cli.main(["llava", instructions, "--out", str(out)])
    for place in (out / "images").rglob("*.*"):
        kind = Image.open(io.BytesIO(place.read_bytes())).format
        assert place.suffix == {"JPEG": ".jpg", "PNG": ".png"}[kind or ""]
