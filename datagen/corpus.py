"""The corpus row: one image stored once for ever, with its annotations (contract 1).

The layout is what importers produce from COCO-, Flickr30k-Entities- and Visual-Genome-like data, so programs and the
trainer see one shape whatever the source was. ``image`` is the Hugging Face ``Image`` layout (``bytes``, ``path``).
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA_VERSION = "1"
# A decoded picture above this many pixels is a reject, not a crash: PIL's own bomb limit is 179 million, which at
# 3 bytes a pixel is half a gigabyte for one row.
MAX_PIXELS = 64_000_000
# Pillow knows some forty formats, among them ones that start other programs; these are the ones of photo data sets.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
ORIENTATION_TAG = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # orientations whose stored width is the height that a person sees
# What Pillow's decoders raise on damaged bytes; found by fuzzing (tests/datagen/test_corpus.py).
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class Box:
    """An annotated object: ``box`` is (x1, y1, x2, y2) in pixels, the right and lower edges exclusive."""

    name: str
    box: tuple[int, int, int, int]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Region:
    """A described region, Visual-Genome-like: a phrase and its box (x1, y1, x2, y2) in pixels."""

    phrase: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Relation:
    """``subject`` and ``object`` index the row's objects; ``predicate`` is a short phrase such as ``left of``."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True, kw_only=True)
class CorpusRow:
    """One image with everything known about it. ``image_id`` is unique in the corpus; ``facts`` is free-form JSON of
    the source (the starter world keeps its scene there; importers keep what has no column)."""

    image_id: str
    image: bytes
    width: int
    height: int
    sha256: str
    captions: tuple[str, ...] = ()
    objects: tuple[Box, ...] = ()
    regions: tuple[Region, ...] = ()
    relations: tuple[Relation, ...] = ()
    ocr: tuple[str, ...] = ()
    source: str = ""
    facts: str = ""


_BOX = pa.list_(pa.int32())
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

CORPUS_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("image", _IMAGE),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("captions", pa.list_(pa.string())),
        (
            "objects",
            pa.list_(
                pa.struct([("name", pa.string()), ("box", _BOX), ("attributes", pa.list_(pa.string()))])
            ),
        ),
        ("regions", pa.list_(pa.struct([("phrase", pa.string()), ("box", _BOX)]))),
        (
            "relations",
            pa.list_(
                pa.struct([("subject", pa.int32()), ("predicate", pa.string()), ("object", pa.int32())])
            ),
        ),
        ("ocr", pa.list_(pa.string())),
        ("source", pa.string()),
        ("facts", pa.string()),
    ],
    metadata={"l2t.schema": "corpus", "l2t.schema_version": SCHEMA_VERSION},
)


def to_table(rows: list[CorpusRow]) -> pa.Table:
    """Rows as one Arrow table of ``CORPUS_SCHEMA``."""
    dicts = []
    for row in rows:
        values = asdict(row)
        values["image"] = {"bytes": row.image, "path": None}
        dicts.append(values)
    return pa.Table.from_pylist(dicts, schema=CORPUS_SCHEMA)


def from_row(row: dict[str, Any]) -> CorpusRow:
    """One ``to_pylist()`` row of a corpus table back to a CorpusRow."""
    values: dict[str, Any] = {f.name: row[f.name] for f in fields(CorpusRow)}
    values["image"] = (row["image"] or {}).get("bytes") or b""
    values["captions"] = tuple(row["captions"] or ())
    values["ocr"] = tuple(row["ocr"] or ())
    values["objects"] = tuple(
        Box(name=o["name"], box=tuple(o["box"]), attributes=tuple(o["attributes"] or ()))
        for o in row["objects"] or ()
    )
    values["regions"] = tuple(Region(phrase=r["phrase"], box=tuple(r["box"])) for r in row["regions"] or ())
    values["relations"] = tuple(Relation(**r) for r in row["relations"] or ())
    return CorpusRow(**values)


BadImageReason = Literal["empty", "corrupt", "truncated", "too_many_pixels"]


class BadImage(ValueError):
    """The bytes of a row are not a picture we open; the message says why, the row becomes a reject.

    ``reason`` is the short form that rejects are counted by.
    """

    def __init__(self, message: str, reason: BadImageReason = "corrupt") -> None:
        super().__init__(message)
        self.reason: BadImageReason = reason


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a picture is: size in pixels as `decode_image` returns it, size as stored, EXIF orientation 1 … 8."""

    width: int
    height: int
    stored_width: int
    stored_height: int
    orientation: int


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode to RGB as a person sees the picture (the rules are ours).

    Upright by its EXIF orientation; the first frame of an animation; transparency over white; 16-bit grey scaled to
    8 bits (Pillow alone clips it to white); CMYK by Pillow's plain conversion, without colour profiles.

    Raises:
        BadImage: empty, unreadable, truncated or larger than ``max_pixels``.
    """
    with _opened(data, max_pixels) as picture:
        picture.load()
        return _upright(_to_rgb(picture), _orientation(picture))


def inspect_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """Size and orientation, after the same checks as `decode_image`.

    A JPEG is decoded at an eighth of its size: its whole stream is read, so damage shows, in a third of the time.

    Raises:
        BadImage: what `decode_image` cannot decode.
    """
    with _opened(data, max_pixels) as picture:
        width, height = picture.size
        if picture.format in ("JPEG", "MPO"):
            picture.draft("RGB", (max(1, width // 8), max(1, height // 8)))
        picture.load()
        orientation = _orientation(picture)
        upright = (height, width) if orientation in SIDEWAYS else (width, height)
        return ImageFacts(
            width=upright[0],
            height=upright[1],
            stored_width=width,
            stored_height=height,
            orientation=orientation,
        )


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image]:
    """The picture, its header read; whatever Pillow makes of damaged bytes, here and in the body, is a BadImage."""
    from PIL import Image

    if not data:
        raise BadImage("no image bytes", "empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > max_pixels:
                raise BadImage(
                    f"{picture.width}x{picture.height} pixels are more than the limit of {max_pixels}",
                    "too_many_pixels",
                )
            yield picture
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"a decompression bomb: {error}", "too_many_pixels") from error
    except DAMAGE as error:
        reason: BadImageReason = "truncated" if _is_cut(data, str(error)) else "corrupt"
        raise BadImage(f"cannot decode: {error}", reason) from error


def _is_cut(data: bytes, message: str) -> bool:
    """Whether a picture ends too early: Pillow says so of most kinds, a WebP states its length."""
    if data[:4] == b"RIFF" and len(data) >= 12:
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    return "truncated" in message.lower() or "unexpected end" in message.lower()


def _to_rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.mode[0] in "IF":
        picture = _to_grey(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return picture.convert("RGB")


def _to_grey(picture: Image) -> Image:
    """8 bits from 16 (``I;16…``), or from integers and floats (``I``, ``F``) by the range that their values are in."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture).astype(np.float64)
    if picture.mode.startswith("I;16"):
        top = 65535.0
    else:
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
        highest = float(values.max(initial=0.0))
        steps = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0)
        top = next((step for step in steps if highest <= step), highest)
    return Image.fromarray((values / top * 255.0).round().astype(np.uint8))


def _orientation(picture: Image) -> int:
    """The EXIF orientation of a loaded picture, 1 where there is none or it cannot be read."""
    try:
        value = picture.getexif().get(ORIENTATION_TAG, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(picture: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def sha256(data: bytes) -> str:
    """Hex digest; the stable name of an image's content."""
    return hashlib.sha256(data).hexdigest()
