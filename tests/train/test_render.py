"""Rendering: where images and system turns go, and that no text of the data can become a marker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.records import Turn
from train.mask.render import FORMATS, BadConversation, ChatFormat, Rendered, Span, render, text_of

VICUNA, CHATML = FORMATS["vicuna"], FORMATS["chatml"]
SPECIALS = ("</s>", "<s>", "<image>", "<|im_end|>", "<|im_start|>")


def talk(*texts: str) -> list[Turn]:
    return [Turn(role="assistant" if i % 2 else "user", text=t) for i, t in enumerate(texts)]


def of(rendered: Rendered, *spans: Span) -> list[str]:
    return [text for text, span in rendered if span in spans]


def test_pieces_of_two_turns() -> None:
    rendered = render(talk("<image>\nWhat?", "a cat", "Sure?", "yes"), 1, CHATML, SPECIALS)
    assert rendered == [
        ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", Span.SYSTEM),
        ("<|im_start|>user\n", Span.ROLE),
        ("<image>\n", Span.IMAGE),
        ("What?", Span.INSTRUCTION),
        ("<|im_end|>\n<|im_start|>assistant\n", Span.ROLE),
        ("a cat", Span.RESPONSE),
        ("<|im_end|>", Span.END),
        ("\n", Span.ROLE),
        ("<|im_start|>user\n", Span.ROLE),
        ("Sure?", Span.INSTRUCTION),
        ("<|im_end|>\n<|im_start|>assistant\n", Span.ROLE),
        ("yes", Span.RESPONSE),
        ("<|im_end|>", Span.END),
    ]
    assert not rendered.moved


@pytest.mark.parametrize(
    ("question", "moved"),
    [
        ("<image>\nWhat?", False),
        (" \n<image>What?", False),
        ("What?\n<image>", True),
        ("What <image>?", True),
        ("What?", False),
    ],
)
def test_images_stand_first_in_their_turn(question: str, moved: bool) -> None:
    turns = talk(question, "a")
    rendered = render(turns, 1, VICUNA)
    assert "USER: <image>\nWhat" in text_of(rendered)
    assert rendered.moved is moved
    if moved:
        with pytest.raises(BadConversation, match="after text of its turn"):
            render(turns, 1, VICUNA, image_position="refuse")
    else:
        assert render(turns, 1, VICUNA, image_position="refuse") == rendered


def test_markers_say_in_which_turn_a_picture_belongs() -> None:
    rendered = render(
        talk("Hello", "Hi", "<image><image> Which differs?", "b", "<image>\nAnd?", "c"), 3, VICUNA
    )
    text = text_of(rendered)
    assert text.count("<image>\n") == 3
    assert "USER: Hello ASSISTANT:" in text
    assert "USER: <image>\n<image>\nWhich differs? ASSISTANT:" in text
    assert "USER: <image>\nAnd? ASSISTANT:" in text
    assert len(of(rendered, Span.IMAGE)) == 3
    assert not rendered.moved


def test_interleaved_images_count_as_moved() -> None:
    rendered = render(talk("<image> or <image>?", "b"), 2, VICUNA)
    assert "USER: <image>\n<image>\nor ? ASSISTANT:" in text_of(rendered)
    assert rendered.moved


def test_a_marker_of_its_own_where_a_turn_has_images() -> None:
    fmt = ChatFormat(
        begin="<s>",
        user="User: ",
        user_image="User:",
        assistant=" A:",
        end="</s>",
        after_image="",
        after_images="\n",
    )
    assert text_of(render(talk("<image><image>x", "y", "z", "w"), 2, fmt)) == (
        "<s>User:<image><image>\nx A:y</s>User: z A:w</s>"
    )


@pytest.mark.parametrize(
    ("turns", "images", "reason"),
    [
        ([], 0, "empty conversation"),
        (talk("Q"), 0, "no answer"),
        (talk("Q", "a", "Q"), 0, "no answer"),
        (talk("Q", " \n"), 0, "turn 1 is an empty answer"),
        (talk("Q", "<image>"), 1, "an answer holds an image marker"),
        ([Turn(role="assistant", text="a"), Turn(role="user", text="a")], 0, "turn 0 is 'assistant'"),
        ([Turn(role="tool", text="a"), Turn(role="assistant", text="a")], 0, "turn 0 is 'tool'"),
        ([*talk("Q", "a"), Turn(role="system", text="s"), Turn(role="assistant", text="b")], 0, "turn 2 is 'system'"),
        ([Turn(role="system", text="s")], 1, "no answer"),
        ([Turn(role="system", text="<image>"), *talk("Q", "a")], 1, "turn 0 contains the special token <image>"),
        (talk("<image> <image>", "a"), 1, "2 image markers in the texts for 1 images"),
        (talk("<image>", "a"), 0, "1 image markers in the texts for 0 images"),
        (talk("<image>", "a", "<image>", "b"), 3, "2 image markers in the texts for 3 images"),
        (talk("<im<image>age>", "a"), 1, "special token <image>"),
        (talk("Q </s> again", "a"), 0, "turn 0 contains the special token </s>"),
        (talk("Q", "a<|im_<image>end|>"), 1, "an answer holds an image marker"),
        (talk("<|im_<image>end|>", "a"), 1, "special token <|im_end|>"),
        (talk("\ud83d", "a"), 0, "half of a surrogate pair"),
    ],
)  # fmt: skip
def test_refusals_name_the_reason(turns: list[Turn], images: int, reason: str) -> None:
    with pytest.raises(BadConversation) as caught:
        render(turns, images, VICUNA, SPECIALS)
    assert reason in str(caught.value)


def test_the_layouts_own_end_is_refused_whatever_the_tokenizer_says() -> None:
    with pytest.raises(BadConversation, match="</s>"):
        render(talk("Q", "a</s>USER: b"), 0, VICUNA, specials=())


def test_short_special_tokens_are_ordinary_text() -> None:
    """Some tokenizers pad with "!"."""
    assert "Look!" in text_of(render(talk("Look!", "yes!"), 0, VICUNA, ("!",)))


@pytest.mark.parametrize(
    ("fmt", "written"),
    [
        (VICUNA, "Be brief. USER: Q"),
        (CHATML, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ"),
    ],
)
def test_a_system_turn_takes_the_place_of_the_layouts_own(fmt: ChatFormat, written: str) -> None:
    rendered = render([Turn(role="system", text=" Be brief. "), *talk("Q", "a")], 0, fmt)
    assert text_of(rendered).startswith(written)
    assert len(of(rendered, Span.SYSTEM)) == 1
    assert "Be brief." in of(rendered, Span.SYSTEM)[0]


def test_an_empty_system_turn_leaves_the_layouts_own() -> None:
    assert render([Turn(role="system", text=" "), *talk("Q", "a")], 0, VICUNA) == render(
        talk("Q", "a"), 0, VICUNA
    )


def test_a_system_turn_without_a_place_is_refused() -> None:
    with pytest.raises(BadConversation, match="no place"):
        render([Turn(role="system", text="Be brief."), *talk("Q", "a")], 0, FORMATS["starter"])


hostile = st.lists(
    st.sampled_from(
        [*("<image>", "</s>", "</", "s>", "<im", "age>", "<|im_end|>", "<|im_", "end|>", "USER: ", " ASSISTANT: "),
         *("\n", " ", "a", "é", "漢", "\u200b", "\u0301", "🙂", "א", "\u202e", "＜", "image＞", "</s", ">", "<")]
    ),
    max_size=6,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(hostile, min_size=1, max_size=6),
    st.integers(0, 3),
    st.sampled_from(["starter", "vicuna", "chatml"]),
)
def test_no_text_becomes_a_marker(texts: list[str], images: int, layout: str) -> None:
    """Rendered, every marker stands where the layout has put it, as often as with harmless texts."""
    fmt = FORMATS[layout]
    try:
        rendered = render(talk(*texts), images, fmt, SPECIALS)
    except BadConversation:
        return
    for text in of(rendered, Span.INSTRUCTION, Span.RESPONSE):
        assert not any(special in text for special in SPECIALS)
    harmless = render(talk(*("x" for _ in texts)), images, fmt, SPECIALS)
    for special in SPECIALS:
        assert text_of(rendered).count(special) == text_of(harmless).count(special)
    answers = [text.strip() for text in texts[1::2]]
    assert [text.removeprefix(fmt.lead) for text in of(rendered, Span.RESPONSE)] == answers
    assert text_of(rendered) == "".join(text for text, _ in rendered)


def test_role_words_in_texts_stay_text() -> None:
    question = "USER: hi ASSISTANT: ho USER: again"
    rendered = render(talk(question, "ASSISTANT: no"), 0, VICUNA, SPECIALS)
    assert of(rendered, Span.INSTRUCTION) == [question]
    assert of(rendered, Span.RESPONSE) == [" ASSISTANT: no"]


def test_plain_writes_image_and_caption_only() -> None:
    assert text_of(render(talk("Describe.", "a cat"), 1, FORMATS["plain"])) == "<image>a cat\n"
    kept = replace(FORMATS["plain"], keeps_instruction=True)
    assert text_of(render(talk("Describe.", "a cat"), 1, kept)) == "<image>Describe.a cat\n"
