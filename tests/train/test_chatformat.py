"""Layouts read off chat templates, on the templates that the model families publish."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cluster.errors import UserError
from datagen.records import Turn
from tests.train import offline_tokenizers
from train.mask.chatformat import check, derive, special_ids, special_texts
from train.mask.render import FORMATS, ChatFormat, render, text_of

# As the models' cards and transformers' documentation show their conversations; written out here from those.
LLAVA = """
{%- for m in messages -%}
{%- if m['role'] != 'system' -%}{{- m['role'].upper() + ': ' -}}{%- endif -%}
{%- for c in m['content'] if c['type'] == 'image' -%}{{- '<image>\n' -}}{%- endfor -%}
{%- for c in m['content'] if c['type'] == 'text' -%}{{- c['text'] + ' ' -}}{%- endfor -%}
{%- endfor -%}{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""
LLAVA_NEXT_MISTRAL = """
{%- for m in messages -%}
{%- if m['role'] == 'system' -%}{{- '<<SYS>>\n' + m['content'][0]['text'] + '\n<</SYS>>\n\n' -}}
{%- elif m['role'] == 'user' -%}{{- '[INST] ' -}}
{%- for c in m['content'] if c['type'] == 'image' -%}{{- '<image>\n' -}}{%- endfor -%}
{%- for c in m['content'] if c['type'] == 'text' -%}{{- c['text'] -}}{%- endfor -%}{{- ' [/INST]' -}}
{%- elif m['role'] == 'assistant' -%}{{- ' ' + m['content'][0]['text'] + '</s> ' -}}
{%- else -%}{{- raise_exception('only user and assistant') -}}{%- endif -%}{%- endfor -%}
"""
ONEVISION = """
{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + ' ' -}}
{%- for c in m['content'] if c['type'] == 'image' -%}{{- '<image>' -}}{%- endfor -%}
{%- for c in m['content'] if c['type'] == 'text' -%}{{- '\n' + c['text'] -}}{%- endfor -%}
{{- '<|im_end|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""
QWEN2_VL = """
{%- for m in messages -%}
{%- if loop.first and m['role'] != 'system' -%}
{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}{%- endif -%}
{{- '<|im_start|>' + m['role'] + '\n' -}}
{%- if m['content'] is string -%}{{- m['content'] -}}{%- else -%}{%- for c in m['content'] -%}
{%- if c['type'] == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif 'text' in c -%}{{- c['text'] -}}{%- endif -%}{%- endfor -%}{%- endif -%}
{{- '<|im_end|>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""
SMOLVLM = """
{{- '<|im_start|>' -}}{%- for m in messages -%}{{- m['role'] | capitalize -}}
{%- if m['content'][0]['type'] == 'image' -%}{{- ':' -}}{%- else -%}{{- ': ' -}}{%- endif -%}
{%- for c in m['content'] -%}{%- if c['type'] == 'text' -%}{{- c['text'] -}}
{%- elif c['type'] == 'image' -%}{{- '<image>' -}}{%- endif -%}{%- endfor -%}
{{- '<end_of_utterance>\n' -}}{%- endfor -%}{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}
"""
MISTRAL = """
{{- bos_token -}}{%- for m in messages -%}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{- raise_exception('roles must alternate') -}}{%- endif -%}
{%- if m['role'] == 'user' -%}{{- '[INST] ' + m['content'] + ' [/INST]' -}}
{%- else -%}{{- m['content'] + eos_token -}}{%- endif -%}{%- endfor -%}
"""
LLAMA3 = """
{%- for m in messages -%}{%- set text = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' -%}
{%- if loop.first -%}{%- set text = bos_token + text -%}{%- endif -%}
{{- text + (m['content'] | trim) + '<|eot_id|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"""
GEMMA = """
{{- bos_token -}}{%- if messages[0]['role'] == 'system' -%}{{- raise_exception('no system') -}}{%- endif -%}
{%- for m in messages -%}{%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}
{{- '<start_of_turn>' + role + '\n' + (m['content'] | trim) + '<end_of_turn>\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}
"""
BETWEEN_ONLY = """
{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' -}}
{%- if not loop.last -%}{{- '\n' -}}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '\n<|im_start|>assistant\n' -}}{%- endif -%}
"""


def model(template: str | None, *, eos: str, bos: str | None = None, specials: str = "") -> Any:
    """A tokenizer of single bytes with a template."""
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=eos,
        additional_special_tokens=["<image>", *specials.split()],
        **({"bos_token": bos} if bos else {}),
    )
    tokenizer.chat_template = template
    return tokenizer


CHATML_TOKENS = "<|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|>"
CASES: dict[str, tuple[Any, str, ChatFormat]] = {
    "llava-1.5": (
        model(LLAVA, eos="</s>", bos="<s>"),
        "<image>",
        # The template ends no answer; its blank after the text comes after the end of text that is put there.
        ChatFormat(
            system_slot=("", " "), user="USER: ", assistant=" ASSISTANT:", lead=" ", end="</s>", between=" "
        ),
    ),
    "llava-next-mistral": (
        model(LLAVA_NEXT_MISTRAL, eos="</s>", bos="<s>"),
        "<image>",
        ChatFormat(
            system_slot=("<<SYS>>\n", "\n<</SYS>>\n\n"),
            user="[INST] ",
            assistant=" [/INST]",
            lead=" ",
            end="</s>",
            between=" ",
        ),
    ),
    "llava-onevision": (
        model(ONEVISION, eos="<|im_end|>", specials=CHATML_TOKENS),
        "<image>",
        ChatFormat(
            system_slot=("<|im_start|>system \n", "<|im_end|>"),
            user="<|im_start|>user \n",
            user_image="<|im_start|>user ",
            assistant="<|im_end|><|im_start|>assistant\n",
            end="<|im_end|>",
            after_image="",
            after_images="\n",
        ),
    ),
    "qwen2-vl": (
        model(QWEN2_VL, eos="<|im_end|>", specials=CHATML_TOKENS),
        "<|image_pad|>",
        ChatFormat(
            system="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
            system_slot=("<|im_start|>system\n", "<|im_end|>\n"),
            user="<|im_start|>user\n",
            assistant="<|im_end|>\n<|im_start|>assistant\n",
            end="<|im_end|>",
            between="\n",
            image="<|vision_start|><|image_pad|><|vision_end|>",
            after_image="",
        ),
    ),
    "smolvlm": (
        model(SMOLVLM, eos="<end_of_utterance>", bos="<|im_start|>"),
        "<image>",
        ChatFormat(
            begin="<|im_start|>",
            system_slot=("System: ", "<end_of_utterance>\n"),
            user="User: ",
            user_image="User:",
            assistant="<end_of_utterance>\nAssistant:",
            lead=" ",
            end="<end_of_utterance>",
            between="\n",
            after_image="",
        ),
    ),
    "mistral-instruct": (
        model(MISTRAL, eos="</s>", bos="<s>"),
        "<image>",
        ChatFormat(begin="<s>", user="[INST] ", assistant=" [/INST]", end="</s>"),
    ),
    "llama-3": (
        model(
            LLAMA3,
            eos="<|eot_id|>",
            bos="<|begin_of_text|>",
            specials="<|start_header_id|> <|end_header_id|>",
        ),
        "<image>",
        ChatFormat(
            begin="<|begin_of_text|>",
            system_slot=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
            user="<|start_header_id|>user<|end_header_id|>\n\n",
            assistant="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            end="<|eot_id|>",
        ),
    ),
    "gemma": (
        model(GEMMA, eos="<eos>", bos="<bos>", specials="<start_of_turn> <end_of_turn>"),
        "<image>",
        ChatFormat(
            begin="<bos>",
            user="<start_of_turn>user\n",
            assistant="<end_of_turn>\n<start_of_turn>model\n",
            end="<end_of_turn>",
            between="\n",
        ),
    ),
    "separators between turns only": (
        model(BETWEEN_ONLY, eos="<|im_end|>", specials=CHATML_TOKENS),
        "<image>",
        ChatFormat(
            system_slot=("<|im_start|>system\n", "<|im_end|>\n"),
            user="<|im_start|>user\n",
            assistant="<|im_end|>\n<|im_start|>assistant\n",
            end="<|im_end|>",
            between="\n",
        ),
    ),
}


@pytest.mark.parametrize(("source", "token", "expected"), CASES.values(), ids=CASES.keys())
def test_layouts_of_published_templates(source: Any, token: str, expected: ChatFormat) -> None:
    assert derive(source, token) == expected


@pytest.mark.parametrize(("source", "token", "expected"), CASES.values(), ids=CASES.keys())
def test_the_prompt_served_is_what_training_asks_with(source: Any, token: str, expected: ChatFormat) -> None:
    """Up to the place where the first answer begins, training and serving write the same."""
    question = Turn(role="user", text="What is it?")
    rendered = text_of(render([question, Turn(role="assistant", text="XXX")], 1, expected))
    parts: Any = [{"type": "image"}, {"type": "text", "text": question.text}]
    if "'text'" not in source.chat_template:
        parts = f"<image>\n{question.text}"
    served = source.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    assert rendered == served + expected.lead + "XXX" + expected.end


def test_the_starter_model_says_its_own_layout(tokenizer: Any) -> None:
    assert derive(tokenizer, "<image>") == FORMATS["starter"]


def test_a_processor_says_its_own_layout(small_model: Any) -> None:
    assert derive(small_model[1], "<image>") == FORMATS["starter"]


REFUSED = {
    "no template": (None, "has no chat template"),
    "thinks before the last answer": (
        QWEN2_VL.replace(
            "{%- elif 'text' in c -%}",
            "{%- elif 'text' in c -%}{%- if loop.last and m['role'] == 'assistant' -%}<think></think>{%- endif -%}",
        ),
        "thinking",
    ),
    "no generation prompt": (
        QWEN2_VL[: QWEN2_VL.index("{%- if add_generation_prompt")],
        "no generation prompt",
    ),
    "says what it likes": (
        QWEN2_VL.replace("{{- c['text'] -}}", "{{- c['text'] | replace('green', 'red') -}}"),
        "a conversation of three turns",
    ),
    "lines become one": (
        QWEN2_VL.replace("{{- c['text'] -}}", "{{- c['text'].split() | join(' ') -}}"),
        "a conversation of three turns",
    ),
    "only single turns": (
        "{%- if messages | length > 2 -%}{{- raise_exception('one question, please') -}}{%- endif -%}"
        + QWEN2_VL,
        "one question, please",
    ),
    "the third turn is another": (
        QWEN2_VL.replace(
            "'<|im_end|>\n' -}}{%- endfor",
            "('<|im_end|>\n' if loop.index < 4 else '<|im_end|>') -}}{%- endfor",
        ),
        "a conversation of three turns",
    ),
    "numbers its images": (
        QWEN2_VL.replace("{{- '<|vision_start|>", "{{- loop.index ~ '<|vision_start|>"),
        "two images",
    ),
    "knows no images": (
        QWEN2_VL.replace("<|vision_start|><|image_pad|><|vision_end|>", "").replace(
            "m['content'] is string", "m['content'] is none"
        ),
        "does not write an image",
    ),
    "broken": ("{%- for m in messages -%}", "fails on a conversation"),
}


@pytest.mark.parametrize(("template", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_irregular_templates_are_refused_with_a_way_out(template: str | None, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        derive(model(template, eos="<|im_end|>", specials=CHATML_TOKENS), "<|image_pad|>")
    assert "Set `chat`" in str(caught.value)
    assert "vicuna" in str(caught.value)


def test_nothing_to_end_answers_with() -> None:
    source = model(LLAVA, eos="</s>")
    source.eos_token = None
    source.add_special_tokens({"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=True)
    with pytest.raises(UserError, match="no end of text"):
        derive(source, "<image>")


def test_a_layout_of_another_family_is_found_out() -> None:
    with pytest.raises(UserError, match=r"'</s>', which is no token of its own.*'<\|endoftext\|>'.*auto"):
        check(FORMATS["vicuna"], offline_tokenizers.qwen2(), "<image>")
    with pytest.raises(UserError, match=r"0 image tokens .<\|image_pad\|>."):
        check(FORMATS["chatml"], offline_tokenizers.qwen2(), "<|image_pad|>")
    for name, layout in offline_tokenizers.LAYOUTS.items():
        check(FORMATS[layout], offline_tokenizers.FAMILIES[name](), "<image>")
        check(FORMATS["plain"], offline_tokenizers.FAMILIES[name](), "<image>")


def test_special_tokens_are_all_those_that_texts_must_not_hold() -> None:
    tokenizer = offline_tokenizers.llama()
    assert {"<s>", "</s>", "<unk>", "<image>"} <= set(special_texts(tokenizer))
    ids = special_ids(tokenizer)
    assert tokenizer.eos_token_id in ids
    assert tokenizer.unk_token_id not in ids, "an unknown character is no marker"
    short = model(None, eos="</s>")
    short.pad_token = "!"
    assert "!" not in special_texts(short)
