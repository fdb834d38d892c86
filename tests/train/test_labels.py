"""The mask: what each mode learns, on the cases that other trainers get wrong."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.records import Turn
from train.encode import Encoder, Sample
from train.labels import IGNORE, LEARNED, Reason, labels
from train.render import FORMATS, BadConversation, ChatFormat
from train.templates import TemplateSet, load_list
from train.tokenizer import train_tokenizer

IMAGES = 4
TOKENIZER = train_tokenizer(["USER: <image>\nWhat color is it? ASSISTANT: The cat is red.</s>"] * 5, 400)
TABLE_8 = load_list("mix665k")
MODES = ("vit", "l2t", "l2t_no_system", "l2t_all")  # each learns more than the one before


def encoder(mode: Any = "l2t", **settings: Any) -> Encoder:
    values: dict[str, Any] = {
        "tokenizer": TOKENIZER,
        "fmt": FORMATS["starter"],
        "image_token_id": TOKENIZER.convert_tokens_to_ids("<image>"),
        "tokens_per_image": IMAGES,
        "mode": mode,
        "templates": TABLE_8,
        "max_length": 4096,
    }
    return Encoder(**(values | settings))


def talk(*texts: str) -> list[Turn]:
    return [Turn(role="assistant" if i % 2 else "user", text=t) for i, t in enumerate(texts)]


def encode(turns: list[Turn], images: int = 1, mode: Any = "l2t", **settings: Any) -> Sample:
    (sample,) = encoder(mode, **settings).encode([(turns, images)])
    assert isinstance(sample, Sample), sample
    return sample


def learned_text(sample: Sample, reason: Reason) -> str:
    return TOKENIZER.decode(sample.ids[sample.is_learned & (sample.reasons == reason)])


def instruction(question: str, answer: str = "yes", **settings: Any) -> str:
    return learned_text(encode(talk(question, answer), **settings), Reason.INSTRUCTION).strip()


CASES = {
    "VQA question and suffix": (
        "What is on the table?\nAnswer the question using a single word or phrase.",
        "What is on the table?",
    ),
    "OCR list after the caption prompt": (
        "Provide a one-sentence caption for the provided image.\nReference OCR token: STOP, 42",
        "STOP, 42",
    ),
    "box of a region": (
        "Please provide a short description for this region: [0.12, 0.5, 0.77, 1.0]",
        "[0.12, 0.5, 0.77, 1.0]",
    ),
    "phrase to find": (
        "Please provide the bounding box coordinate of the region this sentence describes: the left cat",
        "the left cat",
    ),
    "nothing but templates": ("Who wrote this book?\nAnswer the question using a single word or phrase.", ""),
    "image last, template question": ("What is the title of this book?\n<image>", ""),
    "options stay": (
        "Which one?\nA. red\nB. blue\nAnswer with the option’s letter from the given choices directly.",
        "Which one?\nA. red\nB. blue",
    ),
    "a question that is no template": ("Is this book related to Travel?", "Is this book related to Travel?"),
    "decimals are not split": ("Is 0.5 more than 1.25?", "Is 0.5 more than 1.25?"),
    "not inside a sentence": (
        "He asked who wrote: Who wrote this book?ish",
        "He asked who wrote: Who wrote this book?ish",
    ),
}


@pytest.mark.parametrize(("question", "kept"), CASES.values(), ids=CASES.keys())
def test_instruction_without_templates(question: str, kept: str) -> None:
    # Tokens of blanks alone are not learned, so blanks do not count here.
    assert "".join(instruction(question).split()) == "".join(kept.split()).replace("’", "'")


@pytest.mark.parametrize("mode", MODES)
def test_response_is_learned_with_its_end(mode: Any) -> None:
    sample = encode(talk("What color is it?", "red", "And now?", "The cat is red."), mode=mode)
    assert learned_text(sample, Reason.RESPONSE) == " red</s> The cat is red.</s>"


def test_ladder_differs_by_what_its_steps_name() -> None:
    turns = talk(
        "What is it?\nAnswer the question using a single word or phrase.", "a cat", "And here?", "a dog"
    )
    reasons, masks = {}, {}
    for mode in MODES:
        sample = encode(turns, mode=mode, fmt=FORMATS["vicuna"])
        masks[mode], reasons[mode] = sample.is_learned, sample.reasons

    def steps(more: str, less: str) -> set[Reason]:
        assert (masks[less] <= masks[more]).all()
        return {Reason(r) for r in reasons[more][masks[more] & ~masks[less]]}

    assert steps("l2t", "vit") == {Reason.INSTRUCTION}
    assert steps("l2t_no_system", "l2t") == {Reason.TEMPLATE}
    assert steps("l2t_all", "l2t_no_system") == {Reason.ROLE, Reason.SYSTEM, Reason.SPACE}


def test_text_only_learns_the_response_unless_told() -> None:
    turns = talk("Say red.", "red")
    assert learned_text(encode(turns, images=0), Reason.INSTRUCTION) == ""
    assert Reason.TEXT_ONLY in encode(turns, images=0).reasons
    told = encode(turns, images=0, text_only_instructions=True)
    assert learned_text(told, Reason.INSTRUCTION).replace(" ", "") == "Sayred."


def test_image_comes_first_wherever_it_was() -> None:
    first, last = (encode(talk(text, "yes")) for text in ("<image>\nWhat is it?", "What is it?\n<image>"))
    assert first.ids.tolist() == last.ids.tolist()
    assert first.reasons.tolist().count(Reason.IMAGE) == IMAGES


def test_several_images() -> None:
    assert (
        encode(talk("Which differs?", "the second"), images=3).reasons.tolist().count(Reason.IMAGE)
        == 3 * IMAGES
    )


def test_cut_at_max_length_counts_and_keeps_images() -> None:
    turns = talk("What is it?", "red " * 40)
    whole, cut = encode(turns), encode(turns, max_length=30)
    assert len(cut.ids) == 30
    assert cut.dropped == int(whole.is_learned.sum()) - int(cut.is_learned.sum()) > 0
    (refused,) = encoder(max_length=3).encode([(turns, 1)])
    assert isinstance(refused, BadConversation)
    assert "image tokens" in str(refused)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "empty conversation"),
        (talk("Q"), "no answer"),
        (talk("Q", " "), "empty answer"),
        ([Turn(role="assistant", text="a")], "expected 'user'"),
        (talk("Q </s> again", "a"), "special token"),
    ],
)
def test_malformed_rows_say_why(turns: list[Turn], reason: str) -> None:
    good = talk("What is it?", "red")
    first, bad, last = encoder().encode([(good, 1), (turns, 1), (good, 1)])
    assert isinstance(bad, BadConversation)
    assert reason in str(bad)
    assert isinstance(first, Sample)
    assert isinstance(last, Sample)
    assert first.ids.tolist() == last.ids.tolist()


texts = st.text(
    alphabet=st.sampled_from([*"abc xyz.?!:\n\t0159", "é", "漢", "\u3000", "’", "🙂", "Ω", "\u200b"]),
    max_size=30,
)
conversations = st.lists(
    st.tuples(texts, texts.filter(lambda t: t.strip() != "")), min_size=1, max_size=3
).map(lambda pairs: talk(*(t for pair in pairs for t in pair)))


@settings(max_examples=120, deadline=None)
@given(conversations, st.integers(0, 2), st.sampled_from(["starter", "vicuna"]))
def test_any_text(turns: list[Turn], images: int, layout: str) -> None:
    templates = TemplateSet(counts=(("abc.", 3), ("x?", 2)))
    masks = {}
    for mode in MODES:
        sample = encode(turns, images, mode, templates=templates, fmt=FORMATS[layout])
        masks[mode] = sample.is_learned
        targets = labels(sample.ids, sample.is_learned)
        assert (targets[sample.ids == encoder().image_token_id] == IGNORE).all()
        assert set(sample.reasons[sample.is_learned]) <= set(LEARNED[mode])
        answers = "".join(f" {t.text.strip()}</s>" for t in turns if t.role == "assistant")
        assert learned_text(sample, Reason.RESPONSE) == answers
    for less, more in pairwise(MODES):
        assert (masks[less] <= masks[more]).all()
    if images == 0:
        assert np.array_equal(masks["vit"], masks["l2t_all"])


@settings(max_examples=60, deadline=None)
@given(st.lists(conversations, min_size=1, max_size=4))
def test_many_at_once_equal_one_by_one(rows: list[list[Turn]]) -> None:
    together = encoder().encode([(turns, 1) for turns in rows])
    for turns, sample in zip(rows, together, strict=True):
        alone = encode(turns)
        assert isinstance(sample, Sample)
        assert alone.ids.tolist() == sample.ids.tolist()
        assert alone.reasons.tolist() == sample.reasons.tolist()


def test_begin_token_is_never_learned() -> None:
    """A tokenizer that adds a begin token, as Llama's does."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    backend = train_tokenizer(["USER: hi ASSISTANT: ho</s>"], 300).backend_tokenizer
    pad = backend.token_to_id("<pad>")
    backend.post_processor = processors.TemplateProcessing(single="<pad> $A", special_tokens=[("<pad>", pad)])
    other = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")
    for mode in MODES:
        sample = encode(talk("hi", "ho"), 0, mode, tokenizer=other)
        assert sample.reasons[0] == Reason.SPECIAL
        assert not sample.is_learned[0]


def test_layout_equals_the_chat_template(tokenizer: Any) -> None:
    fmt: ChatFormat = FORMATS["starter"]
    from train.render import render, text_of

    turns = talk("What is it?", "a cat", "Sure?", "yes")
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
        *({"role": t.role, "content": t.text} for t in turns[1:]),
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == text_of(render(turns, 1, fmt))
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "USER: <image>\nWhat is it? ASSISTANT:"
