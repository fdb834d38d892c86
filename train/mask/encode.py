"""Conversations to token ids and reasons, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datagen.corpus import BadImage
from datagen.records import Turn
from train.config import Mode
from train.feed.pictures import Placeholder, Size
from train.mask import labels
from train.mask.chatformat import special_ids, special_texts
from train.mask.labels import Reason
from train.mask.render import BadConversation, ChatFormat, ImagePosition, Piece, render, text_of
from train.mask.templates import TemplateSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sample:
    """One encoded conversation: ``ids``, ``reasons`` and ``is_learned`` per token, image tokens included.
    ``dropped`` counts learned tokens cut off at ``max_length``; ``moved`` says that a picture was put before its
    instruction."""

    ids: NDArray[np.int64]
    reasons: NDArray[np.uint8]
    is_learned: NDArray[np.bool_]
    dropped: int = 0
    moved: bool = False


# (turns, sizes of the pictures in the order of their placeholders)
Conversation = tuple[Sequence[Turn], Sequence[Size]]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Everything that turns text into a :class:`Sample`."""

    tokenizer: PreTrainedTokenizerBase
    fmt: ChatFormat
    image_token_id: int
    placeholder: Callable[[Size], Placeholder]
    mode: Mode
    templates: TemplateSet
    max_length: int
    text_only_instructions: bool = False
    image_position: ImagePosition = "first"

    def encode(self, rows: Sequence[Conversation]) -> list[Sample | BadConversation]:
        """Encode rows in one tokenizer call and one pass over flat arrays."""
        specials = special_texts(self.tokenizer)
        results: list[Sample | BadConversation] = []
        rendered: list[list[Piece]] = []
        moved: list[bool] = []
        for turns, sizes in rows:
            try:
                pieces = render(turns, len(sizes), self.fmt, specials, image_position=self.image_position)
                rendered.append(labels.mark_templates(pieces, self.templates))
                moved.append(pieces.moved)
                results.append(_PENDING)
            except BadConversation as error:
                results.append(error)
        if rendered:
            pending = [i for i, result in enumerate(results) if result is _PENDING]
            for i, was_moved, tokens in zip(pending, moved, self._encode_pieces(rendered), strict=True):
                results[i] = self._finish(*tokens, rows[i][1], moved=was_moved)
        return results

    def _encode_pieces(
        self, rendered: list[list[Piece]]
    ) -> list[tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.bool_]]]:
        """(ids, reasons, strays) of each conversation with one placeholder token per image."""
        texts = [text_of(pieces) for pieces in rendered]
        encoded = self.tokenizer(
            texts,
            # A layout that writes its begin-of-text token must not get a second one.
            add_special_tokens=not self.fmt.begin,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])[:-1]
        offsets = np.array([pair for row in encoded["offset_mapping"] for pair in row], np.int64).reshape(
            -1, 2
        )
        offsets += np.repeat(starts, lengths)[:, None]
        spans, visible = labels.character_spans([p for row in rendered for p in row])
        reasons = labels.token_reasons(spans, visible, offsets)
        cuts = np.cumsum(lengths)[:-1]
        flat = np.array([i for row in encoded["input_ids"] for i in row], np.int64)
        strays = labels.strays(flat, offsets, spans, visible, special_ids(self.tokenizer))
        return list(zip(*(np.split(a, cuts) for a in (flat, reasons, strays)), strict=True))

    def _finish(
        self,
        ids: NDArray[Any],
        reasons: NDArray[np.uint8],
        strays: NDArray[np.bool_],
        sizes: Sequence[Size],
        *,
        moved: bool,
    ) -> Sample | BadConversation:
        """Expand image tokens, apply the mode, cut to ``max_length``."""
        if strays.any():
            token = self.tokenizer.convert_ids_to_tokens(int(ids[strays][0]))
            return BadConversation(f"a text makes the special token {token} when it is tokenised")
        at = np.flatnonzero(ids == self.image_token_id)
        if len(at) != len(sizes):
            return BadConversation(f"{len(at)} image tokens for {len(sizes)} images")
        try:
            ids, reasons = self._expand(ids, reasons, at, sizes)
        except BadImage as error:
            return BadConversation(str(error))
        reasons, is_learned = labels.learned(
            reasons, self.mode, has_image=bool(sizes), text_only_instructions=self.text_only_instructions
        )
        dropped = int(is_learned[self.max_length :].sum())
        if (reasons[self.max_length :] == Reason.IMAGE).any():
            return BadConversation(f"image tokens do not fit into max_length {self.max_length}")
        kept = slice(self.max_length)
        ids, reasons, is_learned = ids[kept], reasons[kept], is_learned[kept]
        # The first token has nothing before it to be predicted from.
        if not is_learned[1:].any():
            return BadConversation(f"nothing left to learn within max_length {self.max_length}")
        return Sample(ids=ids, reasons=reasons, is_learned=is_learned, dropped=dropped, moved=moved)

    def _expand(
        self, ids: NDArray[Any], reasons: NDArray[np.uint8], at: NDArray[Any], sizes: Sequence[Size]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Put every picture's own placeholder tokens where its marker stands."""
        pieces, kinds, last = [], [], 0
        for position, size in zip(at, sizes, strict=True):
            image = self.placeholder(size).ids
            pieces += [ids[last:position], image]
            kinds += [reasons[last:position], np.full(len(image), Reason.IMAGE, np.uint8)]
            last = position + 1
        return np.concatenate([*pieces, ids[last:]]), np.concatenate([*kinds, reasons[last:]])


_PENDING = BadConversation("pending")
