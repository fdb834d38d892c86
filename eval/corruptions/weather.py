"""Snow, fog, frost and spatter of ImageNet-C."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.corruptions.arrays import Floats, Pixels, smoothed, streaked, to_pixels, zoomed
from eval.corruptions.ice import frosted_glass

TURQUOISE = np.array([175, 238, 238], dtype=np.float32)  # drops of water
MUD = np.array([63, 42, 20], dtype=np.float32)


def snow(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Flakes, streaked by their fall, over a whitened picture.

    ``level``: mean and deviation of the noise that flakes are the peaks of, their size, the threshold, reach and
    deviation of the streaks, and how much of the picture stays.
    """
    import cv2

    mean, deviation, size, threshold, reach, fade, keep = level
    height, width = x.shape[:2]
    noise = rng.standard_normal((height, width), dtype=np.float32) * np.float32(deviation) + np.float32(mean)
    flakes = zoomed(noise, size, (height, width))
    flakes = np.where(flakes < threshold, np.float32(0), np.clip(flakes, 0, 1))
    flakes = np.round(streaked(flakes, reach, fade, rng.uniform(-135, -45)) * 255)
    picture = x.astype(np.float32)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    whitened = keep * picture + (1 - keep) * np.maximum(picture, grey * 1.5 + 127.5)
    return to_pixels(whitened + (flakes + np.rot90(flakes, k=2))[..., None])


def fog(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Clouds of strength ``level[0]``, rougher the smaller ``level[1]`` is; contrast shrinks to make room for them."""
    height, width = x.shape[:2]
    # The side of the whole array counts its three channels too, as ImageNet-C's size-free variant has it.
    clouds = _plasma(1 << (max(height, width, 3) - 1).bit_length(), level[1], rng)[:height, :width, None]
    brightest = int(x.max()) / 255
    # A black picture stays black, where that variant has 0 times something as well.
    return to_pixels((x + 255 * level[0] * clouds) * np.float32(brightest / (brightest + level[0])))


def _plasma(side: int, decay: float, rng: np.random.Generator) -> Floats:
    """Diamond-square heights in 0 … 1 [side, side] that wrap around; ``side`` is a power of 2.

    The displacement at every step is the square of ``wibble``, as in ImageNet-C.
    """
    heights = np.zeros((side, side), dtype=np.float32)
    step, wibble = side, 100.0

    def displaced(four: Floats) -> Floats:
        noise = rng.random(four.shape, dtype=np.float32)
        return four / 4 + np.float32(wibble**2) * (2 * noise - 1)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        heights[half::step, half::step] = displaced(pairs + np.roll(pairs, -1, axis=1))
        centres = heights[half::step, half::step]
        left_right = corners + np.roll(corners, -1, axis=1)
        heights[::step, half::step] = displaced(left_right + centres + np.roll(centres, 1, axis=0))
        up_down = corners + np.roll(corners, -1, axis=0)
        heights[half::step, ::step] = displaced(up_down + centres + np.roll(centres, 1, axis=1))
        step, wibble = half, wibble / decay
    heights -= heights.min()
    return heights / heights.max()


def frost(
    x: Pixels, level: Sequence[float], rng: np.random.Generator, photographs: Sequence[Pixels] = ()
) -> Pixels:
    """``level[0]`` times the picture and ``level[1]`` times frosted glass, drawn or cut from ``photographs``."""
    glass = frosted_glass(x.shape[0], x.shape[1], rng, photographs)
    return to_pixels(np.float32(level[0]) * x + np.float32(level[1]) * glass)


def spatter(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Drops of water (``level[5]`` 0) or splashes of mud (1).

    ``level``: mean and deviation of the noise that splashes are the peaks of, its smoothing in pixels, the threshold,
    and for water the strength, for mud the smoothing of the rim.
    """
    mean, deviation, smoothing, threshold, strength, is_mud = level
    noise = rng.standard_normal(x.shape[:2], dtype=np.float32) * np.float32(deviation) + np.float32(mean)
    liquid = smoothed(noise, smoothing)
    liquid[liquid < threshold] = 0
    if is_mud:
        cover = smoothed((liquid > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        return to_pixels(x * (1 - cover[..., None]) + MUD * cover[..., None])
    return to_pixels(x + TURQUOISE * (_drops(liquid) * np.float32(strength))[..., None])


def _drops(liquid: Floats) -> Floats:
    """How bright each drop is [height, width], 1 at the brightest: thick inside, lit from the lower right."""
    import cv2

    depth = to_pixels(liquid * 255)
    distance = cv2.distanceTransform(255 - cv2.Canny(depth, 50, 150), cv2.DIST_L2, 5)
    near = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    light = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32)
    relief = cv2.filter2D(cv2.equalizeHist(near), cv2.CV_8U, light)
    drops = depth * cv2.blur(relief, (3, 3)).astype(np.float32)
    # No drop at all on a small picture is no reason to divide by 0.
    return drops / max(float(drops.max()), 1.0)
