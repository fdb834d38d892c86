"""Which weights a name means."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cluster import storage
from cluster.errors import UserError

CHECKOUT = Path(__file__).parent.parent
# The starter's weights come with the checkout: `model` is trained on the instructions of the starter world,
# `base` is its state after the connector stage.
STARTERS = {"starter": CHECKOUT / "train/starter/model", "starter-base": CHECKOUT / "train/starter/base"}


def resolve_model(name: str) -> str:
    """What ``from_pretrained`` and vLLM take for ``name``.

    Args:
        name: ``starter`` or ``starter-base``; a folder in Hugging Face layout; ``s3://…`` of one, which is
            downloaded to ``~/.cache/l2t/models`` once; or a name on the hub, which is returned as it is.

    Raises:
        UserError: a path or URI where there is no model.
    """
    if name in STARTERS:
        return str(_checked(STARTERS[name], name))
    if name.startswith("s3://"):
        return str(_downloaded(name))
    path = Path(name.removeprefix("file://")).expanduser()
    if path.is_dir():
        return str(_checked(path, name))
    # A hub name is "organisation/model" or "model"; everything else was meant as a path.
    looks_like_path = name.startswith(("/", "./", "../", "~", "file://")) or name.count("/") > 1
    if looks_like_path or path.exists():
        raise UserError(
            f"{name}: there is no model folder. Give a folder that holds config.json, or a hub name."
        )
    return name


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


def _checked(path: Path, name: str) -> Path:
    if not (path / "config.json").is_file():
        raise UserError(
            f"{name}: {path} holds no config.json, so it is not a model. A checkpoint of `l2t train` keeps "
            "its model in the folder `model`."
        )
    return path


def _downloaded(uri: str) -> Path:
    """A local copy, keyed by names, sizes and times, so that a replaced model is fetched anew."""
    objects = sorted(storage.list_objects(uri))
    if not any(found.uri == storage.join(uri, "config.json") for found in objects):
        raise UserError(f"{uri}: holds no config.json, so it is not a model. Check the path.")
    state = hashlib.sha256(
        repr([(found.uri, found.size, found.modified) for found in objects]).encode()
    ).hexdigest()
    cache = Path(os.environ.get("L2T_CACHE", "~/.cache/l2t")).expanduser() / "models" / state[:16]
    return cache if cache.is_dir() else storage.download_dir(uri, cache)
