"""The two losses of L2T in one pass: -sum log p(instruction) and -sum log p(response) (eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.data import LanguageMicrobatch
from train.model import hidden_states, image_features
from train.pixels import Pixels

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration


class LanguageLoss(nn.Module):
    """Wraps a model so that a forward gives loss sums; what a distributed wrapper has to see as one forward."""

    parts = ("instruction", "response")

    def __init__(self, model: LlavaForConditionalGeneration, pixels: Pixels) -> None:
        super().__init__()
        self.model = model
        self._pixels = pixels

    def forward(self, batch: LanguageMicrobatch) -> Tensor:
        """fp32 sums of token losses [instruction, response]; a token's loss is -log p given all before it.

        Only hidden states that predict a learned token go through the LM head: with image and masked tokens left out
        that is a fraction of the rows.
        """
        device = self.model.device
        picture = self._pixels.batch(batch.pictures).to(device) if batch.pictures else None
        hidden = hidden_states(self.model, torch.from_numpy(batch.ids).to(device), picture)
        selected = hidden.flatten(0, 1)[torch.from_numpy(batch.at).to(device)]
        logits = self.model.lm_head(selected).float()
        losses = functional.cross_entropy(
            logits, torch.from_numpy(batch.targets).to(device), reduction="none"
        )
        response = torch.from_numpy(batch.is_response).to(device)
        sums = torch.stack([losses[~response].sum(), losses[response].sum()])
        if picture is None and self.training and self._reaches_images():
            # Without pictures the tower would get no gradient here and one elsewhere: other workers would wait for it.
            sums = sums + 0.0 * image_features(self.model, self._pixels.blank().to(device)).sum()
        return sums

    def _reaches_images(self) -> bool:
        llava: Any = self.model.model
        return any(
            p.requires_grad for m in (llava.vision_tower, llava.multi_modal_projector) for p in m.parameters()
        )
