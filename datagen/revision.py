"""Which weights made a row: a hash over what is in a model's folder, or the commit of a hub snapshot."""

from __future__ import annotations

from pathlib import Path

from cluster.config import hash_of
from cluster.errors import UserError
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
    """The commit that will be run; fetches the small config file, so a wrong name shows before Ray starts."""
    from huggingface_hub import snapshot_download

    try:
        # …/snapshots/<commit>
        return Path(snapshot_download(name, allow_patterns=["config.json"])).name
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{name}: no such folder here, and the hub did not give a model of that name ({reason}). "
            "Give a local folder, or check the name and the network."
        ) from error
