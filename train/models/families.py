"""What the model families do not have in common: where their parts sit, and how they count positions.

Everything else (features of a picture, its placeholder tokens, the language model) is asked of transformers' own
classes and processors, so a family is a few names and no code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cluster.errors import UserError
from train.config import Module


@dataclass(frozen=True, kw_only=True)
class Family:
    """Names inside ``model.model`` of one of transformers' image-text classes.

    Attributes:
        tower, language: the modules.
        connector: prefixes of the parameters between them; looked at first, because Qwen2-VL keeps its merger
            inside the tower.
        mrope: positions have three axes (time, height, width; Qwen2-VL section 2.1).
        leading: axes that the class wants before the list of tiles.
    """

    tower: str
    language: str
    connector: tuple[str, ...]
    mrope: bool = False
    leading: int = 0


_LLAVA = Family(
    tower="vision_tower", language="language_model", connector=("multi_modal_projector.", "image_newline")
)
_QWEN = Family(tower="visual", language="language_model", connector=("visual.merger.",), mrope=True)
_IDEFICS = Family(tower="vision_model", language="text_model", connector=("connector.",), leading=1)

FAMILIES: dict[str, Family] = {
    "llava": _LLAVA,
    "llava_next": _LLAVA,
    # Every picture is tiled, also of a conversation with several, as vLLM serves it (the paper gives those one tile).
    "llava_onevision": _LLAVA,
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
}


def family_of(config: Any) -> Family:
    """The family of a model's configuration.

    Raises:
        UserError: one that the trainer does not know.
    """
    if config.model_type not in FAMILIES:
        raise UserError(
            f"model_type {config.model_type!r} is not trained here; known are {', '.join(FAMILIES)}"
        )
    return FAMILIES[config.model_type]


def language_model(model: Any) -> nn.Module:
    """The language model without its head."""
    return getattr(model.model, family_of(model.config).language)


def vision_tower(model: Any) -> nn.Module:
    """The vision tower (with the connector, where the family keeps it inside)."""
    return getattr(model.model, family_of(model.config).tower)


def parameters_by_module(model: Any) -> dict[Module, dict[str, nn.Parameter]]:
    """Every parameter under the module whose learning rate it follows; the (possibly tied) LM head is in the language
    model."""
    family = family_of(model.config)
    found: dict[Module, dict[str, nn.Parameter]] = {
        "vision_tower": {},
        "connector": {},
        "language_model": {},
    }
    for name, parameter in model.named_parameters():
        inner = name.removeprefix("model.")
        if inner.startswith(family.connector):
            found["connector"][name] = parameter
        elif inner.startswith(family.tower + "."):
            found["vision_tower"][name] = parameter
        else:
            found["language_model"][name] = parameter
    return found


class MRope:
    """Three-axis positions, computed by the family's own class on a model without weights, so that loader processes
    need none."""

    def __init__(self, config: Any) -> None:
        from transformers import AutoModel

        with torch.device("meta"):
            self._model: Any = AutoModel.from_config(config)
        self._image = config.image_token_id

    def __call__(self, ids: torch.Tensor, grids: torch.Tensor | None) -> torch.Tensor:
        """[3, tokens] of one conversation.

        Args:
            ids: [tokens].
            grids: [pictures, 3] time, height and width in patches; None without pictures.
        """
        if grids is None:
            return torch.arange(len(ids)).expand(3, -1)
        kinds = (ids == self._image).int()
        positions, _ = self._model.get_rope_index(ids[None], kinds[None], image_grid_thw=grids)
        return positions[:, 0]
