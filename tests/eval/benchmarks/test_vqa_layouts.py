"""VQAv2, TextVQA, VizWiz, GQA: ten answers, joins of files, pictures by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import UserError
from tests.eval.benchmarks.layouts import Made, as_json, cell, drawn, parquet, picture

WORD = "\nAnswer the question using a single word or phrase."
TEN = ["yes"] * 7 + ["no"] * 3


def vqa_answers(words: list[str]) -> list[dict[str, object]]:
    return [{"answer": w, "answer_confidence": "yes", "answer_id": i} for i, w in enumerate(words, 1)]


def test_vqav2_parquet(tmp_path: Path) -> None:
    rows = [
        {
            "question_type": "is the", "multiple_choice_answer": "yes", "answers": vqa_answers(TEN), "image_id": n // 2,
            "answer_type": "yes/no", "question_id": 1000 + n, "question": f"Is it {n}?", "image": cell(n // 2),
        }
        for n in range(4)
    ]  # fmt: skip
    parquet(tmp_path / "src/data/validation-00000-of-00002.parquet", rows[:3])
    parquet(tmp_path / "src/data/validation-00001-of-00002.parquet", rows[3:])
    parquet(tmp_path / "src/data/testdev-00000-of-00001.parquet", rows[:1])
    made = Made("vqav2", tmp_path / "src")
    assert len(made.pictures) == 2 and made.counts.gold_counts == {"accepted": 4}
    items = made.samples("vqav2")
    assert [p.sample.question for p in items] == [f"Is it {n}?{WORD}" for n in range(4)]
    assert all(p.sample.golds == tuple(TEN) and p.image is not None for p in items)
    assert items[0].image_sha == items[1].image_sha != items[2].image_sha
    assert items[0].sample.category == "yes/no"


def test_vqav2_official_pair(tmp_path: Path) -> None:
    source = tmp_path / "src"
    as_json(source / "v2_OpenEnded_mscoco_val2014_questions.json", {
        "info": {"year": 2017}, "data_subtype": "val2014", "license": {"name": "x"},
        "questions": [{"image_id": 42, "question": "What?", "question_id": 42000}, {"image_id": 73, "question": "Who?",
                      "question_id": 73000}],
    })  # fmt: skip
    as_json(source / "v2_mscoco_val2014_annotations.json", {
        "annotations": [{"question_id": 42000, "image_id": 42, "answer_type": "other", "question_type": "what",
                         "multiple_choice_answer": "a dog", "answers": vqa_answers(["dog"] * 10)}],
    })  # fmt: skip
    picture(source / "val2014/COCO_val2014_000000000042.jpg")
    made = Made("vqav2", source)
    [item] = made.samples("vqav2")
    assert item.sample.golds == ("dog",) * 10 and item.image is not None
    assert list(made.rejects.values()) == ["no_answer"]


def test_textvqa_both_layouts(tmp_path: Path) -> None:
    row = {
        "image_id": "abc",
        "question_id": 34602,
        "question": "what does this NASA sign say?",
        "answers": ["nous"] * 10,
    }
    parquet(tmp_path / "hub/validation-00000.parquet", [{**row, "image": cell(), "ocr_tokens": ["NOUS"]}])
    as_json(tmp_path / "own/TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": [row]})
    picture(tmp_path / "own/train_images/abc.jpg")
    hub, own = Made("textvqa", tmp_path / "hub"), Made("textvqa", tmp_path / "own")
    for made in (hub, own):
        [item] = made.samples("textvqa")
        assert item.sample.question == "what does this NASA sign say?" + WORD
        assert item.sample.golds == ("nous",) * 10 and item.error == ""
    assert own.pictures == ["abc.jpg"] or own.pictures == ["train_images/abc.jpg"]


def test_vizwiz_both_layouts(tmp_path: Path) -> None:
    own = {"image": "VizWiz_val_00000000.jpg", "question": "Ok. There is another picture?", "answerable": 0,
           "answers": vqa_answers(["unanswerable"] * 10), "answer_type": "unanswerable"}  # fmt: skip
    as_json(tmp_path / "own/val.json", [own])
    picture(tmp_path / "own/val/VizWiz_val_00000000.jpg")
    parquet(tmp_path / "hub/val-00000-of-00001.parquet", [
        {"question_id": own["image"], "image": cell(), "question": own["question"], "answers": ["unanswerable"] * 10,
         "category": "unanswerable"}
    ])  # fmt: skip
    for folder in ("own", "hub"):
        [item] = Made("vizwiz", tmp_path / folder).samples("vizwiz")
        assert "respond with 'Unanswerable'.\nAnswer the question" in item.sample.question
        assert len(item.sample.golds) == 10 and item.sample.category == "unanswerable"


def test_gqa_joins_its_pictures(tmp_path: Path) -> None:
    source = tmp_path / "hub"
    parquet(
        source / "testdev_balanced_images/testdev-00000.parquet",
        [{"id": f"n{n}", "image": cell(n)} for n in (1, 2)],
    )
    parquet(source / "testdev_balanced_instructions/testdev-00000.parquet", [
        {"id": f"20{n}", "imageId": "n1", "question": "Is it?", "answer": "no", "fullAnswer": "No."} for n in range(3)
    ])  # fmt: skip
    made = Made("gqa", source)
    assert len(made.pictures) == 1 and len(made.samples("gqa")) == 3
    own = tmp_path / "own"
    as_json(own / "testdev_balanced_questions.json", {
        "201": {"imageId": "n1", "question": "Is it?", "answer": "no"},
        "202": {"imageId": "n2", "question": "Is it red?", "answer": "yes"},
    })  # fmt: skip
    picture(own / "images/n1.jpg")
    made = Made("gqa", own)
    assert [p.sample.id for p in made.samples("gqa")] == ["gqa:201"]
    assert list(made.rejects.values()) == ["image:missing_file"]


def test_a_wrong_root_or_split_is_said_at_once(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "question": "?", "answers": ["x"] * 10}
    as_json(tmp_path / "own/val.json", [row])
    with pytest.raises(UserError, match=r"none of 1 pictures looked for is under .*'a.jpg'.*--images"):
        Made("vizwiz", tmp_path / "own")
    parquet(tmp_path / "hub/data/test-00000-of-00001.parquet", [{"question": "?", "image": cell()}])
    with pytest.raises(UserError, match="no file of split 'val'; splits named by files there: test"):
        Made("textvqa", tmp_path / "hub")
    with pytest.raises(UserError, match=r"none of 1 rows can be used \(1 malformed\)"):
        Made("textvqa", tmp_path / "hub", split="test")
    with pytest.raises(UserError, match="no such file or folder"):
        Made("textvqa", tmp_path / "nowhere")


def test_paths_of_rows_lead_nowhere(tmp_path: Path) -> None:
    source = tmp_path / "own"
    (tmp_path / "secret.jpg").write_bytes(drawn())
    names = [
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "http://host/x.jpg",
        "link.jpg",
        "a.jpg",
        "folder",
    ]
    as_json(source / "val.json", [{"image": n, "question": "?", "answers": ["x"] * 10} for n in names])
    picture(source / "a.jpg")
    (source / "folder").mkdir()
    (source / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    made = Made("vizwiz", source)
    assert [p.sample.id for p in made.samples("vizwiz")] == ["vizwiz:a.jpg"]
    assert sorted(made.rejects.values()) == [
        "image:not_a_file", "image:outside_root", "outside_root", "outside_root", "outside_root",
    ]  # fmt: skip
