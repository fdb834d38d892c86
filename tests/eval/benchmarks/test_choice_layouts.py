"""ScienceQA, MMMU, MMStar, AI2D: options, letters, no picture or several."""

from __future__ import annotations

from pathlib import Path

from tests.eval.benchmarks.layouts import Made, as_json, cell, parquet, picture

LETTER = "\nAnswer with the option's letter from the given choices directly."


def test_scienceqa_with_and_without_picture(tmp_path: Path) -> None:
    row = {"question": "Which is north?", "choices": ["Maine", "Ohio"], "answer": 1, "hint": "",
           "task": "closed choice", "grade": "grade2", "subject": "social science",
           "topic": "geography", "category": "Geography", "skill": "", "lecture": "", "solution": ""}  # fmt: skip
    rows = [{**row, "image": cell()}, {**row, "image": None, "hint": "A hint."}]
    parquet(tmp_path / "hub/ScienceQA-FULL/test-00000-of-00001.parquet", rows)
    made = Made("scienceqa", tmp_path / "hub")
    [shown] = made.samples("scienceqa_img")
    assert shown.sample.question == "Which is north?\nA. Maine\nB. Ohio" + LETTER
    assert shown.sample.golds == ("B",) and shown.sample.meta["image"] is True
    both = made.samples("scienceqa")
    assert len(both) == 2 and both[1].image is None and both[1].error == "" and both[1].image_sha == ""
    assert both[1].sample.question.startswith("Context: A hint.\nWhich")
    assert both[1].sample.image_id == both[1].sample.id
    as_json(tmp_path / "own/problems.json", {
        "1": {**row, "image": "image.png", "split": "test"}, "2": {**row, "image": None, "split": "test"},
        "3": {**row, "image": None, "split": "train"},
    })  # fmt: skip
    picture(tmp_path / "own/test/1/image.png")
    made = Made("scienceqa", tmp_path / "own")
    assert made.counts.gold_counts == {"accepted": 2} and made.pictures == ["test/1/image.png"]


def mmmu_row(number: int, images: int, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": f"validation_Art_Theory_{number}", "question": "Which <image 1>?", "options": "['one', \"it's two\"]",
        "explanation": "", "img_type": "['Diagrams']", "answer": "B", "topic_difficulty": "Easy",
        "question_type": "multiple-choice", "subfield": "Art",
    }  # fmt: skip
    row |= {
        f"image_{n}": cell(10 * number + n, size=(20 * n, 10 + n)) if n <= images else None
        for n in range(1, 8)
    }
    return row | changes


def test_mmmu_has_several_pictures_and_open_questions(tmp_path: Path) -> None:
    rows = [
        mmmu_row(1, 1), mmmu_row(2, 3), mmmu_row(3, 1, options="[]", answer="['12', 'twelve']", question_type="open"),
        mmmu_row(4, 1, answer="?"), mmmu_row(5, 0), mmmu_row(6, 1, options="__import__('os')"), mmmu_row(1, 1),
    ]  # fmt: skip
    parquet(tmp_path / "hub/Art_Theory/validation-00000-of-00001.parquet", rows)
    parquet(tmp_path / "hub/Art_Theory/dev-00000-of-00001.parquet", rows)
    made = Made("mmmu", tmp_path / "hub")
    one, three, opened = made.samples("mmmu")
    assert one.sample.question == "Which <image 1>?\n(A) one\n(B) it's two" + LETTER
    assert one.sample.category == "Art_Theory" and one.sample.golds == ("B",)
    assert three.image is not None and three.image.size == (20 + 40 + 60 + 16, 13)
    assert len(three.sample.image_ids) == 3 and three.image_sha not in (one.image_sha, "")
    assert opened.sample.golds == ("12", "twelve") and opened.sample.question.endswith(
        "single word or phrase."
    )
    assert sorted(made.rejects.values()) == ["duplicate_id", "malformed", "no_answer", "no_image"]


def test_mmstar(tmp_path: Path) -> None:
    row = {"index": 0, "question": "Which?\nOptions: A: x, B: y", "image": cell()["bytes"], "answer": "A",
           "category": "math", "l2_category": "geometry", "meta_info": {"source": "MMMU", "split": "val",
           "image_path": "/etc/passwd"}}  # fmt: skip
    parquet(tmp_path / "hub/mmstar.parquet", [row, {**row, "index": 1, "answer": "AB"}])
    made = Made("mmstar", tmp_path / "hub")
    [item] = made.samples("mmstar")
    assert item.sample.golds == ("A",) and item.sample.category == "geometry" and item.image is not None
    assert item.sample.question.endswith("given choices directly")


def test_ai2d_both_layouts(tmp_path: Path) -> None:
    row = {
        "question": "What feeds?",
        "options": ["fox", "owl", "hare", "elk"],
        "answer": "2",
        "image": cell(),
    }
    parquet(tmp_path / "hub/test-00000-of-00001.parquet", [row, {**row, "answer": "7"}])
    made = Made("ai2d", tmp_path / "hub")
    [item] = made.samples("ai2d")
    assert item.sample.golds == ("C",) and "\nC. hare\nD. elk" in item.sample.question
    assert list(made.rejects.values()) == ["malformed"]
    facts = {"abcLabel": False, "answerTexts": ["fox", "owl"], "correctAnswer": 0, "questionId": "1.png-0"}
    as_json(
        tmp_path / "own/questions/1.png.json", {"imageName": "1.png", "questions": {"What feeds?": facts}}
    )
    picture(tmp_path / "own/images/1.png")
    [item] = Made("ai2d", tmp_path / "own").samples("ai2d")
    assert item.sample.golds == ("A",) and item.image is not None
