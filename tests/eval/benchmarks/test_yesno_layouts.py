"""MME, POPE, HallusionBench, VSR."""

from __future__ import annotations

from pathlib import Path

from tests.eval.benchmarks.layouts import Made, as_json, cell, jsonl, parquet, picture


def test_mme_pairs_stay_together(tmp_path: Path) -> None:
    rows = [
        {"question_id": f"count/{n}.png", "image": cell(n), "question": f"Are there {k}? Please answer yes or no.",
         "answer": ("Yes", "No")[k], "category": "count"}
        for n in range(6) for k in range(2)
    ]  # fmt: skip
    parquet(tmp_path / "hub/data/test-00000-of-00001.parquet", rows)
    made = Made("mme", tmp_path / "hub", shard_images=2)
    assert made.counts.shards == 3 and len(made.pictures) == 6
    items = made.samples("mme", limit=4)
    assert len({p.sample.group for p in items}) == 2 and {p.sample.category for p in items} == {"count"}
    assert len(made.samples("mme")) == 12


def test_mme_official_folders(tmp_path: Path) -> None:
    source = tmp_path / "own"
    for name, deep in (("artwork", True), ("OCR", False)):
        texts = source / name / ("questions_answers_YN" if deep else "") / "0001.txt"
        texts.parent.mkdir(parents=True)
        texts.write_text("Is it? Please answer yes or no.\tYes\nIs it not?\tNo\nbroken line\n")
        picture(source / name / ("images" if deep else "") / "0001.jpg", number=deep)
    made = Made("mme", source)
    assert sorted(p.sample.group for p in made.samples("mme")) == ["OCR/0001"] * 2 + ["artwork/0001"] * 2
    assert {p.sample.golds for p in made.samples("mme")} == {("yes",), ("no",)}
    assert sorted(made.rejects.values()) == ["malformed", "malformed"] and len(made.pictures) == 2


def test_pope_parts(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "question_id": str(n), "question": "Is there a dog in the image?", "answer": "yes",
         "image_source": "COCO_val2014_000000310196", "image": cell(), "category": part}
        for n, part in enumerate(("adversarial", "popular", "random", "random"))
    ]  # fmt: skip
    parquet(tmp_path / "hub/data/test-00000-of-00003.parquet", rows)
    made = Made("pope", tmp_path / "hub")
    assert [len(made.samples(f"pope_{p}")) for p in ("random", "popular", "adversarial")] == [2, 1, 1]
    assert len(made.pictures) == 1
    source = tmp_path / "own"
    for part in ("random", "popular"):
        jsonl(source / f"coco_pope_{part}.json", [
            {"question_id": n, "image": "COCO_val2014_000000000042.jpg", "text": f"Is there a {n}?", "label": "no"}
            for n in (1, 2)
        ])  # fmt: skip
    jsonl(source / "other.json", [{"question_id": 1, "image": "x.jpg", "text": "?", "label": "no"}] * 2)
    picture(source / "val2014/COCO_val2014_000000000042.jpg")
    made = Made("pope", source)
    assert len(made.samples("pope_random")) == 2 and made.samples("pope_popular")[0].sample.golds == ("no",)
    assert list(made.rejects.values()) == ["wrong_split", "wrong_split"]


def hallusion_row(shown: str, figure: str, question: str = "0", **changes: object) -> dict[str, object]:
    return {
        "category": "VS", "subcategory": "chart", "visual_input": shown, "set_id": "1", "figure_id": figure,
        "sample_note": "", "question_id": question, "question": "Is A larger?", "gt_answer_details": "No.",
        "gt_answer": "0", "filename": None if shown == "0" else f"./VS/chart/1_{figure}.png", **changes,
    }  # fmt: skip


def test_hallusionbench_with_and_without_figure(tmp_path: Path) -> None:
    rows = [
        hallusion_row("0", "0"),
        hallusion_row("1", "1"),
        hallusion_row("1", "2"),
        hallusion_row("1", "3", gt_answer="5"),
    ]
    as_json(tmp_path / "own/HallusionBench.json", rows, indent=1)
    picture(tmp_path / "own/hallusion_bench/VS/chart/1_1.png")
    made = Made("hallusionbench", tmp_path / "own")
    none, one = made.samples("hallusionbench")
    assert none.image is None and not none.error and one.image is not None
    assert none.sample.group == one.sample.group and one.sample.meta["figure_id"] == "1"
    assert sorted(made.rejects.values()) == ["image:missing_file", "malformed"]
    hub = [
        {**hallusion_row("1", "1"), "image": cell()},
        hallusion_row("1", "2") | {"filename": None, "image": None},
    ]
    parquet(tmp_path / "hub/image-00000-of-00001.parquet", hub)
    made = Made("hallusionbench", tmp_path / "hub")
    assert len(made.samples("hallusionbench_words")) == 1 and list(made.rejects.values()) == ["no_image"]


def test_vsr(tmp_path: Path) -> None:
    row = {"image": "000000085637.jpg", "image_link": "http://host/000000085637.jpg", "relation": "on",
           "caption": "The cat is on the bed.", "label": 1, "subj": "cat", "obj": "bed", "annotator_id": 1}  # fmt: skip
    jsonl(
        tmp_path / "own/test.jsonl",
        [row, {**row, "label": 0}, {**row, "label": None}, {**row, "label": "maybe"}],
    )
    jsonl(tmp_path / "own/train.jsonl", [row])
    picture(tmp_path / "own/trainval2017/000000085637.jpg")
    made = Made("vsr", tmp_path / "own")
    assert [p.sample.golds for p in made.samples("vsr")] == [("True",), ("False",)]
    assert sorted(made.rejects.values()) == ["malformed", "no_answer"]
