"""What one forward pass reads, and what one worker does in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.mask.encode import Sample
from train.mask.labels import Reason


@dataclass(frozen=True)
class Reject:
    """A row that could not be used."""

    dataset: str
    shard: int
    row: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class LanguageMicrobatch:
    """The conversations of one forward pass.

    Attributes:
        ids: [rows, tokens]; one row where conversations are packed, else padded on the right.
        positions: [axes, rows, tokens], one axis or three (M-RoPE).
        lengths: tokens of each conversation of a packed row; empty where rows are padded.
        pictures: keyword arguments of ``get_image_features``; empty without pictures.
        at: flat positions (row * tokens + column) whose hidden state predicts a learned token.
        targets: those tokens.
        is_response: to which part of the loss each of them belongs.
        names: ids of the conversations.
    """

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    pictures: dict[str, Tensor]
    at: Tensor
    targets: Tensor
    is_response: Tensor
    names: tuple[str, ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Learned tokens (instruction, response)."""
        responses = int(self.is_response.sum())
        return np.array([len(self.targets) - responses, responses])

    def to(self, device: torch.device) -> LanguageMicrobatch:
        """On a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> LanguageMicrobatch:
        """In page-locked memory, from which copies to a GPU overlap with its work."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> LanguageMicrobatch:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: change(value) for name, value in tensors.items()}
        return replace(self, **moved, pictures={name: change(value) for name, value in self.pictures.items()})


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """One worker's share of one optimizer step. ``rows`` is how many rows the whole step takes from the order on all
    workers, rejected ones included; ``stats`` are sums over this worker's rows."""

    microbatches: list[Any]
    rows: int
    rejects: list[Reject] = field(default_factory=list)
    stats: dict[str, int] = field(default_factory=dict)

    def pin_memory(self) -> StepBatch:
        """See :meth:`LanguageMicrobatch.pin_memory`."""
        return replace(self, microbatches=[m.pin_memory() for m in self.microbatches])


def collate(
    samples: Sequence[Sample],
    positions: Sequence[Tensor],
    pictures: dict[str, Tensor],
    names: Sequence[str],
    *,
    packed: bool,
    pad_id: int,
) -> LanguageMicrobatch:
    """One forward pass; no samples give an empty one of a single padding token, which learns nothing.

    Args:
        positions: [axes, tokens] of each sample.
    """
    if not samples:
        nothing = torch.zeros(0, dtype=torch.long)
        return LanguageMicrobatch(
            ids=torch.full((1, 1), pad_id), positions=torch.zeros(1, 1, 1, dtype=torch.long), lengths=(),
            pictures={}, at=nothing, targets=nothing, is_response=nothing.bool(), names=(),
        )  # fmt: skip
    lengths = [len(sample.ids) for sample in samples]
    width = sum(lengths) if packed else max(lengths)
    starts = np.cumsum([0, *lengths[:-1]]) if packed else np.arange(len(samples)) * width
    rows = 1 if packed else len(samples)
    ids = np.full(rows * width, pad_id, np.int64)
    # Padding counts on: where positions began anew, transformers would see packed rows and build a mask for them.
    where = torch.arange(width).repeat(len(positions[0]), rows)
    at, targets, is_response = [], [], []
    for start, length, sample, position in zip(starts, lengths, samples, positions, strict=True):
        ids[start : start + length] = sample.ids
        where[:, start : start + length] = position
        learned = np.flatnonzero(sample.is_learned[1:])
        at.append(learned + start)
        targets.append(sample.ids[1:][learned])
        is_response.append(sample.reasons[1:][learned] == Reason.RESPONSE)
    return LanguageMicrobatch(
        ids=torch.from_numpy(ids).view(rows, width),
        positions=where.view(-1, rows, width),
        lengths=tuple(lengths) if packed else (),
        pictures=pictures,
        at=torch.from_numpy(np.concatenate(at)),
        targets=torch.from_numpy(np.concatenate(targets)),
        is_response=torch.from_numpy(np.concatenate(is_response)),
        names=tuple(names),
    )
