"""Which weights made a row: a hash over what is in a model's folder, or the commit of a hub snapshot."""

from __future__ import annotations

import hashlib
from pathlib import Path

from datagen.engine import EngineConfig

_PARTS = (".safetensors", ".json", ".jinja", ".model", ".bin")


def model_revision(config: EngineConfig) -> str:
    """``sha256:<16 hex>`` over names and contents of a local model, ``hub:<name>@<commit>`` for a cached hub
    model, ``server:<model>`` behind an address.

    Raises:
        UserError: there is no such model.
    """
    from cluster.models import resolve_model

    if config.backend == "openai":
        return f"server:{config.model}"
    path = Path(resolve_model(config.model))
    if not path.is_dir():
        return f"hub:{config.model}@{_hub_commit(config.model)}"
    digest = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.suffix in _PARTS):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def _hub_commit(name: str) -> str:
    from huggingface_hub import try_to_load_from_cache

    # …/snapshots/<commit>/config.json
    cached = try_to_load_from_cache(name, "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else "unresolved"
