"""Pictures for a page: decoded and encoded anew as thumbnails in data URLs, and boxes to draw over them.

The bytes of a row never reach the page: what a browser gets was written here, without metadata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from cluster.datasets import read_manifest, read_shard
from datagen.corpus import BadImage, decode_image

# The longer side of a thumbnail, by the number of cards up to which it is used: 20 MB hold about 240 photographs
# of 448 pixels.
SIDES = ((30, 768), (120, 512), (400, 320))
SMALLEST_SIDE = 224
# Below this side a picture is shown enlarged, pixel by pixel.
PIXELS = 128


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A box over a picture, in the picture's own pixels; ``key`` is its name on the card, ``color`` one of eight;
    a ``quiet`` one is drawn only while a reader points at its name."""

    key: str
    color: int
    quiet: bool
    x: int
    y: int
    width: int
    height: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image of a card; ``data`` is a data URL, empty where there is none, and ``why`` says why not."""

    image_id: str
    data: str = ""
    why: str = ""
    width: int = 0
    height: int = 0
    small: bool = False
    marks: list[Mark] = field(default_factory=list)


def side_for(cards: int) -> int:
    """How large thumbnails are on a page with so many cards."""
    return next((side for most, side in SIDES if cards <= most), SMALLEST_SIDE)


def thumbnail(image_id: str, data: bytes | None, side: int, marks: list[Mark] | None = None) -> Picture:
    """The picture at most ``side`` pixels long; small ones stay as they are."""
    try:
        picture = decode_image(data or b"")
    except BadImage as error:
        return Picture(image_id=image_id, why=str(error))
    width, height = picture.size
    small = max(picture.size) <= PIXELS
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG" if small else "JPEG", quality=82)
    url = f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(image_id=image_id, data=url, width=width, height=height, small=small, marks=marks or [])


def image_bytes(corpus: str, shard: int, image_ids: Iterable[str]) -> dict[str, bytes]:
    """Stored bytes of some images of a shard; those that are not there are left out."""
    entries = read_manifest(corpus).shards
    if shard >= len(entries) or "rows" not in entries[shard].parts:
        return {}
    wanted = pa.array(sorted(set(image_ids)), pa.string())
    if not len(wanted):
        return {}
    table = read_shard(corpus, shard, columns=["image_id", "image"], verify=False)
    table = table.filter(pc.is_in(table["image_id"], value_set=wanted))
    return {row["image_id"]: (row["image"] or {}).get("bytes") or b"" for row in table.to_pylist()}
