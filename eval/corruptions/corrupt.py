"""One picture, one corruption, one severity, always the same result.

    damaged = corrupt(picture, "gaussian_noise", 3)

The random numbers follow from the picture's pixels, the corruption and the severity, so neither order, process nor
thread matters, and all models see the same noise. Nothing global is read or seeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cluster.errors import UserError, did_you_mean
from eval.corruptions import blur, digital, noise, weather
from eval.corruptions.arrays import Pixels
from eval.corruptions.severities import LEVELS, NAMES, SEVERITIES

if TYPE_CHECKING:
    from PIL.Image import Image

SEED_RULE = "corruption-1"
Corruption = Callable[[Pixels, Sequence[float], np.random.Generator], Pixels]

CORRUPTIONS: dict[str, Corruption] = {
    name: next(getattr(module, name) for module in (noise, blur, weather, digital) if hasattr(module, name))
    for name in NAMES
}


def corrupt(
    image: Image | Pixels, corruption: str, severity: int, *, photographs: Sequence[Pixels] = ()
) -> Pixels:
    """The corrupted picture, [height, width, 3] uint8 RGB of the same size.

    Args:
        image: a PIL picture (converted to RGB) or [height, width, 3] uint8, at least 1 x 1.
        corruption: one of `severities.NAMES`.
        severity: 1 to 5.
        photographs: ImageNet-C's own for ``frost`` (`ice.read_photographs`); without them ice is drawn.

    Raises:
        UserError: no such corruption or severity.
    """
    check(corruption, severity)
    pixels = as_pixels(image)
    rng = np.random.default_rng(seed_of(pixels, corruption, severity))
    level = SEVERITIES[corruption][severity - 1]
    if corruption == "frost":
        return weather.frost(pixels, level, rng, photographs)
    return CORRUPTIONS[corruption](pixels, level, rng)


def check(corruption: str, severity: int) -> None:
    """Raises UserError unless there is such a corruption and severity."""
    if corruption not in SEVERITIES:
        raise UserError(f"corruption {corruption!r} is unknown{did_you_mean(corruption, NAMES)}")
    if severity not in LEVELS:
        raise UserError(f"severity {severity} is unknown; there are 1 to 5")


def as_pixels(image: Image | Pixels) -> Pixels:
    """Contiguous RGB pixels of either kind of picture."""
    if not isinstance(image, np.ndarray):
        return np.asarray(image.convert("RGB"))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"not an RGB picture of bytes: {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)


def seed_of(pixels: Pixels, corruption: str, severity: int) -> int:
    """256 bits from what the picture shows (not from how it was stored), the corruption and the severity."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{SEED_RULE}:{corruption}:{severity}:{width}x{height}:".encode())
    digest.update(pixels.data)
    return int.from_bytes(digest.digest(), "big")
