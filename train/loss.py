"""The two losses of L2T in one pass: -sum log p(instruction) and -sum log p(response) (eq. 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from train.feed.batch import LanguageMicrobatch
from train.feed.pictures import Pictures
from train.models.families import parameters_by_module
from train.models.model import hidden_states


class LanguageLoss(nn.Module):
    """Wraps a model so that a forward gives loss sums; what a distributed wrapper has to see as one forward."""

    parts = ("instruction", "response")

    def __init__(
        self, model: Any, pictures: Pictures, head_rows: int = 4096, *, sharded: bool = False
    ) -> None:
        super().__init__()
        self.model, self._head_rows, self._sharded = model, head_rows, sharded
        modules = parameters_by_module(model)
        looks = any(p.requires_grad for m in ("vision_tower", "connector") for p in modules[m].values())
        self._blank = pictures.blank() if looks or sharded else None

    def forward(self, batch: LanguageMicrobatch) -> Tensor:
        """fp32 sums of token losses [instruction, response]; a token's loss is -log p given all before it.

        Only hidden states that predict a learned token go through the LM head: with image and masked tokens left out
        that is a fraction of the rows. They go ``head_rows`` at a time and their logits are computed again in the
        backward pass, so the memory of logits does not grow with the batch.
        """
        device = self.model.device
        batch = batch.to(device)
        stand_in = None
        if not batch.pictures and self._blank is not None and (self.training or self._sharded):
            stand_in = {name: value.to(device) for name, value in self._blank.items()}
        selected = hidden_states(self.model, batch, stand_in).flatten(0, 1)[batch.at]
        chunks = [
            self._losses(hidden, targets)
            for hidden, targets in zip(
                selected.split(self._head_rows), batch.targets.split(self._head_rows), strict=True
            )
        ]
        losses = torch.cat(chunks)
        return torch.stack([losses[~batch.is_response].sum(), losses[batch.is_response].sum()])

    def _losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[tokens] fp32; a lone chunk keeps its logits, as computing them twice would save nothing."""

        def losses(rows: Tensor, wanted: Tensor) -> Tensor:
            return functional.cross_entropy(self.model.lm_head(rows).float(), wanted, reduction="none")

        if len(targets) < self._head_rows or not torch.is_grad_enabled():
            return losses(hidden, targets)
        return checkpoint(losses, hidden, targets, use_reentrant=False)
