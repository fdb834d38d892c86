"""The name of a checkpoint's content: equal weights and equal text handling give equal names, whatever the
path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import UserError
from cluster.models import resolve_model

# What else decides an answer: architecture, tokens, chat template, image preprocessing.
_TEXT = ("config.json", "tokenizer*.json", "vocab.json", "merges.txt", "*.jinja", "*processor_config.json")
_BLOCK = 1 << 22


def local_folder(model: str) -> str:
    """The folder of a model name; a hub name is looked up in the local cache, or downloaded where there is a
    network.

    Raises:
        UserError: no such model here.
    """
    found = resolve_model(model)
    if Path(found).is_dir():
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(found))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise UserError(
            f"{model}: neither a folder here nor a model that the hub gives us: {error}"
        ) from error


def weights_revision(folder: str) -> str:
    """sha256 over the safetensors files in order of their names: the same name as
    ``train.export.weights_revision`` gives (a test holds the two together), without loading torch.

    Raises:
        UserError: the folder holds no weights.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder}: holds no .safetensors weights")
    return _digest(files)


def text_revision(folder: str) -> str:
    """sha256 over tokenizer, chat template, preprocessing and architecture: a change of these is another run,
    too.
    """
    return _digest(sorted({path for pattern in _TEXT for path in Path(folder).glob(pattern)}))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
