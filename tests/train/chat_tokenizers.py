"""Tokenizers of the tiny models: trained here, with each family's special tokens and a chat template in its format."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

TEXTS = [
    "USER: What color is it? Answer in one word. ASSISTANT: red",
    "Where is the square? It is in row 1, column 4, beside the blue circle.",
    "Describe the picture in detail. The picture shows a small green square on a light ground.",
    "A chat between a curious human and an artificial intelligence assistant. You are a helpful assistant.",
    "The assistant gives helpful, detailed, and polite answers to the human's questions. Say blue. system user",
    "User: Is there more than one? Assistant: No, there are 2 of them. [INST] [/INST]",
] * 4

# Content is plain text or a list of parts; {content} writes it, with pictures where they stand in the list.
_CONTENT = (
    "{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] in ('image', 'image_url') -%}{{- 'MARK' -}}{%- elif part['type'] == 'text' -%}"
    "{{- part['text'] -}}{%- endif -%}{%- endfor -%}{%- endif -%}"
)


def _template(
    mark: str,
    *,
    roles: dict[str, tuple[str, str]],
    start: str = "",
    system: str = "",
    prompt: str,
    before_picture: tuple[str, str] = ("", ""),
) -> str:
    """A chat template: ``roles`` gives what stands before and after the content of each role's turns;
    ``before_picture`` changes one of the former where a picture comes first."""
    turns = "".join(
        f"{{%- {'if' if index == 0 else 'elif'} message['role'] == '{role}' -%}}"
        f"{{{{- {before!r} -}}}}{_CONTENT.replace('MARK', json.dumps(mark)[1:-1])}{{{{- {after!r} -}}}}"
        for index, (role, (before, after)) in enumerate(roles.items())
    )
    usual, changed = before_picture
    picture = "message['content'] is not string and message['content'][0]['type'] in ('image', 'image_url')"
    if usual:
        turns = turns.replace(
            f"{{{{- {usual!r} -}}}}", f"{{{{- {changed!r} if {picture} else {usual!r} -}}}}"
        )
    default = f"{{%- if messages[0]['role'] != 'system' -%}}{{{{- {system!r} -}}}}{{%- endif -%}}"
    return (
        (f"{{{{- {start!r} -}}}}" if start else "")
        + (default if system else "")
        + f"{{%- for message in messages -%}}{turns}{{%- endif -%}}{{%- endfor -%}}"
        + f"{{%- if add_generation_prompt -%}}{{{{- {prompt!r} -}}}}{{%- endif -%}}"
    )


def _chatml(mark: str, system: str = "") -> str:
    return _template(
        mark,
        system=system,
        roles={role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")},
        prompt="<|im_start|>assistant\n",
    )


VICUNA = _template(
    "<image>\n",
    roles={"system": ("", " "), "user": ("USER: ", " "), "assistant": ("ASSISTANT: ", "</s>")},
    prompt="ASSISTANT:",
)
TINYLLAVA = _template(
    "<image>\n",
    roles={
        "system": ("", " "),
        "user": ("USER: ", " "),
        "assistant": ("ASSISTANT: ", "<|endoftext|>"),
    },
    prompt="ASSISTANT:",
)
MISTRAL = _template(
    "<image>\n",
    roles={"system": ("", "\n"), "user": ("[INST] ", " [/INST]"), "assistant": (" ", "</s>")},
    prompt="",
)
IDEFICS: dict[str, Any] = {
    "roles": {
        role.lower(): (f"{role}: ", "<end_of_utterance>\n") for role in ("System", "User", "Assistant")
    },
    "prompt": "Assistant:",
    # A picture stands right behind the colon, text after a space.
    "before_picture": ("User: ", "User:"),
}


ONEVISION = _template(
    "<image>\n",
    roles={
        "system": ("<|im_start|>system ", "<|im_end|>\n"),
        "user": ("<|im_start|>user ", "<|im_end|>"),
        "assistant": ("<|im_start|>assistant\n", "<|im_end|>"),
    },
    prompt="<|im_start|>assistant\n",
)
# Up to six rows and columns have tokens of their own in the published vocabularies.
_CELLS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))


@functools.cache
def _byte_level(specials: tuple[str, ...], *, qwen: bool = False) -> str:
    """A byte-level BPE as JSON: GPT-2's splitting into words, or Qwen2's, which takes digits one by one."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if qwen:
        # transformers gives every model of type qwen2 this splitting, whatever its tokenizer.json says.
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420 + len(specials),
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer.to_str()


@functools.cache
def sentencepiece(specials: tuple[str, ...]) -> str:
    """A BPE as SentencePiece writes it for Llama and Mistral, as JSON: spaces become "▁", one stands before the text,
    what is unknown falls back to bytes, a begin token is added."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    start = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=start, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    state = json.loads(tokenizer.to_str())
    # The trainer knows no byte tokens; they stand between the special tokens and the others, as in Llama's vocabulary.
    words = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)[len(start) :]
    names = [*start, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    state["model"]["vocab"] = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens(list(specials))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer.to_str()


def _tokenizer(state: str, *, template: str, specials: Sequence[str], **named: str) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(state),
        additional_special_tokens=list(specials),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=2048,
        **named,
    )
    tokenizer.chat_template = template
    return tokenizer


def llama_tokenizer(template: str) -> Any:
    specials = ("<image>", "<pad>")
    return _tokenizer(
        sentencepiece(specials),
        template=template,
        specials=["<image>"],
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def qwen_tokenizer() -> Any:
    specials = (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
    return _tokenizer(
        _byte_level(specials, qwen=True),
        template=_chatml(
            "<|vision_start|><|image_pad|><|vision_end|>",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        ),
        specials=specials[1:],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def tinyllava_tokenizer(*, qwen: bool) -> Any:
    """TinyLLaVA's layout on Qwen2's kind of tokenizer or on GPT-2's (Phi)."""
    return _tokenizer(
        _byte_level(("<|endoftext|>", "<image>"), qwen=qwen),
        template=TINYLLAVA,
        specials=["<image>"],
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )


def onevision_tokenizer() -> Any:
    """LLaVA-OneVision's: ChatML with blanks of its own."""
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
    return _tokenizer(
        _byte_level(specials, qwen=True),
        template=ONEVISION,
        specials=specials[1:],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )


def idefics_tokenizer(begin: str, pad: str, *others: str) -> Any:
    """Idefics3's and SmolVLM's, which differ in the names of a few tokens."""
    own = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *_CELLS)
    return _tokenizer(
        _byte_level((*others, begin, pad, *own)),
        template=_template("<image>", start=begin, **IDEFICS),
        specials=own,
        bos_token=begin,
        eos_token="<end_of_utterance>",
        pad_token=pad,
    )
