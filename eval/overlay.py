"""A heat map over a picture, as a data URL."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from eval.scorers.base import Array

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 224  # longer side on the page, pixels
# From nothing over yellow and red to dark violet: darker and darker, so that it reads without colour too.
_RAMP = np.array(
    [[255, 244, 190], [253, 190, 60], [232, 92, 38], [176, 22, 74], [84, 8, 96]], dtype=np.float64
)
_DENSEST = 0.85


def plain(picture: Image) -> str:
    """The picture at the size of its overlays."""
    return _url(_sized(picture))


def overlay(picture: Image, cells: Array, region: tuple[float, ...], scale: float) -> str:
    """The picture in pale grey under its map.

    Args:
        cells: [rows, columns], not negative.
        region: left, upper, right and lower edge of the map as shares of width and height; what lies outside of the
            picture is cut off, what the map does not reach stays grey.
        scale: value that is drawn darkest.
    """
    from PIL import Image as Pillow

    base = _sized(picture)
    width, height = base.size
    left, top, right, bottom = (round(e * s) for e, s in zip(region, (width, height) * 2, strict=True))
    size = (max(1, right - left), max(1, bottom - top))
    # Cells stay visible as cells: a smooth map would claim a precision that a patch does not have.
    large = Pillow.fromarray(cells.astype(np.float32)).resize(size, Pillow.Resampling.NEAREST)
    heat = Pillow.new("F", base.size, 0.0)
    heat.paste(large, (left, top))
    strength = np.clip(np.asarray(heat, dtype=np.float64) / max(scale, 1e-12), 0, 1)
    grey = np.asarray(base.convert("L"), dtype=np.float64)[..., None] * 0.75 + 50
    place = strength * (len(_RAMP) - 1)
    color = np.stack([np.interp(place, np.arange(len(_RAMP)), _RAMP[:, c]) for c in range(3)], axis=-1)
    cover = (_DENSEST * np.sqrt(strength))[..., None]
    return _url(Pillow.fromarray((grey * (1 - cover) + color * cover).clip(0, 255).astype(np.uint8)))


def _sized(picture: Image) -> Image:
    from PIL.Image import Resampling

    factor = SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.convert("RGB").resize(size, Resampling.NEAREST if factor > 2 else Resampling.LANCZOS)


def _url(picture: Image) -> str:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
