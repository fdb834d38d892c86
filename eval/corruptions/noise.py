"""Noise of ImageNet-C: Gaussian, shot, impulse and speckle.

Every function takes pixels, the numbers of its severity and a generator, and returns new pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from eval.corruptions.arrays import Floats, Pixels, to_pixels


def gaussian_noise(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Normal noise of standard deviation ``level[0]`` (of the whole range) on every channel."""
    return to_pixels(x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(255 * level[0]))


def shot_noise(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Photons: Poisson counts of mean ``level[0]`` at full brightness."""
    # Drawing 900,000 counts from 256 known distributions by their alias tables takes a fifth of Generator.poisson.
    chance, first, second = _photons(level[0])
    slots = first.shape[1]
    random = rng.integers(0, 2**32, x.shape, dtype=np.uint32)
    at = x.astype(np.int32) * slots + (random & np.uint32(slots - 1)).astype(np.int32)
    own = (random >> np.uint32(8)) < chance.ravel()[at]
    return np.where(own, first.ravel()[at], second.ravel()[at])


@lru_cache(maxsize=8)
def _photons(full: float) -> tuple[Floats, Pixels, Pixels]:
    """Alias tables [256, slots] of the counts at each pixel value: chance of the slot's own count in 2^-24, the pixel
    that this count gives, and the one that the other gives."""
    mean = np.arange(256)[:, None] / 255 * full
    counts = np.arange(128)  # far out: the largest mean is 60, so the last is nine deviations away
    slots = len(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = counts * np.log(mean) - mean - np.cumsum(np.log(np.maximum(counts, 1)))
    shares = np.exp(log)
    shares[0] = counts == 0
    shares /= shares.sum(axis=1, keepdims=True)
    values = to_pixels(counts / full * 255)
    chance = np.zeros((256, slots), np.uint32)
    other = np.tile(counts, (256, 1))
    for row in range(256):
        _fill(shares[row] * slots, chance[row], other[row])
    return chance, np.tile(values, (256, 1)), values[other]


def _fill(left: Floats, chance: Floats, other: Floats) -> None:
    """One row of the alias tables by Vose's method; ``left`` has mean 1."""
    small = [i for i, share in enumerate(left) if share < 1]
    large = [i for i, share in enumerate(left) if share >= 1]
    while small and large:
        low, high = small.pop(), large.pop()
        chance[low], other[low] = round(left[low] * 2**24), high
        left[high] -= 1 - left[low]
        (small if left[high] < 1 else large).append(high)
    for full in (*small, *large):
        chance[full] = 2**24


def impulse_noise(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Salt and pepper: a share ``level[0]`` of all values becomes 0 or 255, half each."""
    random = rng.random(x.shape, dtype=np.float32)
    out = x.copy()
    out[random < level[0]] = 255
    out[random < level[0] / 2] = 0
    return out


def speckle_noise(x: Pixels, level: Sequence[float], rng: np.random.Generator) -> Pixels:
    """Normal noise in proportion to brightness, of relative deviation ``level[0]``."""
    return to_pixels(x * (1 + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(level[0])))
