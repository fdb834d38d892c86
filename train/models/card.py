"""The model card of an exported model: what it was trained from, on, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cluster import datasets
from cluster.config import to_yaml
from train.config import DataSource, TrainConfig

if TYPE_CHECKING:
    from train.checkpoint import Entry, StoredState

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parents[1] / "pages"), undefined=StrictUndefined, trim_blocks=True
)


def model_card(cfg: TrainConfig, stored: StoredState, entry: Entry) -> str:
    """Markdown with the hub's metadata block: base model, data manifests with their hashes, recipe, losses."""
    return _PAGES.get_template("card.md.jinja").render(
        cfg=cfg,
        base=cfg.model or "new (random connector)" if cfg.assemble else cfg.model or "new (random weights)",
        sources=[_source(source) for source in cfg.data],
        state=stored.state,
        entry=entry,
        last=json.loads(stored.log[-1]) if stored.log else {},
        config=to_yaml(cfg),
    )


def _source(source: DataSource) -> dict[str, Any]:
    uris = [uri for uri in (source.instructions, source.corpus) if uri is not None]
    return {
        "manifests": [{"uri": uri, "sha256": datasets.manifest_hash(uri)} for uri in uris],
        "rows": [sum(s.parts["rows"].rows for s in datasets.read_manifest(uri).shards) for uri in uris],
        "settings": source.model_dump(exclude={"corpus", "instructions"}, exclude_defaults=True),
    }
