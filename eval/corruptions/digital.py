"""Brightness, contrast, saturation, elastic transform, pixelation and JPEG of ImageNet-C."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from eval.corruptions.arrays import Floats, Pixels, to_pixels


def brightness(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """HSV's value raised by ``level[0]``, hue and saturation kept."""
    # Hue and saturation stay when all channels grow by one factor, which follows from the largest of them alone.
    largest = np.arange(256)
    factor = np.minimum(largest + 255 * level[0], 255) / np.maximum(largest, 1)
    top = _largest(x)
    out: Floats = x * np.take(factor.astype(np.float32), top)[..., None]
    out[top == 0] = 255 * level[0]
    return to_pixels(out)


def _largest(x: Pixels) -> Pixels:
    """Largest of three channels [height, width]; numpy's maximum over so short an axis takes 5 times as long."""
    return np.maximum(np.maximum(x[..., 0], x[..., 1]), x[..., 2])


def contrast(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Every channel drawn to its own mean; ``level[0]`` of the distance stays."""
    import cv2

    mean = np.array(cv2.mean(x)[:3])
    table = to_pixels((np.arange(256)[:, None] - mean) * level[0] + mean)
    out: Pixels = np.asarray(cv2.LUT(x, table[None]), dtype=np.uint8)
    return out


def saturate(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """HSV's saturation times ``level[0]`` plus ``level[1]``.

    Grey has hue 0, so where ``level[1]`` is not 0 it turns reddish, as in ImageNet-C.
    """
    top, low = _largest(x), 255 - _largest(255 - x)
    largest, least = np.ogrid[:256, :256]
    saturation = (largest - least) / np.maximum(largest, 1)
    raised = np.clip(saturation * level[0] + level[1], 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(saturation > 0, raised / saturation, 1).astype(np.float32)
    value = top[..., None].astype(np.float32)
    out = value - (value - x) * np.take(factor, top.astype(np.int32) * 256 + low)[..., None]
    if level[1] > 0:
        grey = top == low
        out[..., 1:][grey] = top[grey, None] * np.float32(1 - min(level[1], 1))
    return to_pixels(out)


def elastic_transform(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Every pixel fetched from a smooth random displacement away.

    Displacements are uniform in ±0.5 % of the height, smoothed over 1 % of each side and multiplied by ``level[0]``.
    """
    import cv2

    height, width = x.shape[:2]

    def displacement() -> Floats:
        sides = [2 * int(3 * 0.01 * side + 0.5) + 1 for side in (width, height)]
        noise = (rng.random((height, width), dtype=np.float32) * 2 - 1) * np.float32(0.005 * height)
        out: Floats = cv2.GaussianBlur(
            noise, tuple(sides), 0.01 * width, sigmaY=0.01 * height, borderType=cv2.BORDER_REFLECT
        )
        return out * np.float32(level[0])

    y, x_at = np.ogrid[:height, :width]
    map_x = displacement() + x_at.astype(np.float32)
    map_y = displacement() + y.astype(np.float32)
    return to_pixels(
        cv2.remap(x.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )


def pixelate(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Box-averaged to ``level[0]`` of each side and enlarged again."""
    from PIL import Image

    height, width = x.shape[:2]
    small = (max(1, int(width * level[0])), max(1, int(height * level[0])))
    picture = Image.fromarray(x).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Through JPEG of quality ``level[0]``."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(x).save(data, "JPEG", quality=int(level[0]))
    with Image.open(data) as picture:
        return np.asarray(picture.convert("RGB"))
