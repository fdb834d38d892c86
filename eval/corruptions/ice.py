"""Frosted glass for the corruption `frost`, drawn instead of photographed (*ours*).

ImageNet-C lays one of six photographs of frozen windows over the picture. Nothing says under which licence they are,
so they are not part of this project; what is laid over here is drawn from noise: cells of ice with bright rims over
broad clouds, in one of six palettes with the photographs' mean and deviation per channel. So the mean strength of
each severity is the benchmark's, the pattern is not. Who has the photographs gives them (`read_photographs`) and gets
the benchmark's own frost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from cluster import storage
from cluster.errors import UserError
from datagen.corpus import BadImage, decode_image
from eval.corruptions.arrays import Floats, Pixels

# Mean and standard deviation of the six photographs, per channel; two of them look alike.
PALETTES = np.array(
    [
        [[78, 149, 166], [27, 16, 15]],
        [[201, 205, 214], [21, 22, 23]],
        [[201, 205, 214], [21, 22, 23]],
        [[138, 153, 165], [28, 28, 30]],
        [[112, 123, 135], [44, 43, 42]],
        [[71, 95, 105], [35, 43, 47]],
    ],
    dtype=np.float32,
)
LARGEST_CELL = 1 / 3  # of the longer side
OCTAVES = 5
VERSION = "drawn-1"


def frosted_glass(
    height: int, width: int, rng: np.random.Generator, photographs: Sequence[Pixels] = ()
) -> Floats:
    """One pane [height, width, 3], values 0 … 255; cut from one of ``photographs`` where there are any."""
    if photographs:
        return _cut(photographs[int(rng.integers(len(photographs)))], height, width, rng)
    mean, deviation = PALETTES[int(rng.integers(len(PALETTES)))]
    pattern = _crystals(height, width, rng)
    pattern -= pattern.mean()
    pattern /= max(float(pattern.std()), 1e-6)
    out: Floats = np.clip(mean + pattern[..., None] * deviation, 0, 255)
    return out


def _crystals(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Ridges of noise at halving sizes: sharp where the noise changes sign, which makes needles and rims."""
    total = np.zeros((height, width), dtype=np.float32)
    cell = max(height, width) * LARGEST_CELL
    for octave in range(OCTAVES):
        ridge = 1 - 2 * np.abs(_noise(height, width, max(cell, 1.5), rng))
        total += ridge * np.float32(0.7**octave)
        cell /= 2
    return total + _noise(height, width, max(height, width) * LARGEST_CELL, rng)


def _noise(height: int, width: int, cell: float, rng: np.random.Generator) -> Floats:
    """Smooth noise in about -1 … 1 whose hills are ``cell`` pixels apart, at a random offset."""
    import cv2

    rows, columns = int(height / cell) + 3, int(width / cell) + 3
    grid = rng.random((rows, columns), dtype=np.float32) * 2 - 1
    y = np.arange(height, dtype=np.float32) / np.float32(cell) + rng.random(dtype=np.float32)
    x = np.arange(width, dtype=np.float32) / np.float32(cell) + rng.random(dtype=np.float32)
    map_x, map_y = np.broadcast_arrays(x[None, :], y[:, None])
    out: Floats = cv2.remap(
        grid, np.ascontiguousarray(map_x), np.ascontiguousarray(map_y), cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    return out


def _cut(photograph: Pixels, height: int, width: int, rng: np.random.Generator) -> Floats:
    """A random part of a photograph, which is first enlarged to cover the picture and by a tenth more."""
    import cv2

    factor = 1.1 * max(1.0, height / photograph.shape[0], width / photograph.shape[1])
    size = [int(np.ceil(side * factor)) for side in photograph.shape[:2]]
    large = cv2.resize(photograph, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    top = int(rng.integers(max(1, size[0] - height)))
    left = int(rng.integers(max(1, size[1] - width)))
    return large[top : top + height, left : left + width].astype(np.float32)


def read_photographs(folder: str) -> tuple[tuple[Pixels, ...], str]:
    """ImageNet-C's photographs of frost (``frost1.png`` … ``frost6.jpg``) and one hash of all of them.

    Raises:
        UserError: not exactly six pictures there, or one that cannot be opened.
    """
    names = [uri for uri in storage.list_prefix(folder) if uri.rsplit("/", 1)[-1].startswith("frost")]
    if len(names) != len(PALETTES):
        raise UserError(
            f"{folder}: {len(names)} files begin with 'frost' there; ImageNet-C has frost1.png … frost6.jpg"
        )
    digest, found = hashlib.sha256(), []
    for uri in names:
        data = storage.read_bytes(uri)
        digest.update(data)
        try:
            found.append(np.asarray(decode_image(data)))
        except BadImage as error:
            raise UserError(f"{uri}: {error}") from error
    return tuple(found), digest.hexdigest()
