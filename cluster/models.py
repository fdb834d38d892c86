"""Which weights a name means, and that loading them runs nobody's code.

Weights are read from safetensors only: a pickle can run anything. Classes are those of the installed transformers; a
model that brings its own (``auto_map``) is refused here, because transformers would ask at the terminal whether to run
them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cluster import storage
from cluster.errors import UserError

CHECKOUT = Path(__file__).parent.parent
# The starter's weights come with the checkout: `model` is trained on the instructions of the starter world,
# `base` is its state after the connector stage.
STARTERS = {"starter": CHECKOUT / "train/starter/model", "starter-base": CHECKOUT / "train/starter/base"}
# What torch and its friends unpickle, and code; never fetched from a hub either.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npy", "*.npz", "*.h5", "*.msgpack")
# Files that can name classes; small in every real model.
CLASS_FILES = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
)
MAX_CONFIG_BYTES = 16 << 20


def resolve_model(name: str) -> str:
    """What ``from_pretrained`` and vLLM take for ``name``.

    Args:
        name: ``starter`` or ``starter-base``; a folder in Hugging Face layout; ``s3://…`` of one, which is
            downloaded to ``~/.cache/l2t/models`` once; or a name on the hub, which is returned as it is.

    Raises:
        UserError: a path or URI where there is no model, or one that could only be loaded by running its own code.
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
        UserError: no such model here, or one that could only be loaded by running its own code.
    """
    found = resolve_model(model)
    if Path(found).is_dir():
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(found, ignore_patterns=[*PICKLES, "*.py"])
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise UserError(
            f"{model}: neither a folder here nor a model that the hub gives us: {error}"
        ) from error
    return str(_checked(Path(folder), model))


def _checked(path: Path, name: str) -> Path:
    if not (path / "config.json").is_file():
        raise UserError(
            f"{name}: {path} holds no config.json, so it is not a model. A checkpoint of `l2t train` keeps "
            "its model in the folder `model`."
        )
    pickles = [found.name for pattern in PICKLES for found in path.glob(pattern)]
    if pickles and not any(path.glob("*.safetensors")):
        raise UserError(
            f"{name}: {path} holds {sorted(pickles)[0]} and no .safetensors. Pickled weights can run code and are not "
            "loaded; have them written as safetensors (save_pretrained, where you trust them)."
        )
    _refuse_own_code(path, name)
    return path


def _refuse_own_code(path: Path, name: str) -> None:
    """Raises UserError where a class of the model is its own and not one of the installed transformers."""
    files = {file: _json(path / file, name) for file in CLASS_FILES if (path / file).is_file()}
    asking = [file for file, values in files.items() if "auto_map" in values]
    if not asking:
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind = files["config.json"].get("model_type")
    # With a class of its own for this type transformers leaves auto_map alone.
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING_NAMES:
        raise UserError(
            f"{name}: {asking[0]} asks to run code that comes with the model (auto_map; model_type is {kind!r}). That "
            "is never done here. Use a model that the installed transformers knows by itself."
        )


def _json(path: Path, name: str) -> dict[str, Any]:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise UserError(f"{name}: {path.name} has {path.stat().st_size:,} bytes; no config is that long")
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: {path} is not readable as JSON ({error}). Copy the model again.") from error
    if not isinstance(values, dict):
        raise UserError(f"{name}: {path} is not a JSON object. Copy the model again.")
    return values


def _downloaded(uri: str) -> Path:
    """A local copy, keyed by names, sizes and times, so that a replaced model is fetched anew."""
    objects = sorted(storage.list_objects(uri))
    if not any(found.uri == storage.join(uri, "config.json") for found in objects):
        raise UserError(f"{uri}: holds no config.json, so it is not a model. Check the path.")
    state = hashlib.sha256(
        repr([(found.uri, found.size, found.modified) for found in objects]).encode()
    ).hexdigest()
    cache = Path(os.environ.get("L2T_CACHE", "~/.cache/l2t")).expanduser() / "models" / state[:16]
    return _checked(cache if cache.is_dir() else storage.download_dir(uri, cache, replace=False), uri)
