"""The two losses of L2T in one pass: -sum log p(instruction) and -sum log p(response) (eq. 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from train.batch import LanguageMicrobatch
from train.families import parameters_by_module
from train.model import hidden_states, image_features
from train.pictures import Pictures


class LanguageLoss(nn.Module):
    """Wraps a model so that a forward gives loss sums; what a distributed wrapper has to see as one forward."""

    parts = ("instruction", "response")

    def __init__(self, model: Any, pictures: Pictures, head_rows: int = 4096) -> None:
        super().__init__()
        self.model, self._head_rows = model, head_rows
        # Without pictures tower and connector would get no gradient here and one elsewhere: other workers would wait.
        modules = parameters_by_module(model)
        looks = any(p.requires_grad for m in ("vision_tower", "connector") for p in modules[m].values())
        self._blank = pictures.blank() if looks else None

    def forward(self, batch: LanguageMicrobatch) -> Tensor:
        """fp32 sums of token losses [instruction, response]; a token's loss is -log p given all before it.

        Only hidden states that predict a learned token go through the LM head: with image and masked tokens left out
        that is a fraction of the rows. They go ``head_rows`` at a time and their logits are computed again in the
        backward pass, so the memory of logits does not grow with the batch.
        """
        device = self.model.device
        batch = batch.to(device)
        selected = hidden_states(self.model, batch).flatten(0, 1)[batch.at]
        chunks = [
            self._losses(hidden, targets)
            for hidden, targets in zip(
                selected.split(self._head_rows), batch.targets.split(self._head_rows), strict=True
            )
        ]
        losses = torch.cat(chunks)
        sums = torch.stack([losses[~batch.is_response].sum(), losses[batch.is_response].sum()])
        if not batch.pictures and self.training and self._blank is not None:
            blank = {name: value.to(device) for name, value in self._blank.items()}
            sums = sums + 0.0 * sum(one.sum() for one in image_features(self.model, blank))
        return sums

    def _losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[tokens] fp32; a lone chunk keeps its logits, as computing them twice would save nothing."""

        def losses(rows: Tensor, wanted: Tensor) -> Tensor:
            return functional.cross_entropy(self.model.lm_head(rows).float(), wanted, reduction="none")

        if len(targets) < self._head_rows or not torch.is_grad_enabled():
            return losses(hidden, targets)
        return checkpoint(losses, hidden, targets, use_reentrant=False)
