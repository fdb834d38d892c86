"""A checkpoint in transformers that reads prompts with one picture each: what teacher forcing and attention share.

Prompts are those of the generating engine: the model's own chat template, in which nothing of a question is read as
the template's (`datagen.chat`), and no special token but those that the template writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.errors import UserError
from datagen.records import Turn

if TYPE_CHECKING:
    from PIL.Image import Image

A = TypeVar("A")
R = TypeVar("R")


class BadPicture(ValueError):
    """The processor refuses a picture (Qwen2-VL those that are more than 200 times as long as wide)."""


@dataclass(frozen=True)
class Refused:
    """Why a sample could not be read."""

    reason: str


class SeeingModel:
    """Model, processor and template.

    Raises:
        UserError: transformers cannot load it, or it has no chat template.
    """

    def __init__(self, model: str, dtype: str = "float32", device: str = "cpu") -> None:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from datagen.chat import ChatTemplate

        try:
            self.processor = AutoProcessor.from_pretrained(model)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                model, dtype=getattr(torch, dtype), use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{model}: transformers cannot load it to be shown pictures: {error}") from error
        self.device = torch.device(device)
        self.model = loaded.to(self.device).eval()
        # Right padding keeps every position's context the same as without padding.
        self.processor.tokenizer.padding_side = "right"
        self.template = ChatTemplate.load(model)
        if not self.template.parts:
            # Templates of plain text have the placeholder put into the text, so it must be the processor's.
            self.template = ChatTemplate.load(model, self.processor.image_token)

    def prompt(self, question: str) -> str:
        """The text that asks for an answer, as the engine of ``l2t eval run`` gets it."""
        return self.template.render([Turn(role="user", text=question)], has_image=True)

    def inputs(self, texts: Sequence[str], images: Sequence[Image]) -> Any:
        """What the model reads: texts with one picture each, padded on the right.

        Raises:
            BadPicture: the processor refuses one of them.
        """
        try:
            inputs = self.processor(
                text=list(texts),
                # A list per text: families with several tiles a picture cannot tell otherwise whose a picture is.
                images=[[image.convert("RGB")] for image in images],
                return_tensors="pt",
                padding=True,
                add_special_tokens=False,
            )
        except ValueError as error:
            raise BadPicture(str(error)) from error
        # Models whose positions have three axes work these out from the kinds of tokens.
        if hasattr(self.model.model, "get_rope_index") and "mm_token_type_ids" not in inputs:
            inputs["mm_token_type_ids"] = self.is_image(inputs["input_ids"]).int()
        return inputs.to(self.device, dtype=self.model.dtype)

    def is_image(self, ids: Any) -> Any:
        """Which tokens are the picture's."""
        return ids == self.model.config.image_token_id


def in_batches(
    asked: Sequence[A], batch: int, length: Callable[[A], int], read: Callable[[Sequence[A]], Sequence[R]]
) -> list[R | Refused]:
    """What ``read`` makes of each, in order; those of similar length share a pass.

    A batch with a picture that the processor refuses is read again one by one, so that it alone is lost.
    """
    found: dict[int, R | Refused] = {}
    places = sorted(range(len(asked)), key=lambda place: length(asked[place]))
    for start in range(0, len(places), batch):
        together = places[start : start + batch]
        try:
            found.update(zip(together, read([asked[place] for place in together]), strict=True))
        except BadPicture as error:
            if len(together) == 1:
                found[together[0]] = Refused(f"image: {error}")
            else:
                alone = [asked[place] for place in together]
                found.update(zip(together, in_batches(alone, 1, length, read), strict=True))
    return [found[place] for place in range(len(asked))]
