"""Mining and matching of task templates."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from train.mask.templates import TemplateSet, fold, load_list, sentences


def test_sentences_end_at_marks_and_lines() -> None:
    text = "<image>\nIs it 0.5? Look:  a, b.\nAnswer\tshortly!"
    assert sentences(text) == ["Is it 0.5?", "Look:", "a, b.", "Answer shortly!"]


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


WORDS = st.sampled_from(["a", "ab", "B", "is", "it.", "now:", "é", "’s", "“x”", "A_", "7"])
TEXTS = st.lists(st.sampled_from(["a", "ab", "B", "is", "it.", "now:", "é", "’s", "“x”", "_", "7", ".", "!", " ",
                                  "  ", "\n", "\u3000", "\u00a0 ", "\t"]), max_size=24).map("".join)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=4).map(" ".join), max_size=8), TEXTS)
def test_matching_is_that_of_one_pattern_of_all_templates(templates: list[str], text: str) -> None:
    spans = TemplateSet(counts=tuple((t, 1) for t in templates)).find(text)
    bodies = [r"\s+".join(map(re.escape, fold(t).split())) for t in sorted(templates, key=len, reverse=True)]
    pattern = rf"(?:^|(?<=[\s.?!:]))(?:{'|'.join(bodies)})(?!\w)"
    assert spans == ([m.span() for m in re.finditer(pattern, fold(text))] if templates else [])


def test_a_long_list_looks_at_few_places() -> None:
    # 20,000 templates that begin alike, which is what a mined list of a large set looks like; one regular expression
    # of them would not compile within this test.
    templates = TemplateSet(counts=tuple((f"What is the label of bar number {n}?", 1) for n in range(20_000)))
    text = "What is it? What is the label of bar number 19999? What is the label of bar number 20000? " * 100
    assert [text[a:b] for a, b in templates.find(text)] == ["What is the label of bar number 19999?"] * 100


def test_json_round_trip_and_hash() -> None:
    templates = TemplateSet(counts=(("Answer.", 5), ("“Süß”?", 4)), turns=7, source="mined")
    again = TemplateSet.from_json(templates.to_json())
    assert again == templates
    assert again.sha256 != TemplateSet().sha256
    assert TemplateSet.from_json(TemplateSet().to_json()) == TemplateSet()
    assert '{"text": "Answer.", "count": 5, "share": 0.71429}' in templates.to_json()


def test_a_stored_list_can_be_edited(tmp_path: Path) -> None:
    mined = TemplateSet(counts=(("Be short.", 5), ("What color is it?", 4)), turns=9, source="mined")
    place = tmp_path / "templates.json"
    place.write_text(mined.to_json())
    for name in (str(place), f"file://{place}"):
        assert load_list(name) == replace(mined, source=f"list:{name} (mined)")
    data = json.loads(mined.to_json())
    del data["templates"][1]
    data["templates"] += ["Look closely.", {"text": "Why?", "count": 2}]
    place.write_text(json.dumps(data))
    edited = load_list(str(place))
    assert edited.counts == (("Be short.", 5), ("Look closely.", 0), ("Why?", 2))
    assert edited.source == f"list:{place} (mined, edited)"
    stored = TemplateSet.from_json(edited.to_json())
    assert stored == edited, "what was stored again is not edited a second time"


def test_yaml_lists_may_hold_counts(tmp_path: Path) -> None:
    place = tmp_path / "own.yaml"
    place.write_text("templates:\n  - Be short.\n  - {text: 'Why?', count: 3, share: 0.5}\n")
    assert load_list(str(place)).counts == (("Be short.", 0), ("Why?", 3))
    place.write_text("templates: []")
    assert load_list(str(place)).counts == ()


@pytest.mark.parametrize("name", ["list.yaml", "list.json"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "expected a key `templates`"),
        ({"templates": None}, "templates is None; expected a list"),
        ({"templates": {"text": "a"}}, "expected a list of sentences"),
        ({"templates": ["a"], "tempaltes": []}, "unknown key 'tempaltes'; did you mean 'templates'"),
        ({"templates": ["a"], "min_share": 3}, "unknown key 'min_share'"),
        ({"templates": ["a", 1]}, "entry 2 of templates: text is 1; expected a sentence"),
        ({"templates": ["a", None]}, "entry 2 of templates: text is None"),
        ({"templates": ["a", " \n"]}, "entry 2 of templates: it has no text"),
        ({"templates": [{"txt": "a"}]}, "entry 1 of templates: unknown key 'txt'; did you mean 'text'"),
        ({"templates": [{"count": 1}]}, "entry 1 of templates: it has no text"),
        (
            {"templates": [{"text": "a", "count": "7"}]},
            "entry 1 of templates: count is '7'; expected a whole number",
        ),
        ({"templates": [{"text": "a", "count": True}]}, "entry 1 of templates: count is True"),
        ({"templates": [{"text": "a", "count": -1}]}, "entry 1 of templates: count is -1"),
        ({"templates": [{"text": "a", "share": "b"}]}, "entry 1 of templates: share is 'b'"),
    ],
)
def test_bad_lists_are_named_with_their_entry(tmp_path: Path, name: str, data: object, said: str) -> None:
    place = tmp_path / name
    place.write_text(json.dumps(data))
    with pytest.raises(UserError, match=re.escape(said)) as error:
        load_list(str(place))
    assert str(place) in str(error.value)


def test_unreadable_lists(tmp_path: Path) -> None:
    for name, data, said in [
        ("a.yaml", b"templates: [", "not readable as YAML"),
        ("a.json", b'{"templates": [}', "not readable as JSON"),
        ("b.yaml", b"\xff\xfe\x00", "not readable"),
        ("b.json", b"\xff\xfe\x00", "not readable"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=said):
            load_list(str(tmp_path / name))
    with pytest.raises(UserError):
        load_list(str(tmp_path))


def test_lists_of_the_paper() -> None:
    assert len(load_list("mix665k").counts) == 10
    assert len(load_list("next").counts) == 86
    for name in ("mix665k", "next"):
        texts = [text for text, _ in load_list(name).counts]
        assert len(set(texts)) == len(texts)
        assert all(fold(text) == " ".join(text.split()) and text[-1] in ".?:" for text in texts)
    ocr = "<image>\nProvide a one-sentence caption for the provided image.\nReference OCR token: A, B"
    assert [ocr[a:b].split()[-1] for a, b in load_list("mix665k").find(ocr)] == ["token:"]


def test_unknown_list_names_the_known() -> None:
    for name in ("mix999k", "/nowhere/templates.json"):
        with pytest.raises(UserError, match="mix665k"):
            load_list(name)
