"""Conversations to token ids and reasons, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datagen.records import Turn
from train import labels
from train.config import Mode
from train.labels import Reason
from train.render import BadConversation, ChatFormat, Piece, render, text_of
from train.templates import TemplateSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sample:
    """One encoded conversation: ``ids``, ``reasons`` and ``is_learned`` per token, image tokens included.
    ``dropped`` counts learned tokens cut off at ``max_length``."""

    ids: NDArray[np.int64]
    reasons: NDArray[np.uint8]
    is_learned: NDArray[np.bool_]
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Everything that turns text into a :class:`Sample`."""

    tokenizer: PreTrainedTokenizerBase
    fmt: ChatFormat
    image_token_id: int
    tokens_per_image: int
    mode: Mode
    templates: TemplateSet
    max_length: int
    text_only_instructions: bool = False

    def encode(self, rows: Sequence[tuple[Sequence[Turn], int]]) -> list[Sample | BadConversation]:
        """Encode ``(turns, number of images)`` rows in one tokenizer call and one pass over flat arrays."""
        specials = [t for t in self.tokenizer.all_special_tokens if t != self.fmt.image]
        results: list[Sample | BadConversation] = []
        rendered: list[list[Piece]] = []
        for turns, images in rows:
            try:
                rendered.append(
                    labels.mark_templates(render(turns, images, self.fmt, specials), self.templates)
                )
                results.append(_PENDING)
            except BadConversation as error:
                results.append(error)
        if rendered:
            samples = iter(self._encode_pieces(rendered))
            pending = [i for i, result in enumerate(results) if result is _PENDING]
            for i in pending:
                results[i] = self._finish(next(samples), images=rows[i][1])
        return results

    def _encode_pieces(self, rendered: list[list[Piece]]) -> list[tuple[NDArray[Any], NDArray[np.uint8]]]:
        """(ids, reasons) of each conversation with one placeholder token per image."""
        texts = [text_of(pieces) for pieces in rendered]
        encoded = self.tokenizer(
            texts, return_offsets_mapping=True, return_attention_mask=False, padding=False
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])[:-1]
        offsets = np.array([pair for row in encoded["offset_mapping"] for pair in row], np.int64).reshape(
            -1, 2
        )
        offsets += np.repeat(starts, lengths)[:, None]
        reasons = labels.token_reasons(*labels.character_spans([p for row in rendered for p in row]), offsets)
        cuts = np.cumsum(lengths)[:-1]
        flat = np.array([i for row in encoded["input_ids"] for i in row], np.int64)
        return list(zip(np.split(flat, cuts), np.split(reasons, cuts), strict=True))

    def _finish(
        self, encoded: tuple[NDArray[Any], NDArray[np.uint8]], *, images: int
    ) -> Sample | BadConversation:
        """Expand image tokens, apply the mode, cut to ``max_length``."""
        ids, reasons = encoded
        is_image = ids == self.image_token_id
        if int(is_image.sum()) != images:
            return BadConversation(f"{int(is_image.sum())} image tokens for {images} images")
        if images:
            repeats = np.where(is_image, self.tokens_per_image, 1)
            ids, reasons = np.repeat(ids, repeats), np.repeat(reasons, repeats)
        reasons, is_learned = labels.learned(
            reasons, self.mode, has_image=images > 0, text_only_instructions=self.text_only_instructions
        )
        dropped = int(is_learned[self.max_length :].sum())
        if (reasons[self.max_length :] == Reason.IMAGE).any():
            return BadConversation(f"image tokens do not fit into max_length {self.max_length}")
        kept = slice(self.max_length)
        ids, reasons, is_learned = ids[kept], reasons[kept], is_learned[kept]
        # The first token has nothing before it to be predicted from.
        if not is_learned[1:].any():
            return BadConversation(f"nothing left to learn within max_length {self.max_length}")
        return Sample(ids=ids, reasons=reasons, is_learned=is_learned, dropped=dropped)


_PENDING = BadConversation("pending")
