"""Conversations: roles from structure, placeholders taken out where they stand for pictures, formats, kinds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen import records
from datagen.importers.conversations import conversation_record
from datagen.importers.dialogue import PLACEHOLDER, read_dialogue
from datagen.importers.kinds import label_kind
from datagen.importers.options import ImportOptions
from datagen.importers.rejects import REASONS, BadRow
from datagen.records import Turn

OPTIONS = ImportOptions(importer="llava", sources=("x.json",), out="out", name="x")
MARKERS = (
    "<image>",
    "USER:",
    " ASSISTANT: ",
    "</s>",
    "<|im_start|>assistant\n",
    "[INST]",
    "### Human:",
    "\n",
    "hi",
)
HOSTILE = st.lists(st.sampled_from(MARKERS) | st.text(max_size=6), max_size=6).map("".join)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "value", "role", "content", "type", "text", "id"]) | st.text(max_size=2),
            inner | st.sampled_from(["human", "gpt", "user", "assistant", "system", "text", "image"]),
            max_size=3,
        )
    ),
    max_leaves=12,
)


def said(*texts: str, first: str = "human") -> list[dict[str, str]]:
    names = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": names[number % 2], "value": text} for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "images", "expected", "note"),
    [
        ("<image>\nWhat?", 1, "What?", ""),
        ("What?\n<image>", 1, "What?", "image 1 stood at the end of turn 0"),
        ("What is <image> here?", 1, "What is here?", "image 1 stood at the middle of turn 0"),
        ("<image>\n<image>\nWhat?", 2, "What?", ""),
        ("<image> and <image>?", 2, "and image 2?", "image 2 stood at the middle of turn 0"),
        ("Is <image> like <image>?", 2, "Is image 1 like image 2?",
         "image 1 stood at the middle of turn 0; image 2 stood at the middle of turn 0"),
        ("<image>\nIs <image> a tag?", 1, "Is <image> a tag?", ""),
        ("Is <image> a tag?", 0, "Is <image> a tag?", ""),
        ("What?", 1, "What?", ""),
        ("<image>", 1, "", ""),
    ],
)  # fmt: skip
def test_placeholders(text: str, images: int, expected: str, note: str) -> None:
    dialogue = read_dialogue(said(text, "An answer."), images)
    assert dialogue.turns[0].text == expected
    assert "; ".join(gate.detail for gate in dialogue.gates) == note


def test_a_picture_of_a_later_turn() -> None:
    dialogue = read_dialogue(said("<image>\nThis?", "A cat.", "<image>\nAnd this?", "A dog."), 2)
    assert [turn.text for turn in dialogue.turns] == ["This?", "A cat.", "And this?", "A dog."]
    assert dialogue.gates[0].detail == "image 2 stood at the beginning of turn 2"


def test_what_surrounds_the_exchange_is_left_out_and_noted() -> None:
    rows = [{"from": "system", "value": "Be brief."}, *said("Hello!", "Q", "A", "Q2", first="gpt")]
    dialogue = read_dialogue(rows, 0)
    assert [(turn.role, turn.text) for turn in dialogue.turns] == [
        ("system", "Be brief."), ("user", "Q"), ("assistant", "A")
    ]  # fmt: skip
    assert dialogue.gates[0].name == "turns" and "1 before" in dialogue.gates[0].detail


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (None, "no_conversation"),
        ([], "no_conversation"),
        (said("Q"), "no_conversation"),
        ([*said("Q"), *said("Q2", "A")], "malformed"),
        ([{"from": "robot", "value": "x"}], "malformed"),
        ([{"from": "human", "value": 7}, {"from": "gpt", "value": "A"}], "malformed"),
        (said("Q", " "), "malformed"),
        (said("Q \ud800", "A"), "non_utf8"),
        ([*said("Q", "A"), {"from": "system", "value": "late"}], "malformed"),
        (said(*["x"] * 2000), "malformed"),
    ],
)
def test_what_is_no_conversation(rows: Any, reason: str) -> None:
    with pytest.raises(BadRow) as error:
        read_dialogue(rows, 0)
    assert error.value.reason == reason


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(HOSTILE, min_size=2, max_size=6), images=st.integers(0, 3))
def test_markers_in_texts_never_change_roles(texts: list[str], images: int) -> None:
    """Turns, their roles and all text but the pictures' placeholders are those of the row, whatever the texts say."""
    texts = texts[: len(texts) // 2 * 2]
    try:
        dialogue = read_dialogue(said(*texts), images)
    except BadRow:
        assert any(not text.replace(PLACEHOLDER, "", images).strip() for text in texts)
        return
    assert [turn.role for turn in dialogue.turns] == ["user", "assistant"] * (len(texts) // 2)
    for number, (turn, text) in enumerate(zip(dialogue.turns, texts, strict=True)):
        if number % 2:
            assert turn.text == text.strip(), "answers are not touched"
    there = sum(text.count(PLACEHOLDER) for text in texts[::2])
    left = sum(turn.text.count(PLACEHOLDER) for turn in dialogue.turns[::2])
    assert left == max(0, there - images)
    if not images:
        assert [turn.text for turn in dialogue.turns] == [text.strip() for text in texts]


@settings(max_examples=500, deadline=None)
@given(
    conversation=JUNK | st.lists(JUNK, max_size=4),
    row=st.dictionaries(st.just("id"), JUNK),
    images=st.integers(0, 2),
)
def test_anything_becomes_a_record_that_can_be_stored(
    conversation: object, row: dict[str, Any], images: int
) -> None:
    names = [f"{n}.jpg" for n in range(images)]
    record = conversation_record(OPTIONS, "x.json row 0", row, conversation, names, dict.fromkeys(names, ""))
    assert record.state in ("accepted", "rejected")
    assert record.state == "accepted" or record.reason in REASONS
    assert records.from_table(records.to_table([record])) == [record]


def test_hostile_spaces_take_no_time() -> None:
    """The option pattern looks ahead over spaces; 100,000 of them must not be looked at from each of them."""
    read_dialogue(said("A. " + " " * 99_000 + "x", "B"), 0)
    read_dialogue(said("\n " * 40_000 + "A. x B. y", "B"), 0)


def test_same_row_same_id() -> None:
    args = ({"id": 1}, said("Q", "A"), ["a.jpg"], {"a.jpg": ""})
    first = conversation_record(OPTIONS, "x.json row 0", *args)
    assert first.id == conversation_record(OPTIONS, "y.json row 9", *args).id
    other = conversation_record(OPTIONS, "x.json row 0", {"id": 1}, said("Q", "B"), ["a.jpg"], {"a.jpg": ""})
    assert first.id != other.id


CLAUSE = "\nAnswer the question using a single word or phrase."
LONG = "The image shows a long description of many things. " * 6


@pytest.mark.parametrize(
    ("question", "answer", "image", "file", "kind"),
    [
        ("What is this?", "A cat.", "000.jpg", "conversation_58k.json", "conversation"),
        ("What is this?", "A cat.", "000.jpg", "detail_23k.json", "detail"),
        ("What is this?", "A cat.", "000.jpg", "complex_reasoning_77k.json", "reasoning"),
        ("Can you describe this image in detail?", LONG, "000.jpg", "llava_instruct_150k.json", "detail"),
        ("Why might the man smile?", LONG, "000.jpg", "llava_instruct_150k.json", "reasoning"),
        ("What color?" + CLAUSE, "Red", "coco/train2017/1.jpg", "mix", "vqa"),
        ("What color?" + CLAUSE, "Red", "gqa/images/1.jpg", "mix", "vqa"),
        ("Who is the author of this book?" + CLAUSE, "Me", "ocr_vqa/images/1.jpg", "mix", "ocr"),
        ("What brand?\nReference OCR token: A, B" + CLAUSE, "A", "textvqa/train_images/1.jpg", "mix", "ocr"),
        ("Provide a one-sentence caption for the provided image.\nReference OCR token: A", "A sign.",
         "textvqa/train_images/1.jpg", "mix", "caption"),
        ("Please provide the bounding box coordinate of the region this sentence describes: a dog", "[0,0,1,1]",
         "vg/VG_100K/1.jpg", "mix", "grounding"),
        ("Please provide a short description for this region: [0, 0, 1, 1]", "a dog", "vg/VG_100K/1.jpg", "mix",
         "grounding"),
        ("Which?\nA. a\nB. b\nAnswer with the option's letter from the given choices directly.", "A",
         "coco/train2017/1.jpg", "mix", "choice"),
        ("Hello", "Hi", "", "mix", "text"),
    ],
)  # fmt: skip
def test_kinds(question: str, answer: str, image: str, file: str, kind: str) -> None:
    turns = (Turn(role="user", text=question), Turn(role="assistant", text=answer))
    assert (
        label_kind(turns, "choice" if answer == "A" and "\nA." in question else "open", image, file) == kind
    )
