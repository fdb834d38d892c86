"""Where the tokens of a picture lie on it: families differ in tiles, padding and cropping.

Any-resolution families show a picture several times, whole and in tiles. Maps are of the whole one (the base tile),
so that they can be laid over the picture; sums are over all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from train.models.families import family_of


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The base tile: ``rows`` x ``columns`` cells, row by row, from token ``start`` of the picture's on.

    ``region`` is the part of the picture that it shows: left, upper, right and lower edge as shares of width and
    height. It goes beyond 0 and 1 where the picture is padded.
    """

    start: int
    rows: int
    columns: int
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


def grid_of(
    config: Any, processor: Any, *, size: tuple[int, int], tokens: int, patches: tuple[int, ...] | None
) -> Grid:
    """The base tile of one picture.

    Args:
        config: the model's.
        size: width and height of the picture in pixels.
        tokens: how many tokens the picture has in the prompt.
        patches: Qwen2-VL's ``image_grid_thw`` of the picture.

    Raises:
        UserError: fewer tokens than the base tile needs, so the processor and the model do not fit each other.
    """
    family = family_of(config)
    if patches is not None:
        merge = config.vision_config.spatial_merge_size
        return _checked(Grid(start=0, rows=patches[1] // merge, columns=patches[2] // merge), tokens)
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    if family.leading:  # Idefics3: tiles first, the whole picture last
        side //= config.scale_factor
        return _checked(Grid(start=tokens - side * side, rows=side, columns=side), tokens)
    if config.model_type == "llava":
        # With a class token kept ("full" of a CLIP tower), it comes first.
        start = tokens - side * side
        return _checked(Grid(start=start, rows=side, columns=side, region=_shown(processor, size)), tokens)
    return _checked(Grid(start=0, rows=side, columns=side), tokens)


def _checked(grid: Grid, tokens: int) -> Grid:
    if grid.start < 0 or grid.start + grid.rows * grid.columns > tokens:
        raise UserError(
            f"a picture has {tokens} tokens, and its base tile alone {grid.rows} x {grid.columns}: the processor "
            "does not fit the model; take both from one checkpoint"
        )
    return grid


def _shown(processor: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """What LLaVA's image processor shows of a picture: all of it stretched, padded to a square, or its middle."""
    images = processor.image_processor
    width, height = size
    if getattr(images, "do_pad", False):
        longer = max(width, height)
        return _middle(longer / width, longer / height)
    if getattr(images, "do_center_crop", False) and images.size.get("shortest_edge"):
        scale = images.size["shortest_edge"] / min(width, height)
        crop = images.crop_size
        return _middle(crop["width"] / (width * scale), crop["height"] / (height * scale))
    return (0.0, 0.0, 1.0, 1.0)


def _middle(width: float, height: float) -> tuple[float, float, float, float]:
    return ((1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2)
