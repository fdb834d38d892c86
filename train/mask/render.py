"""A conversation as one string in which every character knows what it is.

Everything later (the mask, the explanation of the mask) is decided on these characters, so no piece is ever tokenised
twice and no token boundary has to be guessed. What a character is comes from where it was put, never from what it
says: a text that holds "ASSISTANT:" is a text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Literal

from datagen.records import Turn

# What stands for an image in the texts of data, whatever the model's own placeholder is.
MARKER = "<image>"
# Some tokenizers declare "!" as padding; shorter special tokens than this are ordinary text.
SHORTEST_SPECIAL = 3
_HALF_PAIR = re.compile("[\ud800-\udfff]")

ImagePosition = Literal["first", "refuse"]


class Span(IntEnum):
    """What a character belongs to."""

    SYSTEM = 0  # system prompt
    ROLE = 1  # role markers and separators
    IMAGE = 2  # the image placeholder
    INSTRUCTION = 3
    TEMPLATE = 4  # task template inside an instruction
    RESPONSE = 5  # answer, with the space before it
    END = 6  # end-of-turn token after an answer
    BEGIN = 7  # begin-of-text token that the layout writes itself


class BadConversation(ValueError):
    """The row cannot be rendered; the message is the reject's reason."""


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """The text layout of a conversation; must equal the chat template that the checkpoint is served with.

    With images the first turn is ``begin system user_image (image after_image)* after_images text assistant lead
    answer end``; without, ``user`` stands for everything between ``system`` and ``text``.
    """

    begin: str = ""  # begin-of-text token; where it is written, the tokenizer must not add one
    system: str = ""  # what stands there when the data have no system turn
    system_slot: tuple[str, str] | None = (
        None  # around a system turn's text; None: the layout has no place for one
    )
    user: str
    user_image: str | None = None  # user marker of a turn with images, where it is another
    assistant: str
    lead: str = ""  # between the role marker and the answer, supervised with the answer
    end: str  # after an answer, supervised
    between: str = ""  # between an answer's end and the next user marker
    image: str = MARKER
    after_image: str = "\n"
    after_images: str = ""  # once, after the last image of a turn
    keeps_instruction: bool = True


_CURIOUS_USER = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
_TINYLLAVA = ChatFormat(
    system=_CURIOUS_USER,
    system_slot=("", " "),
    user="USER: ",
    assistant=" ASSISTANT:",
    lead=" ",
    end="<|endoftext|>",
)

# Layouts of checkpoints that have no chat template to derive them from (train/mask/chatformat.py).
FORMATS = {
    "starter": ChatFormat(user="USER: ", assistant=" ASSISTANT:", lead=" ", end="</s>"),
    # LLaVA-1.5 (Vicuna), the paper's table 12; TinyLLaVA writes the same text with its language model's own end token.
    "vicuna": replace(_TINYLLAVA, end="</s>"),
    "tinyllava-qwen2": _TINYLLAVA,
    "tinyllava-phi": _TINYLLAVA,
    "chatml": ChatFormat(
        system="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        system_slot=("<|im_start|>system\n", "<|im_end|>\n"),
        user="<|im_start|>user\n",
        assistant="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>",
        between="\n",
    ),
    # Connector pre-training of LLaVA: the image, then its caption, nothing else.
    "plain": ChatFormat(user="", assistant="", end="\n", after_image="", keeps_instruction=False),
}

Piece = tuple[str, Span]


class Rendered(list[Piece]):
    """Pieces of a conversation in order; exactly one of them is ``Span.IMAGE`` per picture.

    ``moved`` says that an image of the data stood after text of its turn and was put in front of it.
    """

    moved: bool = False


def clean(text: str) -> str:
    """A text without image markers (images stand first in their turn, wherever the data had them)."""
    return text.replace(MARKER, "").strip() if MARKER in text else text.strip()


def render(
    turns: Sequence[Turn],
    images: int,
    fmt: ChatFormat,
    specials: Sequence[str] = (),
    *,
    image_position: ImagePosition = "first",
) -> Rendered:
    """Pieces of the rendered conversation in order; their texts joined are what is tokenised.

    A leading system turn takes the place of the layout's own system text. Markers (``<image>``) in the user's texts
    say in which turn a picture belongs; without any, all pictures belong to the first.

    Args:
        images: number of pictures; their placeholders stand before the text of their turn.
        specials: tokens with a meaning of their own, which no text of the data may contain
            (:func:`train.mask.chatformat.special_texts`).
        image_position: ``refuse`` rejects conversations whose image stands after text of its turn.

    Raises:
        BadConversation: empty, roles that do not alternate, no answer, a special token inside a text, another number
            of markers than of pictures, or a system turn for which there is no place.
    """
    if not turns:
        raise BadConversation("empty conversation")
    guard = _guard(tuple(specials), fmt.end)
    has_system = turns[0].role == "system"
    dialogue = turns[has_system:]
    if len(dialogue) % 2 or not dialogue:
        raise BadConversation("the last turn has no answer")
    places = _image_places(dialogue, images)

    rendered = Rendered()
    rendered.moved = any(places[i] and _stands_later(turn.text) for i, turn in enumerate(dialogue))
    if rendered.moved and image_position == "refuse":
        raise BadConversation("an image stands after text of its turn (image_position: refuse)")
    rendered.append((fmt.begin, Span.BEGIN))
    said = _checked(turns[0].text.strip(), 0, guard) if has_system else ""
    if said and fmt.system_slot is None:
        raise BadConversation("a system turn, for which this chat layout has no place")
    rendered.append((said.join(fmt.system_slot) if said and fmt.system_slot else fmt.system, Span.SYSTEM))

    for index, turn in enumerate(dialogue):
        at = index + has_system
        expected = "assistant" if index % 2 else "user"
        if turn.role != expected:
            raise BadConversation(f"turn {at} is {turn.role!r}, expected {expected!r}")
        text = _checked(clean(turn.text), at, guard)
        if expected == "user":
            rendered += _question(text, places[index], fmt, first=index == 0)
        else:
            if not text:
                raise BadConversation(f"turn {at} is an empty answer")
            rendered += [(fmt.lead + text, Span.RESPONSE), (fmt.end, Span.END)]
    rendered[:] = [piece for piece in rendered if piece[0]]
    return rendered


def text_of(pieces: Sequence[Piece]) -> str:
    """The rendered conversation."""
    return "".join(text for text, _ in pieces)


def _question(text: str, images: int, fmt: ChatFormat, *, first: bool) -> list[Piece]:
    """A user turn up to the place where the answer begins."""
    user = fmt.user if not images or fmt.user_image is None else fmt.user_image
    return [
        ("" if first else fmt.between, Span.ROLE),
        (user, Span.ROLE),
        *([(fmt.image + fmt.after_image, Span.IMAGE)] * images),
        (fmt.after_images if images else "", Span.ROLE),
        (text if fmt.keeps_instruction else "", Span.INSTRUCTION),
        (fmt.assistant, Span.ROLE),
    ]


def _image_places(dialogue: Sequence[Turn], images: int) -> list[int]:
    """How many pictures each turn has, by its markers; without any marker the first turn has them all."""
    counts = [turn.text.count(MARKER) for turn in dialogue]
    if images and counts and not any(counts):
        counts[0] = images
    if sum(counts) != images:
        raise BadConversation(f"{sum(counts)} image markers in the texts for {images} images")
    if any(counts[1::2]):
        raise BadConversation("an answer holds an image marker")
    return counts


def _stands_later(text: str) -> bool:
    """Whether an image marker stands after other text."""
    while (text := text.lstrip()).startswith(MARKER):
        text = text[len(MARKER) :]
    return MARKER in text


def _checked(text: str, at: int, guard: re.Pattern[str]) -> str:
    """The text of turn ``at``, in which nothing can be taken for a marker of the layout."""
    # Also after markers were taken out, which can make one: "<im<image>age>".
    if found := guard.search(text):
        raise BadConversation(f"turn {at} contains the special token {found[0]}")
    if _HALF_PAIR.search(text):
        raise BadConversation(f"turn {at} contains half of a surrogate pair, which no tokenizer reads")
    return text


@lru_cache(maxsize=16)
def _guard(specials: tuple[str, ...], end: str) -> re.Pattern[str]:
    """Finds any text that a tokenizer or a server would read as a marker."""
    guarded = {s for s in (*specials, end.strip()) if len(s) >= SHORTEST_SPECIAL} | {MARKER}
    return re.compile("|".join(re.escape(s) for s in sorted(guarded, key=len, reverse=True)))
