"""The same picture under another name: perceptual hash (pHash) with Hamming distance, found by bands.

The hash is that of the `imagehash` package (test), computed with a numpy matrix instead of scipy's DCT. pHash sees
brightness only, little of small things and nothing in flat pictures, so two more looks prevent false alarms (ours):
mean colours on an 8×8 grid must agree, and pictures without detail are compared by their pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from datagen.records import GateResult

NAME = "image_duplicate"
BITS = 64
MAX_DISTANCE = 16
# Largest difference of a cell's mean colour (0 to 255). JPEG at quality 30 moves it by up to 10, 8% more brightness
# by 18; of 2,000 different pictures of the starter world, all alike in layout, 250 pairs have hashes within 4 bits,
# and 7 of them agree in colour.
MAX_TINT = 24
_SIDE, _LOW, _GRID = 32, 8, 8
PACKED = 1 + 8 + 3 * _GRID**2
# Standard deviation in grey levels below which a hash would be made of noise.
_FLAT = 1.0

_K = np.arange(_SIDE)
_DCT = 2 * np.cos(np.pi * (2 * _K[None, :] + 1) * _K[:, None] / (2 * _SIDE))[:_LOW]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture as far as it is compared: ``phash`` is None for one without detail; ``tint`` are the mean colours of
    8×8 cells, 192 bytes; ``content`` 64 bits that name its pixels."""

    phash: int | None
    tint: bytes
    content: int = 0


def look(picture: Image.Image) -> Look:
    """Hash of an RGB picture of any size."""
    grey = np.asarray(picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    # Rounded, because in plain pictures many coefficients are zero and their noise would decide about the median.
    low = np.round(_DCT @ grey @ _DCT.T, 6)
    tint = picture.resize((_GRID, _GRID), Image.Resampling.BOX).tobytes()
    if grey.std() < _FLAT:
        digest = hashlib.blake2b(picture.tobytes() + repr(picture.size).encode(), digest_size=8).digest()
        return Look(phash=None, tint=tint, content=int.from_bytes(digest, "little"))
    bits = (low > np.median(low)).ravel()
    return Look(phash=int.from_bytes(np.packbits(bits).tobytes(), "big"), tint=tint)


def band_keys(seen: Look, distance: int) -> list[int]:
    """Keys of the buckets to search: two hashes at most ``distance`` bits apart agree on at least one of
    ``distance + 1`` bands (pigeonhole), so no pair is missed and few are compared."""
    if seen.phash is None:
        return [seen.content]
    edges = np.linspace(0, BITS, distance + 2).astype(int)
    keys = []
    for band, (low, high) in enumerate(pairwise(edges)):
        part = (seen.phash >> int(low)) & ((1 << int(high - low)) - 1)
        digest = hashlib.blake2b(f"{band}-{part}".encode(), digest_size=8).digest()
        keys.append(int.from_bytes(digest, "little"))
    return keys


def pack(seen: Look) -> bytes:
    """PACKED bytes for a shuffle: flat or not, hash (the content of a flat picture), tint."""
    value = seen.content if seen.phash is None else seen.phash
    return bytes([seen.phash is None]) + value.to_bytes(8, "little") + seen.tint


def distances(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Hamming distances of one packed look (PACKED,) to others (n, PACKED), all uint8; more than BITS where the colours
    differ or one of the two is flat and the other is not the same."""
    different = np.bitwise_count(one[1:9] ^ others[:, 1:9]).sum(axis=1).astype(np.int64)
    tint = np.abs(one[9:].astype(np.int16) - others[:, 9:].astype(np.int16)).max(axis=1)
    flat = (others[:, 0] != one[0]) | ((one[0] == 1) & (different > 0))
    return np.where((tint > MAX_TINT) | flat, BITS + 1, different)


def result(kept: str, nearest: str, distance: int) -> GateResult:
    """What the picture of a dropped row collided with: ``nearest`` is the picture it resembles, ``kept`` the
    one that stays for the whole cluster."""
    more = "" if kept == nearest else f"; {kept} stays for all pictures like it"
    how = f"at distance {distance} of {BITS}"
    return GateResult(name=NAME, passed=False, detail=f"shows the same as {nearest} ({how}){more}")
