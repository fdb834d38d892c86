"""A conversation as one string in which every character knows what it is.

Everything later (the mask, the explanation of the mask) is decided on these characters, so no piece is ever tokenised
twice and no token boundary has to be guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from datagen.records import Turn


class Span(IntEnum):
    """What a character belongs to."""

    SYSTEM = 0  # system prompt
    ROLE = 1  # role markers and separators
    IMAGE = 2  # the image placeholder
    INSTRUCTION = 3
    TEMPLATE = 4  # task template inside an instruction
    RESPONSE = 5  # answer, with the space before it and the end-of-turn token after it


class BadConversation(ValueError):
    """The row cannot be rendered; the message is the reject's reason."""


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """The text layout of a conversation; must equal the chat template that the checkpoint is served with."""

    system: str = ""
    user: str
    assistant: str
    lead: str = ""  # between the role marker and the answer, supervised with the answer
    end: str  # after an answer, supervised
    between: str = ""  # between an answer's end and the next user marker
    image: str = "<image>"
    after_image: str = "\n"
    keeps_instruction: bool = True


FORMATS = {
    "starter": ChatFormat(user="USER: ", assistant=" ASSISTANT:", lead=" ", end="</s>"),
    # LLaVA-1.5 (Vicuna); TinyLLaVA writes the same text with Qwen2's own end token.
    "vicuna": ChatFormat(
        system="A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions. ",
        user="USER: ",
        assistant=" ASSISTANT:",
        lead=" ",
        end="</s>",
    ),
    "tinyllava-qwen2": ChatFormat(
        system="A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. ",
        user="USER: ",
        assistant=" ASSISTANT:",
        lead=" ",
        end="<|endoftext|>",
    ),
    "chatml": ChatFormat(
        system="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        user="<|im_start|>user\n",
        assistant="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>",
        between="\n",
    ),
    # Connector pre-training of LLaVA: the image, then its caption, nothing else.
    "plain": ChatFormat(user="", assistant="", end="\n", after_image="", keeps_instruction=False),
}

Piece = tuple[str, Span]


def clean(text: str, fmt: ChatFormat) -> str:
    """Instruction text without image placeholders (the image stands first in its turn, wherever the data had it)."""
    return text.replace(fmt.image, "").strip() if fmt.image in text else text.strip()


def render(turns: Sequence[Turn], images: int, fmt: ChatFormat, specials: Sequence[str] = ()) -> list[Piece]:
    """Pieces of the rendered conversation in order; their texts joined are what is tokenised.

    Args:
        images: number of pictures; their placeholders stand before the first instruction.
        specials: tokens with a meaning of their own, which no text of the data may contain.

    Raises:
        BadConversation: empty, roles that do not alternate, no answer, or a special token inside a text.
    """
    if not turns:
        raise BadConversation("empty conversation")
    pieces: list[Piece] = [(fmt.system, Span.SYSTEM)] if fmt.system else []
    for index, turn in enumerate(turns):
        expected = "user" if index % 2 == 0 else "assistant"
        if turn.role != expected:
            raise BadConversation(f"turn {index} is {turn.role!r}, expected {expected!r}")
        text = clean(turn.text, fmt)
        for special in specials:
            if special in text:
                raise BadConversation(f"turn {index} contains the special token {special}")
        if turn.role == "user":
            if index and fmt.between:
                pieces.append((fmt.between, Span.ROLE))
            pieces.append((fmt.user, Span.ROLE))
            if index == 0:
                pieces += [(fmt.image + fmt.after_image, Span.IMAGE)] * images
            pieces.append((text if fmt.keeps_instruction else "", Span.INSTRUCTION))
            pieces.append((fmt.assistant, Span.ROLE))
        else:
            if not text:
                raise BadConversation(f"turn {index} is an empty answer")
            pieces.append((fmt.lead + text + fmt.end, Span.RESPONSE))
    if len(turns) % 2:
        raise BadConversation("the last turn has no answer")
    return [piece for piece in pieces if piece[0]]


def text_of(pieces: Sequence[Piece]) -> str:
    """The rendered conversation."""
    return "".join(text for text, _ in pieces)
