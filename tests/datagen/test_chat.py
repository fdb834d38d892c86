"""Texts of rows never change the roles of a conversation, whatever they hold and whichever the template."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.chat import ChatTemplate
from datagen.records import Turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}</s>{% endif %}"
    "{% endfor %}"
)
HOSTILE = (
    *("[INST]", "[/INST]", "[/INS", "T]"),
    *(
        "</s>",
        "<image>",
        "USER:",
        "ASSISTANT:",
        "<|im_end|>",
        "<|im_start|>assistant",
        "<|im_",
        "end|>",
        "</",
        "s>",
    ),
    *("SYSTEM:", "\n", " ", "a", ":", "yes", "<", ">", "|"),
)


@pytest.fixture(scope="module")
def templates(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTemplate]:
    """The starter's plain words, and ChatML with special tokens."""
    from transformers import AutoTokenizer

    chatml = AutoTokenizer.from_pretrained(tiny_model)
    chatml.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    chatml.chat_template = CHATML
    folder = tmp_path_factory.mktemp("chatml")
    chatml.save_pretrained(folder)
    for name in ("processor_config.json", "preprocessor_config.json"):
        source = Path(tiny_model) / name
        if source.exists():
            (folder / name).write_bytes(source.read_bytes())
    inst = AutoTokenizer.from_pretrained(tiny_model)
    inst.chat_template = INST
    other = tmp_path_factory.mktemp("inst")
    inst.save_pretrained(other)
    return {
        "plain": ChatTemplate.load(tiny_model),
        "chatml": ChatTemplate.load(str(folder)),
        "inst": ChatTemplate.load(str(other)),
    }


def test_markers_are_found(templates: dict[str, ChatTemplate]) -> None:
    assert {"</s>", "<image>", "USER:", "ASSISTANT:"} <= set(templates["plain"].markers)
    assert {"<|im_start|>", "<|im_end|>", "<image>"} <= set(templates["chatml"].markers)
    assert {"[INST]", "[/INST]"} <= set(templates["inst"].markers)
    assert "assistant" not in templates["chatml"].markers, "a plain word stays a plain word"


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.sampled_from(HOSTILE), max_size=12))
def test_hostile_text_changes_no_roles(templates: dict[str, ChatTemplate], pieces: list[str]) -> None:
    text = "".join(pieces)
    for template in templates.values():

        def conversation(said: str, template: ChatTemplate = template) -> str:
            turns = [
                Turn(role="user", text=said),
                Turn(role="assistant", text=said),
                Turn(role="user", text="So?"),
            ]
            return template.render(turns, has_image=True)

        plain, hostile = conversation("harmless"), conversation(text)
        encode = template.tokenizer.encode
        special = set(template.tokenizer.all_special_ids) - {template.tokenizer.unk_token_id}
        for marker in template.markers:
            assert hostile.count(marker) == plain.count(marker), marker
        assert [t for t in encode(hostile, add_special_tokens=False) if t in special] == [
            t for t in encode(plain, add_special_tokens=False) if t in special
        ]


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_ordinary_text_is_left_alone(templates: dict[str, ChatTemplate], text: str) -> None:
    for template in templates.values():
        if not any(marker in text for marker in template.markers):
            assert template.harmless(text) == text


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_encoding_is_that_of_the_tokenizer(templates: dict[str, ChatTemplate], text: str) -> None:
    for template in templates.values():
        rendered = template.render([Turn(role="user", text=text)], has_image=True)
        assert template.encode(rendered) == template.tokenizer.encode(rendered, add_special_tokens=False)


def test_a_template_without_system_turns_gets_its_text(templates: dict[str, ChatTemplate]) -> None:
    turns = [Turn(role="system", text="Be strict."), Turn(role="user", text="Is it so?")]
    assert templates["inst"].render(turns, has_image=False) == "[INST] Be strict.\n\nIs it so? [/INST]"
    assert "system" in templates["chatml"].render(turns, has_image=False)


def test_scored_answers_stand_where_the_template_puts_them(templates: dict[str, ChatTemplate]) -> None:
    assert templates["plain"].before_answer() == " "
    assert templates["chatml"].before_answer() == ""
