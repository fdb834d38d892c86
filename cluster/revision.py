"""The name of a checkpoint's content: equal weights and equal text handling give equal names, whatever the path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import UserError

# What else decides an answer: architecture, tokens, chat template, image preprocessing.
_TEXT = ("config.json", "tokenizer*.json", "vocab.json", "merges.txt", "*.jinja", "*processor_config.json")


def weights_revision(folder: str | Path) -> str:
    """sha256 over names and contents of the safetensors files of a folder, in order of their names.

    Raises:
        UserError: the folder holds no weights.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{folder}: holds no .safetensors weights (other formats are not loaded: they can run code)"
        )
    return _digest(files)


def text_revision(folder: str | Path) -> str:
    """sha256 over tokenizer, chat template, preprocessing and architecture: a change of these is another model, too."""
    return _digest(sorted({path for pattern in _TEXT for path in Path(folder).glob(pattern)}))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
