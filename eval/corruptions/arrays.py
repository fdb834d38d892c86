"""What all corruptions compute with: pixels, and smooth or zoomed fields of numbers.

OpenCV does the filtering: in float32 its separable and Fourier filters are five to twenty times as fast as scipy's,
and spatter is defined by its edge detector and distance transform. vLLM brings it along anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [height, width, 3], RGB
Floats = NDArray[Any]  # float32, any shape


def to_pixels(values: Floats) -> Pixels:
    """Values in 0 … 255, clipped and cut off (not rounded), as ImageNet-C's code casts."""
    return np.clip(values, 0, 255).astype(np.uint8)


def smoothed(values: Floats, sigma: float, truncate: float = 4.0) -> Floats:
    """Gaussian filter of [height, width] or [height, width, channels]; the edge is repeated outwards."""
    import cv2

    size = 2 * int(truncate * sigma + 0.5) + 1
    out: Floats = cv2.GaussianBlur(values, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
    return out


def zoomed(values: Floats, factor: float, shape: tuple[int, int]) -> Floats:
    """The middle of ``values``, enlarged bilinearly with corners on corners; its first ``shape`` pixels.

    Args:
        values: [height, width] or [height, width, channels].
        factor: at least 1; the middle is 1 / factor of each side, rounded up.
    """
    import cv2

    rows, top = _steps(values.shape[0], factor, shape[0])
    columns, left = _steps(values.shape[1], factor, shape[1])
    map_x, map_y = np.broadcast_arrays((columns + left)[None, :], (rows + top)[:, None])
    out: Floats = cv2.remap(
        values,
        np.ascontiguousarray(map_x, dtype=np.float32),
        np.ascontiguousarray(map_y, dtype=np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return out


def _steps(size: int, factor: float, wanted: int) -> tuple[Floats, int]:
    """Where along one side the first ``wanted`` enlarged pixels come from, and where the middle begins."""
    middle = int(np.ceil(size / factor))
    enlarged = max(2, round(middle * factor))
    return np.arange(wanted) * ((middle - 1) / (enlarged - 1)), (size - middle) // 2


def streaked(values: Floats, radius: float, sigma: float, angle: float) -> Floats:
    """Motion blur: half a Gaussian (``sigma``) of 2 radius + 1 steps along ``angle`` (degrees), edges repeated.

    Steps that would leave the picture are left out, and what they weigh with them.
    """
    import cv2

    length = int(radius) * 2 + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    direction = np.deg2rad(angle)
    along = np.arange(length)
    down = np.ceil(along * np.sin(direction) - 0.5).astype(int)
    right = np.ceil(along * np.cos(direction) - 0.5).astype(int)
    outside = (abs(down) >= values.shape[0]) | (abs(right) >= values.shape[1])
    steps = int(outside.argmax()) if outside.any() else length
    weights, down, right = weights[:steps], down[:steps], right[:steps]
    kernel = np.zeros((np.ptp(down) + 1, np.ptp(right) + 1), dtype=np.float32)
    np.add.at(kernel, (down - down.min(), right - right.min()), weights)
    out: Floats = cv2.filter2D(
        values, -1, kernel, anchor=(int(-right.min()), int(-down.min())), borderType=cv2.BORDER_REPLICATE
    )
    return out
