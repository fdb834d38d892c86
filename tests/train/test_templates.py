"""Mining and matching of task templates."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from train.templates import TemplateSet, fold, load_list, mine, sentences


def test_sentences_end_at_marks_and_lines() -> None:
    text = "<image>\nIs it 0.5? Look:  a, b.\nAnswer\tshortly!"
    assert sentences(text) == ["Is it 0.5?", "Look:", "a, b.", "Answer shortly!"]


def test_mining_counts_turns_once() -> None:
    rows = [[f"Question {i}? Answer shortly. Answer shortly."] for i in range(8)] + [
        ["Rare. Question 1?"]
    ] * 2
    found = mine(rows, min_share=0.3)
    assert found.counts == (("Answer shortly.", 8), ("Question 1?", 3))
    assert found.turns == 10
    assert mine(rows, min_share=0.3, top_k=1).counts == (("Answer shortly.", 8),)
    assert mine(rows, min_share=0.3, max_rows=4).turns == 4


def test_rare_sentences_are_no_templates_in_small_data() -> None:
    assert mine([["Only once. Only twice."], ["Only twice."]], min_share=0.0).counts == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Say. Do it now.", ["Do it now."]),
        ("Do  it\nnow.", ["Do  it\nnow."]),
        ("Redo it now.", []),
        ("Go:Do it now. Do it now.", ["Do it now.", "Do it now."]),
        ("Do it now. Or else.", ["Do it now. Or else."]),
        ("Don’t.", ["Don’t."]),
    ],
)
def test_matching(text: str, found: list[str]) -> None:
    templates = TemplateSet(counts=(("Do it now.", 5), ("Do it now. Or else.", 3), ("Don't.", 2)))
    assert [text[a:b] for a, b in templates.find(text)] == found


@given(st.text())
def test_folding_keeps_positions(text: str) -> None:
    assert len(fold(text)) == len(text)


def test_json_round_trip_and_hash() -> None:
    templates = mine([["Answer."]] * 5, min_share=0.1)
    again = TemplateSet.from_json(templates.to_json())
    assert again == templates
    assert again.sha256 != TemplateSet().sha256


def test_lists_of_the_paper() -> None:
    assert len(load_list("mix665k").counts) == 10
    assert len(load_list("next").counts) >= 70


def test_unknown_list_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mix665k"):
        load_list("mix999k")
    (tmp_path / "bad.yaml").write_text("templates: [1]")
    with pytest.raises(UserError, match="list of sentences"):
        load_list(str(tmp_path / "bad.yaml"))
