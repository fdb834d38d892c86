"""What corruptions are compared with: a picture, three measures of one, and the reference's results on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from eval.corruptions.arrays import Pixels
from eval.corruptions.severities import LEVELS, NAMES

DETERMINISTIC = (
    "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "gaussian_blur", "saturate",
)  # fmt: skip
RANDOM = tuple(name for name in NAMES if name not in (*DETERMINISTIC, "jpeg_compression"))
DRAWS = 40


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    """Hills of colour at three scales and a few grey and black patches, which are special in HSV."""
    rng = np.random.default_rng(seed)
    values = rng.random((height, width, 3))
    hills = sum(ndimage.gaussian_filter(values, (s, s, 0)) * s for s in (2, 8, 30))
    low, high = hills.min(axis=(0, 1)), hills.max(axis=(0, 1))
    pixels = ((hills - low) / (high - low) * 255).astype(np.uint8)
    pixels[: height // 8, : width // 8] = 0
    pixels[-(height // 8) :, : width // 8] = 120
    return pixels


def write_golden(path: str, peer: Callable[..., Any]) -> None:
    """The peer's pictures where nothing is random, its mean change and spread where something is."""
    small, large = picture(40, 56), picture(96, 128)
    kept: dict[str, Any] = {"small": small, "large": large}
    for severity in LEVELS:
        for name in DETERMINISTIC:
            kept[f"{name}-{severity}"] = peer(small, severity=severity, corruption_name=name)
        for name in RANDOM:
            draws = [peer(large, severity=severity, corruption_name=name) for _ in range(DRAWS)]
            kept[f"{name}-{severity}"] = np.array([measures(large, draw) for draw in draws])
    np.savez_compressed(path, **kept)


def measures(before: Pixels, after: Pixels) -> tuple[float, float, float]:
    """Mean absolute change, mean and standard deviation of the corrupted picture."""
    return float(np.abs(after.astype(int) - before).mean()), float(after.mean()), float(after.std())
