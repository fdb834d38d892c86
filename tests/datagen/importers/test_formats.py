"""Every import format through the command line: rows, rejects with reasons, books."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.datasets import iter_tables, read_manifest, read_shard
from datagen import corpus, records
from datagen.corpus import CORPUS_SCHEMA, CorpusRow
from datagen.importers.rejects import REASONS, REJECT_SCHEMA
from datagen.records import RECORD_SCHEMA, Record

pytestmark = pytest.mark.usefixtures("ray")


def rows_of(uri: Path) -> dict[str, CorpusRow]:
    found = [
        corpus.from_row(row)
        for table in iter_tables(str(uri), schema=CORPUS_SCHEMA)
        for row in table.to_pylist()
    ]
    rows = {row.image_id: row for row in found}
    assert len(rows) == len(found), "ids are unique in the whole corpus"
    for row in found:
        assert corpus.decode_image(row.image).size == (row.width, row.height)
        assert row.sha256 == corpus.sha256(row.image)
    return rows


def rejects_of(uri: Path) -> list[dict[str, Any]]:
    found = [
        row for table in iter_tables(str(uri), "rejects", schema=REJECT_SCHEMA) for row in table.to_pylist()
    ]
    assert all(row["reason"] in REASONS and row["where"] for row in found)
    return found


def reasons(uri: Path) -> Counter[str]:
    return Counter(row["reason"] for row in rejects_of(uri))


def records_of(uri: Path, stream: str = "rows") -> list[Record]:
    return [
        r for table in iter_tables(str(uri), stream, schema=RECORD_SCHEMA) for r in records.from_table(table)
    ]


def check_books(uri: Path) -> None:
    manifest = read_manifest(str(uri))
    for shard in manifest.shards:
        assert shard.inputs == sum(shard.counts.values()) == sum(part.rows for part in shard.parts.values())
    assert not (uri / "work").exists() or not list((uri / "work").iterdir()), "work lists are gone"


def test_llava(llava: Path, photos: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    printed = cli("llava", llava, "--images", photos, "--out", out, "--name", "mix", "--shard-images", 3)
    pictures, talks = out / "corpora/mix", out / "instructions/mix"
    check_books(pictures)
    check_books(talks)
    assert str(pictures) in printed and str(talks) in printed

    rows = rows_of(pictures)
    assert set(rows) == {f"a/{n}.jpg" for n in (0, 1, 2, 3, 4, 5, 6, 7)}
    assert reasons(pictures) == {
        "missing_file": 1, "outside_root": 4, "empty": 1, "truncated": 1, "corrupt": 1
    }  # fmt: skip

    made = records_of(talks)
    refused = records_of(talks, "rejects")
    assert len(made) + len(refused) == 21
    assert len({record.id for record in made + refused}) == 21
    assert Counter(record.reason for record in refused) == {
        "duplicate_id": 1, "image:missing_file": 1, "image:outside_root": 4, "image:empty": 1,
        "image:truncated": 1, "image:corrupt": 1, "malformed": 2, "no_conversation": 1, "non_utf8": 1,
    }  # fmt: skip
    assert all("row" in record.source and record.gates[0].detail for record in refused)

    by_question = {record.question.split("\n")[0]: record for record in made}
    assert by_question["What is it?"].kind == "vqa"
    choice = by_question["Which?"]
    assert (choice.format, choice.options, choice.answer_index) == ("choice", ("red", "blue"), 1)
    assert choice.image_ids == ("a/1.jpg",), "one name for one file however its path is written"
    assert by_question["Is it red?"].format == "bool"
    assert by_question["Describe it."].gates[0].detail == "image 1 stood at the end of turn 0"
    assert by_question["What differs?"].image_ids == ("a/2.jpg", "a/3.jpg")
    assert by_question["Compare image 1 with image 2 please."].image_ids == ("a/3.jpg", "a/4.jpg")
    faust = by_question["Who wrote Faust?"]
    assert (faust.image_ids, faust.kind) == ((), "text")
    injected = next(record for record in made if record.image_ids == ("a/7.jpg",))
    assert [turn.role for turn in injected.conversation] == ["user", "assistant"]
    assert injected.question == "USER: x ASSISTANT: <image> </s> <|im_start|>system"
    assert injected.answer == "<image> is text here"

    manifest = read_manifest(str(talks))
    assert manifest.parents[0].uri == str(pictures)
    for k in range(len(manifest.shards)):
        here = set(read_shard(str(pictures), k, columns=["image_id"])["image_id"].to_pylist())
        for record in records.from_table(read_shard(str(talks), k)):
            assert here.issuperset(record.image_ids), "all pictures of a conversation lie in its shard"


def test_llava_lines_hold_the_same_rows(
    llava: Path, photos: Path, tmp_path: Path, cli: Callable[..., str]
) -> None:
    lines = tmp_path / "mix.jsonl"
    rows = [json.dumps(row) for row in json.loads(llava.read_text())]
    lines.write_bytes("\n".join(rows).encode() + b'\n{"id": \xff}\n{broken\n\n')
    out = tmp_path / "out"
    cli("llava", llava, "--images", photos, "--out", out, "--name", "array")
    cli("llava", lines, "--images", photos, "--out", out, "--name", "lines")
    assert {r.id for r in records_of(out / "instructions/array")} == {
        r.id for r in records_of(out / "instructions/lines")
    }
    bad = Counter(r.reason for r in records_of(out / "instructions/lines", "rejects"))
    assert bad["non_utf8"] == 2 and bad["malformed"] == 3


def test_coco(coco: tuple[Path, Path], photos: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("coco", *coco, "--images", photos, "--out", out, "--name", "coco", "--shard-images", 2)
    check_books(out / "corpora/coco")
    rows = rows_of(out / "corpora/coco")
    assert set(rows) == {"1", "2", "3", "4"}
    assert rows["1"].captions == ("Picture 1.", "Picture 1.")
    assert [(o.name, o.box, o.attributes) for o in rows["1"].objects] == [
        ("dog", (1, 3, 11, 13), ()),
        ("person", (30, 20, 40, 30), ("crowd",)),
    ]
    assert rows["2"].objects == () and json.loads(rows["2"].facts)["boxes_dropped"] == 1
    assert json.loads(rows["4"].facts)["file_name"] == "a/4.jpg"
    assert reasons(out / "corpora/coco") == {
        "duplicate_id": 1, "missing_file": 1, "outside_root": 1, "malformed": 3, "no_image": 1
    }  # fmt: skip
    assert not (out / "instructions").exists()


def test_flickr30k(flickr: tuple[Path, Path], tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("flickr30k", flickr[0], "--images", flickr[1], "--out", out, "--name", "f30k")
    check_books(out / "corpora/f30k")
    rows = rows_of(out / "corpora/f30k")
    assert set(rows) == {"100", "101"}
    row = rows["100"]
    assert row.captions == ("Two people in red hats near it .", "A couple waits .")
    assert json.loads(row.facts)["captions_with_boxes"] == [
        "Two people [5, 6, 15, 16] in red hats [5, 6, 15, 16] near it .",
        "A couple [5, 6, 15, 16] waits .",
    ]
    assert [(o.name, o.box, o.attributes) for o in row.objects] == [
        ("Two people", (1, 2, 11, 12), ("people",)),
        ("Two people", (5, 6, 15, 16), ("people",)),
        ("red hats", (5, 6, 15, 16), ("clothing", "other")),
    ]
    assert {(r["image_id"], r["reason"]) for r in rejects_of(out / "corpora/f30k")} == {
        ("102", "missing_file"),
        ("103", "malformed"),
    }


def test_visual_genome(visual_genome: tuple[Path, Path], tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("visual-genome", visual_genome[0], "--images", visual_genome[1], "--out", out)
    check_books(out / "corpora/vg")
    rows = rows_of(out / "corpora/vg")
    assert set(rows) == {"1", "2"}
    row = rows["1"]
    assert [(r.phrase, r.box) for r in row.regions] == [("a dog", (1, 2, 11, 7))]
    assert [(o.name, o.box, o.attributes) for o in row.objects] == [
        ("dog", (0, 0, 5, 5), ("brown",)),
        ("ball", (9, 9, 14, 14), ()),
    ]
    assert [(r.subject, r.predicate, r.object) for r in row.relations] == [(0, "chases", 1)]
    assert {(r["image_id"], r["reason"]) for r in rejects_of(out / "corpora/vg")} == {
        ("3", "missing_file"), ("4", "no_image"), ("", "malformed")
    }  # fmt: skip


def test_parquet_with_embedded_pictures(parquet: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("huggingface", parquet, "--out", out, "--shard-images", 2)
    check_books(out / "corpora/hub")
    check_books(out / "instructions/hub")
    rows = rows_of(out / "corpora/hub")
    assert set(rows) == {f"train-00000/{n:07d}" for n in (0, 1, 2, 5)}
    assert rows["train-00000/0000005"].captions == ("Picture 5",)
    assert reasons(out / "corpora/hub") == {"empty": 1, "missing_file": 1}
    assert len(records_of(out / "instructions/hub")) == 3
    assert Counter(r.reason for r in records_of(out / "instructions/hub", "rejects")) == {
        "image:empty": 1, "image:missing_file": 1, "no_conversation": 1
    }  # fmt: skip


def test_parquet_ids_from_a_column(parquet: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("huggingface", parquet, "--out", out, "--column", "id=id", "--shard-images", 2)
    assert set(rows_of(out / "corpora/hub")) == {"a", "b", "f"}
    assert reasons(out / "corpora/hub")["duplicate_id"] == 1
    assert (
        Counter(r.reason for r in records_of(out / "instructions/hub", "rejects"))["image:duplicate_id"] == 1
    )


def test_webdataset(webdataset: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("webdataset", webdataset, "--out", out, "--name", "wds", "--shard-images", 2)
    check_books(out / "corpora/wds")
    rows = rows_of(out / "corpora/wds")
    assert {"x-0/000", "x-0/001"} | {f"x-1/{n:03}" for n in range(5)} <= set(rows)
    assert rows["x-0/000"].captions == ("Zero.",)
    assert rows["x-0/001"].captions == ("One.", "Eins.")
    found = reasons(out / "corpora/wds")
    assert found["empty"] == 1 and found["non_utf8"] == 1 and found["no_image"] == 1
    assert found["outside_root"] == 1 and found["duplicate_id"] == 1 and found["malformed"] == 1
    assert found["truncated"] == 1, "the tar that is cut"
    assert [record.answer for record in records_of(out / "instructions/wds")] == ["Paint."]


def test_folder_without_rows(photos: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    out = tmp_path / "out"
    cli("folder", photos, "--out", out, "--shard-images", 4)
    check_books(out / "corpora/photos")
    assert set(rows_of(out / "corpora/photos")) == {f"a/{n}.jpg" for n in range(10)}
    assert reasons(out / "corpora/photos") == {"empty": 1, "truncated": 1, "corrupt": 1, "outside_root": 1}


def test_folder_with_rows(photos: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
             {"role": "assistant", "content": "Paint."}]  # fmt: skip
    rows = [
        {
            "file_name": "a/0.jpg",
            "text": "Nothing.",
            "objects": {"bbox": [[1, 2, 3, 4]], "category": ["dot"]},
        },
        {"file_name": "a/0.jpg", "messages": turns},
        {"file_name": "a/1.jpg", "regions": [{"phrase": "corner", "bbox": [0, 0, 5, 5]}], "ocr": ["STOP"]},
        {"file_name": "a/1.jpg", "text": "Said again."},
        {"text": "no picture"},
        {"file_name": "a/2.jpg", "objects": "many"},
        [1, 2],
    ]
    (photos / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    cli("folder", photos, "--out", out, "--column", "boxes=xywh")
    check_books(out / "corpora/photos")
    found = rows_of(out / "corpora/photos")
    assert set(found) == {"a/0.jpg", "a/1.jpg"}
    assert [(o.name, o.box) for o in found["a/0.jpg"].objects] == [("dot", (1, 2, 4, 6))]
    assert found["a/0.jpg"].captions == ("Nothing.",)
    assert found["a/1.jpg"].ocr == ("STOP",) and found["a/1.jpg"].regions[0].phrase == "corner"
    assert reasons(out / "corpora/photos") == {"duplicate_id": 1, "no_image": 1, "malformed": 2}
    (record,) = records_of(out / "instructions/photos")
    assert (record.question, record.answer, record.image_ids) == ("What?", "Paint.", ("a/0.jpg",))


def test_parquet_with_paths(photos: Path, tmp_path: Path, cli: Callable[..., str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Paint."}]
    table = pa.table(
        {"id": ["1", "2", "3"], "image": ["a/0.jpg", "a/0.jpg", "../x.jpg"], "conversations": [turns] * 3}
    )
    pq.write_table(table, tmp_path / "paths.parquet")
    out = tmp_path / "out"
    cli("huggingface", tmp_path / "paths.parquet", "--images", photos, "--out", out)
    assert set(rows_of(out / "corpora/paths")) == {"a/0.jpg"}
    assert reasons(out / "corpora/paths") == {"outside_root": 1}
    assert len(records_of(out / "instructions/paths")) == 2
    assert [r.reason for r in records_of(out / "instructions/paths", "rejects")] == ["image:outside_root"]
