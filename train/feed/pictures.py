"""Pictures to what the vision tower reads and to the tokens that stand for them, both by the model's own processor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cluster.errors import UserError
from datagen.corpus import MAX_PIXELS, BadImage, decode_image
from train.models.families import Family

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Size = tuple[int, int]
Arrays = dict[str, NDArray[Any]]

# What a family's `get_image_features` takes; processors return more than that.
_INPUTS = ("pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask")
# A picture whose size is not this one; the processor resizes it anyway.
_BLANK = (32, 32)


@dataclass(frozen=True)
class Picture:
    """One picture, processed: arrays by name, each with the tiles (patches, sizes) of this picture along axis 0."""

    arrays: Arrays

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What decides how many features the picture has."""
        found: dict[str, tuple[int, ...]] = {}
        for name, array in self.arrays.items():
            if name in ("image_sizes", "image_grid_thw"):
                found[name] = tuple(array.ravel().tolist())
            elif array.dtype == np.uint8:
                found[name] = array.transpose(0, 3, 1, 2).shape
            else:
                found[name] = array.shape
        return found


@dataclass(frozen=True)
class Placeholder:
    """The tokens that a processor writes for a picture of one size, and the shapes of its arrays."""

    ids: NDArray[np.int64]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


class Pictures:
    """A model's processor, asked once per picture and once per size, with the answers kept.

    A picture of a CLIP or SigLIP tower stays uint8 (a quarter of the memory) and is normalised with its batch by the
    processor's own constants; a test holds that this equals the processor. Everything else is what the processor gives
    for the picture.
    """

    def __init__(self, processor: Any, family: Family, cache_mb: int = 512) -> None:
        self.processor, self.family = processor, family
        image_processor = processor.image_processor
        self._native = _native_size(image_processor)
        self._mean = np.array(image_processor.image_mean, np.float32)
        self._std = np.array(image_processor.image_std, np.float32)
        self._cache: OrderedDict[str, Picture] = OrderedDict()
        self._room = cache_mb * 1_000_000
        self._placeholders: dict[Size, Placeholder] = {}

    def placeholder(self, size: Size) -> Placeholder:
        """What stands for a picture of ``size`` (width, height) in the token sequence: the processor is shown a blank
        one.

        Raises:
            BadImage: a size that is none, or that the processor refuses.
        """
        if size not in self._placeholders:
            self._placeholders[size] = self._ask(size)
        return self._placeholders[size]

    def _ask(self, size: Size) -> Placeholder:
        from PIL import Image

        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise BadImage(f"the corpus says that it is {size[0]} x {size[1]}")
        blank = Image.new("RGB", size, (127, 127, 127))
        try:
            made = self.processor(
                text=self.processor.image_token, images=[blank], add_special_tokens=False, return_tensors="np"
            )
        except ValueError as error:
            raise BadImage(f"the processor refuses {size[0]} x {size[1]}: {error}") from error
        ids = np.asarray(made["input_ids"][0], np.int64)
        return Placeholder(ids, self._picture(blank).shapes)

    def get(self, image_id: str, read: Callable[[], tuple[bytes, Size]]) -> Picture:
        """One picture of the corpus.

        Args:
            read: its bytes, and the size that the corpus says it has; asked where it is not kept.

        Raises:
            BadImage: the bytes are no picture, or one of another size than the corpus says (its tokens were counted
                by that).
        """
        cached = self._cache.get(image_id)
        if cached is not None:
            self._cache.move_to_end(image_id)
            return cached
        data, size = read()
        decoded = decode_image(data)
        picture = self._picture(decoded)
        if picture.shapes != self.placeholder(size).shapes:
            raise BadImage(
                f"the picture is {decoded.width} x {decoded.height}, the corpus says {size[0]} x {size[1]}"
            )
        self._room -= sum(array.nbytes for array in picture.arrays.values())
        self._cache[image_id] = picture
        while self._room < 0 and self._cache:
            _, dropped = self._cache.popitem(last=False)
            self._room += sum(array.nbytes for array in dropped.arrays.values())
        return picture

    def _picture(self, decoded: Image) -> Picture:
        if self._native == (decoded.width, decoded.height):
            return Picture({"pixel_values": np.asarray(decoded)[None]})
        if self._native is not None:
            # Resized and cropped as always, kept as bytes: a quarter of the memory, and a sixth less time.
            made = self.processor.image_processor(
                [decoded], do_rescale=False, do_normalize=False, return_tensors="np"
            )
            return Picture({"pixel_values": np.asarray(made["pixel_values"], np.uint8).transpose(0, 2, 3, 1)})
        made = self.processor.image_processor([decoded], return_tensors="np")
        arrays = {name: np.asarray(made[name]) for name in _INPUTS if name in made}
        for name in ("pixel_values", "pixel_attention_mask"):
            # Leading axes of one: a batch, or a list of pictures, of which each has tiles.
            while name in arrays and arrays[name].ndim > _tile_axes(arrays[name], name):
                arrays[name] = arrays[name][0]
        return Picture(arrays)

    def batch(self, pictures: Sequence[Picture]) -> dict[str, Tensor]:
        """The keyword arguments of ``get_image_features`` for one picture or more, in the order of their
        placeholders."""
        import torch

        batch: dict[str, Tensor] = {}
        for name in pictures[0].arrays:
            arrays = [picture.arrays[name] for picture in pictures]
            if name == "pixel_values":
                batch[name] = self._pixels(arrays)
            else:
                batch[name] = torch.from_numpy(np.concatenate(arrays))
            if name.startswith("pixel"):
                for _ in range(self.family.leading):
                    batch[name] = batch[name][None]
        return batch

    def _pixels(self, arrays: list[NDArray[Any]]) -> Tensor:
        import torch

        joined = torch.from_numpy(np.concatenate(arrays))
        if joined.dtype != torch.uint8:
            return joined.float()
        scale = torch.from_numpy(1 / (255 * self._std))[:, None, None]
        shift = torch.from_numpy(self._mean / self._std)[:, None, None]
        return joined.permute(0, 3, 1, 2).float().mul_(scale).sub_(shift).contiguous()

    def blank(self) -> dict[str, Tensor]:
        """One grey picture as a batch."""
        from PIL import Image

        return self.batch([self._picture(Image.new("RGB", _BLANK, (120, 130, 140)))])


def check_processor(model: Any, pictures: Pictures) -> None:
    """Model and processor must agree how many tokens a picture has.

    Raises:
        UserError: they do not; training would put features at the wrong places.
    """
    import torch

    with torch.no_grad():
        blank = {name: value.to(model.device) for name, value in pictures.blank().items()}
        features = model.model.get_image_features(**blank).pooler_output
    made = sum(len(one.flatten(0, -2)) for one in features)
    ids = pictures.placeholder(_BLANK).ids
    expected = int((ids == model.config.image_token_id).sum())
    if made != expected:
        raise UserError(
            f"the model makes {made} features of a picture and its processor writes {expected} image tokens for it; "
            "processor_config.json (patch_size, vision_feature_select_strategy, num_additional_image_tokens, "
            "image_seq_len) does not belong to this model"
        )


def _tile_axes(array: NDArray[Any], name: str) -> int:
    """Axes of one picture's array: [tiles, channels, height, width], Qwen2-VL's flat [patches, values], and a mask
    without channels."""
    if name == "pixel_attention_mask":
        return 3
    return 2 if array.ndim == 2 else 4


def _native_size(processor: Any) -> Size | None:
    """(width, height) of a picture that is only rescaled by 1/255 and normalised; None where more is done."""
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    simple = (
        type(processor).__name__.startswith(("Siglip", "CLIP"))
        and processor.do_rescale
        and processor.do_normalize
        and abs(processor.rescale_factor - 1 / 255) < 1e-9
        and not getattr(processor, "do_pad", False)
    )
    if not simple:
        return None
    size = crop or processor.size
    get = size.get if isinstance(size, dict) else lambda key, default=None: getattr(size, key, default)
    edge = get("shortest_edge") or 0
    height, width = get("height") or edge, get("width") or edge
    return (width, height) if height and width else None
