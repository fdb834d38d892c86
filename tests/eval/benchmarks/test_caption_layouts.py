"""Captions, regions, CHAIR; ChartQA, DocVQA, OCRBench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.eval.benchmarks.layouts import Made, as_json, cell, jsonl, parquet, picture

FIVE = [f"a square number {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("task", "name", "row"),
    [
        ("coco2017", "val-0.parquet", {"question_id": "000000179765.jpg", "answer": FIVE, "id": 179765,
                                       "file_name": "000000179765.jpg", "coco_url": "http://host/x.jpg"}),
        ("flickr30k", "test-0.parquet", {"caption": FIVE, "img_id": "0", "sentids": ["0"], "filename": "1.jpg"}),
        ("nocaps", "validation-0.parquet", {"image_id": 0, "annotations_captions": FIVE, "image_domain": "in-domain",
                                            "image_coco_url": "http://host/x.jpg", "image_file_name": "x.jpg"}),
        ("textcaps", "val-0.parquet", {"image_id": "4be9", "caption_str": FIVE, "reference_strs": FIVE,
                                       "question": "?", "flickr_original_url": "http://host/x.jpg"}),
    ],
)  # fmt: skip
def test_captions_as_parquet(task: str, name: str, row: dict[str, object], tmp_path: Path) -> None:
    parquet(tmp_path / "hub/data" / name, [{**row, "image": cell()}, {**row, "image": cell(1)}])
    made = Made(task, tmp_path / "hub")
    [item] = made.samples(task)
    assert item.sample.golds == tuple(FIVE) and item.image is not None
    assert item.sample.question == "Provide a one-sentence caption for the provided image."
    assert list(made.rejects.values()) == ["duplicate_id"]


def coco(source: Path, year: int, instances: bool = False) -> None:
    images = [{"id": n, "file_name": f"{n:012d}.jpg" if year == 2017 else f"COCO_val2014_{n:012d}.jpg",
               "coco_url": "http://host/x.jpg", "height": 40, "width": 60} for n in (7, 8, 9)]  # fmt: skip
    captions = [
        {"image_id": n, "id": 10 * n + k, "caption": f"{FIVE[k]} of {n}"} for n in (7, 8) for k in range(5)
    ]
    as_json(source / f"annotations/captions_val{year}.json", {"images": images, "annotations": captions})
    if instances:
        marks = [{"image_id": 7, "category_id": c, "bbox": [0, 0, 5, 5], "id": c} for c in (1, 18, 18)]
        as_json(source / f"annotations/instances_val{year}.json", {
            "images": images, "annotations": marks,
            "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
        })  # fmt: skip
    for image in images:
        picture(source / f"val{year}" / str(image["file_name"]))


def test_coco_official(tmp_path: Path) -> None:
    coco(tmp_path / "own", 2017)
    made = Made("coco2017", tmp_path / "own")
    assert [p.sample.golds[0] for p in made.samples("coco2017")] == [f"{FIVE[0]} of 7", f"{FIVE[0]} of 8"]
    assert list(made.rejects.values()) == ["no_answer"]


def test_chair_knows_objects_and_captions(tmp_path: Path) -> None:
    coco(tmp_path / "own", 2014, instances=True)
    made = Made("chair", tmp_path / "own")
    [item] = made.samples("chair")
    assert item.sample.objects == ("dog", "person") and len(item.sample.golds) == 5
    assert sorted(made.rejects.values()) == ["no_answer", "no_answer"]


def test_karpathy_takes_the_test_split_only(tmp_path: Path) -> None:
    images = [
        {"filepath": "val2014", "filename": f"{n}.jpg", "imgid": n, "cocoid": n, "split": split,
         "sentences": [{"raw": "A dog.", "tokens": ["a", "dog"]}] * 5}
        for n, split in enumerate(("test", "train", "restval", "test"))
    ]  # fmt: skip
    as_json(tmp_path / "own/dataset_coco.json", {"images": images, "dataset": "coco"})
    for n in (0, 3):
        picture(tmp_path / f"own/val2014/{n}.jpg")
    made = Made("coco_karpathy", tmp_path / "own")
    assert made.counts.gold_counts == {"accepted": 2}
    assert made.samples("coco_karpathy")[0].sample.golds == ("A dog.",) * 5


def test_textcaps_official_has_a_row_for_each_caption(tmp_path: Path) -> None:
    rows = [
        {"image_id": "4be9", "caption_str": c, "reference_strs": FIVE, "image_path": "../x.jpg"} for c in FIVE
    ]
    as_json(tmp_path / "own/TextCaps_0.1_val.json", {"data": rows})
    picture(tmp_path / "own/train_images/4be9.jpg")
    [item] = Made("textcaps", tmp_path / "own").samples("textcaps")
    assert item.sample.golds == tuple(FIVE)


def test_refcoco_draws_the_box_and_asks_for_it(tmp_path: Path) -> None:
    row = {"question_id": "16", "image": cell(), "question": "?", "answer": ["the square", "blue one"],
           "segmentation": [0.0] * 8, "bbox": [10.0, 5.0, 30.0, 20.0], "iscrowd": 0,
           "file_name": "COCO_train2014_000000581857_16.jpg"}  # fmt: skip
    bad = [
        {**row, "question_id": "17", "bbox": [1.0, 1.0, 0.0, 4.0]},
        {**row, "question_id": "18", "answer": []},
    ]
    parquet(tmp_path / "hub/data/val-00000-of-00001.parquet", [row, *bad])
    made = Made("refcoco", tmp_path / "hub")
    [region] = made.samples("refcoco")
    assert region.sample.golds == ("the square", "blue one") and region.image is not None
    assert region.image.getpixel((10, 5)) == region.image.getpixel((40, 25)) == (255, 0, 0)
    assert region.image.getpixel((50, 30)) == (255, 255, 255)
    first, second = made.samples("refcoco_grounding")
    assert first.sample.question.endswith("this sentence describes: the square")
    assert json.loads(first.sample.golds[0]) == [round(10 / 60, 4), 0.125, round(40 / 60, 4), 0.625]
    assert first.image_sha == second.image_sha != region.image_sha
    assert sorted(made.rejects.values()) == ["malformed", "no_answer"]
    json_row = {k: v for k, v in row.items() if k != "image"}
    jsonl(tmp_path / "own/refcoco_val.jsonl", [json_row])
    picture(tmp_path / "own/train2014/COCO_train2014_000000581857.jpg")
    assert len(Made("refcoco_g", tmp_path / "own").samples("refcoco_g_grounding")) == 2


def test_chartqa_both_layouts(tmp_path: Path) -> None:
    rows = [
        {"type": f"{t}_test", "question": "How many?", "answer": "14", "image": cell()}
        for t in ("human", "augmented")
    ]
    parquet(tmp_path / "hub/test-00000-of-00001.parquet", [*rows, {**rows[0], "answer": None}])
    made = Made("chartqa", tmp_path / "hub")
    assert [p.sample.category for p in made.samples("chartqa")] == ["human", "augmented"]
    assert made.samples("chartqa")[0].sample.question == "How many?\nAnswer the question with a single word."
    for kind in ("human", "augmented"):
        as_json(
            tmp_path / f"own/test/test_{kind}.json",
            [{"imgname": "41.png", "query": "How many?", "label": "0.57"}],
        )
    picture(tmp_path / "own/test/png/41.png")
    made = Made("chartqa", tmp_path / "own")
    assert sorted(p.sample.category for p in made.samples("chartqa")) == ["augmented", "human"]
    assert made.samples("chartqa")[0].sample.golds == ("0.57",) and len(made.pictures) == 1


def test_docvqa_both_layouts(tmp_path: Path) -> None:
    row = {"questionId": 49153, "question": "What is the ‘actual’ value?", "question_types": ["figure/diagram"],
           "docId": 14465, "answers": ["0.28", "0.3"], "data_split": "val"}  # fmt: skip
    held_back = {**row, "questionId": 5, "answers": None}
    parquet(
        tmp_path / "hub/DocVQA/validation-00000.parquet",
        [{**row, "image": cell()}, {**held_back, "image": cell()}],
    )
    as_json(
        tmp_path / "own/val_v1.0.json",
        {"dataset_name": "docvqa", "data": [{**row, "image": "documents/a_1.png"}]},
    )
    picture(tmp_path / "own/documents/a_1.png")
    hub, own = Made("docvqa", tmp_path / "hub"), Made("docvqa", tmp_path / "own")
    for made in (hub, own):
        [item] = made.samples("docvqa")
        assert item.sample.golds == ("0.28", "0.3") and item.sample.category == "figure/diagram"
    assert list(hub.rejects.values()) == ["no_answer"]


def test_ocrbench_both_layouts(tmp_path: Path) -> None:
    row = {"dataset": "IIIT5K", "question": "what is written?", "question_type": "Regular Text Recognition"}
    parquet(tmp_path / "hub/test-00000.parquet", [{**row, "answer": ["CENTRE"], "image": cell()}])
    as_json(tmp_path / "own/OCRBench.json", [
        {"dataset_name": "IIIT5K", "type": row["question_type"], "id": 0, "image_path": "IIIT5K/1.png",
         "question": row["question"], "answers": "CENTRE"}
    ])  # fmt: skip
    picture(tmp_path / "own/OCRBench_Images/IIIT5K/1.png")
    for folder in ("hub", "own"):
        [item] = Made("ocrbench", tmp_path / folder).samples("ocrbench")
        assert item.sample.golds == ("CENTRE",) and item.sample.meta["dataset"] == "IIIT5K"
