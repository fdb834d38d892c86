"""Blurs of ImageNet-C: Gaussian, glass, defocus, motion and zoom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.corruptions.arrays import Floats, Pixels, smoothed, streaked, to_pixels, zoomed


def gaussian_blur(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Gaussian filter of ``level[0]`` pixels, cut off at four deviations."""
    return to_pixels(smoothed(x.astype(np.float32), level[0]))


def glass_blur(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Gaussian filter (``level[0]`` pixels), pixels strewn by up to ``level[1]``, ``level[2]`` times, filter again."""
    sigma, reach, times = level
    strewn = to_pixels(smoothed(x.astype(np.float32), sigma))
    for _ in range(int(times)):
        strewn = _strew(strewn, int(reach), rng)
    return to_pixels(smoothed(strewn.astype(np.float32), sigma))


def _strew(x: Pixels, reach: int, rng: np.random.Generator) -> Pixels:
    """Every inner pixel takes a neighbour's value, from the last row to the first and within a row from the right.

    ImageNet-C's code means to swap the two and copies instead (both sides of its assignment are views), so a value
    may be copied on: a pixel whose source came before it takes what the source has become. Pixel after pixel that is
    a loop; here every pixel has a pointer to its source, and pointers are followed in doubling steps to the end.
    """
    height, width = x.shape[:2]
    rows, columns = np.arange(reach + 1, height - reach + 1), np.arange(reach + 1, width - reach + 1)
    if not (len(rows) and len(columns)):
        return x
    moves = rng.integers(-reach, reach, (2, len(rows), len(columns)), dtype=np.int32)
    source = np.arange(height * width, dtype=np.int32)
    inner = (rows[:, None] * width + columns).astype(np.int32)
    source[inner] += moves[0] * width + moves[1]
    copied = np.zeros(height * width, dtype=bool)
    copied[inner] = True
    # A source later in reading order was copied earlier in the loop: its value is that of its own source.
    forward = inner[(source[inner] > inner) & copied[source[inner]]]
    end = np.arange(height * width, dtype=np.int32)
    end[forward] = source[forward]
    while len(forward):
        further = end[end[forward]]
        moved = further != end[forward]
        end[forward] = further
        forward = forward[moved]
    out: Pixels = x.reshape(-1, 3)[source[end]].reshape(x.shape)
    return out


def defocus_blur(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """A lens out of focus: a disk of radius ``level[0]`` pixels, its rim softened by ``level[1]``."""
    import cv2

    return to_pixels(cv2.filter2D(x.astype(np.float32), -1, _disk(level[0], level[1])))


def _disk(radius: float, rim: float) -> Floats:
    import cv2

    reach, width = (8, 3) if radius <= 8 else (int(radius), 5)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    out: Floats = cv2.GaussianBlur(disk / disk.sum(), (width, width), rim)
    return out


def motion_blur(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """A streak of 2 ``level[0]`` + 1 pixels fading by ``level[1]``, in a direction of -45 to 45 degrees."""
    return to_pixels(streaked(x.astype(np.float32), level[0], level[1], rng.uniform(-45, 45)))


def zoom_blur(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """The mean of the picture and its enlargements by 1, 1 + ``level[1]``, … below ``level[0]``."""
    factors = np.arange(1, level[0], level[1])
    picture = x.astype(np.float32)
    total = picture.copy()
    for factor in factors:
        total += zoomed(picture, float(factor), x.shape[:2])
    return to_pixels(total / np.float32(len(factors) + 1))
