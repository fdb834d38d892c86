"""What is done to pictures before a model sees them: a box drawn in, several set side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

GAP = 8
RED = (255, 0, 0)


def outlined(image: Image, box: Sequence[float]) -> Image:
    """A copy with a red outline of one pixel around (x1, y1, x2, y2), as lmms-eval marks RefCOCO's regions."""
    from PIL import ImageDraw

    copy = image.copy()
    ImageDraw.Draw(copy).rectangle([*box], outline=RED)
    return copy


def side_by_side(images: Sequence[Image]) -> Image:
    """Pictures from left to right on white, their tops aligned, none scaled (*ours*)."""
    from PIL import Image as Pillow

    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    sheet = Pillow.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + GAP
    return sheet


def content_of(hashes: Sequence[str], box: Sequence[float] | None) -> str:
    """A name for what is seen: the picture's own hash where it is shown as it is, "" where there is none."""
    if box is None and len(hashes) <= 1:
        return hashes[0] if hashes else ""
    shown = json.dumps({"view": 1, "pictures": [*hashes], "box": box and [*box]})
    return hashlib.sha256(shown.encode()).hexdigest()
