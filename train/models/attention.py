"""Attention inside the language model where transformers' own would compute in vain or slowly.

``packed``: conversations lie one after the other in one row and each attends to itself alone. Nothing is computed
between conversations: on CUDA torch's variable-length kernel takes the row as it is, elsewhere every conversation is a
call of its own, so no mask of tokens x tokens is ever built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.models.families import language_model


@dataclass(frozen=True)
class Spans:
    """Where the conversations of a packed row lie: their lengths, and on the device the ends of each."""

    lengths: tuple[int, ...]
    bounds: Tensor  # int32 [conversations + 1]

    @staticmethod
    def of(lengths: Sequence[int], device: torch.device) -> Spans:
        """From the lengths."""
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return Spans(tuple(lengths), ends.to(device, non_blocking=True))


# Not traced by torch.compile: every step has other lengths, and each would be compiled anew. The rest of a layer is.
@torch.compiler.disable
def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float,
    spans: Spans | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each conversation of a packed row, or within each row where ``spans`` is None.

    Args:
        query: [rows, heads, tokens, size]; key and value the same with fewer heads where they are shared.

    Returns:
        [rows, tokens, heads, size]
    """
    shared = query.shape[1] != key.shape[1]

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=shared
        )

    if spans is None:
        return causal(query, key, value).transpose(1, 2), None
    if query.is_cuda and value.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
        longest = max(spans.lengths)
        # window_size (-1, 0): nothing to the right.
        output: Any = varlen_attn(
            q,
            k,
            v,
            spans.bounds,
            spans.bounds,
            longest,
            longest,
            scale=scaling,
            window_size=(-1, 0),
            enable_gqa=shared,
        )
        return output.unsqueeze(0), None
    pieces = zip(*(x.split(spans.lengths, dim=2) for x in (query, key, value)), strict=True)
    return torch.cat([causal(*piece) for piece in pieces], dim=2).transpose(1, 2), None


def explicit_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention of padded rows as two matrix products, for short sequences in bf16 on CPUs.

    torch's fused CPU kernel has a bf16 backward that takes ten times as long as fp32's (15 ms against 1.8 ms at 32
    rows, 6 heads, 40 tokens), which eats all that bf16 matrix products gain. Autocast would make the softmax fp32 and
    the whole twice as slow at 100 tokens; inside, the kernel adds up in fp32 either way.
    """
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    causal = options.get("is_causal")
    with torch.autocast(query.device.type, enabled=False):
        scores = (query.to(value.dtype) * options["scaling"]) @ key.to(value.dtype).transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        elif getattr(module, "is_causal", False) if causal is None else causal:
            tokens = scores.shape[-1]
            scores = scores + torch.full((tokens, tokens), float("-inf"), dtype=scores.dtype).triu(1)
        output = scores.softmax(-1) @ value
    return output.transpose(1, 2).contiguous(), None


def use_packed_attention(model: Any) -> None:
    """Switch the language model (not the tower) to :func:`packed_attention`; nothing of it is stored with weights."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register("packed", packed_attention)
    AttentionMaskInterface.register("packed", lambda *args, **options: None)
    language: Any = language_model(model)
    language.config._attn_implementation = "packed"


def use_explicit_attention(model: Any) -> None:
    """Switch tower and language model to :func:`explicit_attention`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register("explicit", explicit_attention)
    AttentionMaskInterface.register("explicit", sdpa_mask)
    model.set_attn_implementation("explicit")
