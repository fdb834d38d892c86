"""Pictures to what the vision tower reads, exactly as the processor would, and cached while memory allows."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datagen.corpus import decode_image

if TYPE_CHECKING:
    import torch
    from transformers import LlavaProcessor


class Pixels:
    """Decode once, keep, and normalise whole batches.

    A picture that already has the tower's size stays uint8 (a quarter of the memory) and is normalised with its batch
    by the processor's own constants; a test holds that this equals the processor. Any other picture goes through the
    processor on its own.
    """

    def __init__(self, processor: LlavaProcessor, cache_mb: int = 512) -> None:
        self._processor = processor.image_processor
        size = (
            getattr(self._processor, "crop_size", None)
            if getattr(self._processor, "do_center_crop", False)
            else None
        )
        size = size or self._processor.size
        self.height, self.width = _sides(size)
        self._native = (
            (self.height, self.width) if self.height and _only_normalises(self._processor) else None
        )
        self._mean = np.array(self._processor.image_mean, np.float32)
        self._std = np.array(self._processor.image_std, np.float32)
        self._cache: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._room = cache_mb * 1_000_000

    def get(self, image_id: str, data: bytes) -> NDArray[Any]:
        """uint8 [height, width, 3] or float32 [3, height, width] of one picture.

        Raises:
            BadImage: the bytes are no picture.
        """
        cached = self._cache.get(image_id)
        if cached is not None:
            self._cache.move_to_end(image_id)
            return cached
        picture = decode_image(data)
        if self._native == (picture.height, picture.width):
            array = np.asarray(picture)
        else:
            array = np.asarray(self._processor(picture, return_tensors="np")["pixel_values"][0], np.float32)
        self._room -= array.nbytes
        self._cache[image_id] = array
        while self._room < 0 and self._cache:
            _, dropped = self._cache.popitem(last=False)
            self._room += dropped.nbytes
        return array

    def batch(self, arrays: list[NDArray[Any]]) -> torch.Tensor:
        """float32 [images, 3, height, width]."""
        import torch

        if all(a.dtype == np.uint8 for a in arrays):
            raw = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float()
            scale = torch.from_numpy(1 / (255 * self._std))[:, None, None]
            shift = torch.from_numpy(self._mean / self._std)[:, None, None]
            return raw.mul_(scale).sub_(shift).contiguous()
        return torch.from_numpy(
            np.stack([a if a.dtype == np.float32 else self._normalise(a) for a in arrays])
        )

    def blank(self) -> torch.Tensor:
        """One grey picture [1, 3, height, width]."""
        import torch

        return torch.zeros(1, 3, self.height or 1, self.width or 1)

    def _normalise(self, array: NDArray[Any]) -> NDArray[np.float32]:
        scaled = (array.astype(np.float32) / 255 - self._mean) / self._std
        return scaled.transpose(2, 0, 1).astype(np.float32)


def _sides(size: Any) -> tuple[int, int]:
    get = size.get if isinstance(size, dict) else lambda key, default=None: getattr(size, key, default)
    edge = get("shortest_edge") or 0
    return get("height") or edge, get("width") or edge


def _only_normalises(processor: Any) -> bool:
    """True where a picture of the right size is only rescaled by 1/255 and normalised."""
    return bool(
        processor.do_rescale
        and processor.do_normalize
        and abs(processor.rescale_factor - 1 / 255) < 1e-9
        and not getattr(processor, "do_pad", False)
    )
