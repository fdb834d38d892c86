"""Low-rank adapters on the language model, by peft: LoRA (arXiv 2106.09685), DoRA (2402.09353), and with the frozen
weights in 4 bits QLoRA (2305.14314)."""

from __future__ import annotations

from typing import Any

from cluster.errors import UserError
from train.config import Adapter
from train.models.families import family_of, parameters_by_module


def add_adapter(model: Any, adapter: Adapter) -> Any:
    """Put adapters into ``model`` (changed in place) and return peft's wrapper, which can merge them.

    The language model's own weights are frozen; tower and connector stay as they were, so the connector is trained in
    full beside the adapters, as LLaVA's LoRA recipe does.

    Raises:
        UserError: no layer has one of the names.
    """
    from peft import LoraConfig, get_peft_model

    modules = parameters_by_module(model)
    trained = [p for name in ("vision_tower", "connector") for p in modules[name].values() if p.requires_grad]
    layers = rf"model\.{family_of(model.config).language}\..*\.({'|'.join(adapter.targets)})"
    settings = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_dora=adapter.kind == "dora",
        target_modules=layers,
    )
    try:
        wrapped = get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(
            f"adapter.targets: the language model has none of {', '.join(adapter.targets)}"
        ) from error
    for parameter in trained:
        parameter.requires_grad_(True)
    return wrapped
