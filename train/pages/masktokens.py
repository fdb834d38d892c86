"""Token ids back to pieces of text, one by one, for looking at a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from train.mask.labels import Reason
from train.mask.render import BadConversation

if TYPE_CHECKING:
    from train.mask.encode import Sample

BROKEN = "\ufffd"
MAX_BYTES = 4  # of one character in UTF-8, so at most as many tokens


class MaskToken(NamedTuple):
    """One token. ``text`` is what it adds to the row; a character cut into several tokens stands whole at the first
    of them, and the others have no text and ``part`` set."""

    text: str
    token_id: int
    reason: str
    learned: bool
    part: bool = False


@dataclass(frozen=True, kw_only=True)
class MaskRow:
    """One conversation for the page; ``note`` says what is special about it, such as why it was rejected."""

    title: str
    tokens: Sequence[MaskToken]
    note: str = ""


def mask_rows(
    samples: Sequence[Sample | BadConversation],
    tokenizer: Any,
    image_token_id: int,
    *,
    names: Sequence[str] = (),
) -> list[MaskRow]:
    """Encoded conversations as rows of the mask page.

    Args:
        tokenizer: of transformers; only ``decode`` and its length are used.
        names: of the rows, where they have any; else they are counted from 0.
    """
    rows = []
    for number, sample in enumerate(samples):
        title = f"row {names[number] if names else number}"
        if isinstance(sample, BadConversation):
            rows.append(MaskRow(title=title, tokens=(), note=f"rejected: {sample}"))
            continue
        ids = [int(i) for i in sample.ids]
        reasons = [Reason(int(r)).name.lower() for r in sample.reasons]
        tokens = [
            MaskToken(text, ids[at], reasons[at], bool(sample.is_learned[at]), part)
            for at, (text, part) in enumerate(pieces(ids, tokenizer, image_token_id))
        ]
        cut = f"{sample.dropped} learned tokens cut off at max_length" if sample.dropped else ""
        rows.append(MaskRow(title=title, tokens=tokens, note=cut))
    return rows


def pieces(ids: Sequence[int], tokenizer: Any, image_token_id: int) -> Iterator[tuple[str, bool]]:
    """(text, whether it belongs to the character of the token before) of each token.

    Each is decoded behind its predecessor, because tokenizers of the SentencePiece kind drop the blank of a text's
    first token. Byte tokens are held back until they make a character.
    """
    size = len(tokenizer)

    def decoded(part: Sequence[int]) -> str:
        known = [i for i in part if 0 <= i < size]
        return (
            tokenizer.decode(known, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            if known
            else ""
        )

    before: list[int] = []  # context, already said
    at = 0
    while at < len(ids):
        if ids[at] == image_token_id:
            yield "<image>", False
            before, at = [image_token_id], at + 1
            continue
        said = decoded(before)
        count, text = 1, decoded([*before, ids[at]])[len(said) :]
        first = text
        while text.endswith(BROKEN) and count < MAX_BYTES and at + count < len(ids):
            count += 1
            text = decoded([*before, *ids[at : at + count]])[len(said) :]
        if text.endswith(BROKEN) or (count > 1 and text.startswith(BROKEN)):
            # No character came of it: a stray byte, or the text itself holds this sign. It stands alone.
            count, text = 1, first
        yield text, False
        yield from [("", True)] * (count - 1)
        before, at = list(ids[at : at + count]), at + count
