"""Which weights made a row: a hash over what is in a model's folder, or the commit of a hub snapshot."""

from __future__ import annotations

from pathlib import Path

from cluster.config import hash_of
from cluster.revision import text_revision, weights_revision
from datagen.engine import EngineConfig


def model_revision(config: EngineConfig) -> str:
    """``sha256:<16 hex>`` over weights, tokenizer and preprocessing of a local model, ``hub:<name>@<commit>`` for
    a cached hub model, ``server:<model>`` behind an address.

    Raises:
        UserError: there is no such model, or it has no safetensors.
    """
    from cluster.models import resolve_model

    if config.backend == "openai":
        return f"server:{config.model}"
    path = Path(resolve_model(config.model))
    if not path.is_dir():
        return f"hub:{config.model}@{_hub_commit(config.model)}"
    content = hash_of([weights_revision(path), text_revision(path)])
    return f"sha256:{content[:16]}"


def _hub_commit(name: str) -> str:
    from huggingface_hub import try_to_load_from_cache

    # …/snapshots/<commit>/config.json
    cached = try_to_load_from_cache(name, "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else "unresolved"
