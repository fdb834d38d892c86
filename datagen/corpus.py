"""The corpus row: one image stored once for ever, with its annotations (contract 1).

The layout is what importers produce from COCO-, Flickr30k-Entities- and Visual-Genome-like data, so programs and the
trainer see one shape whatever the source was. ``image`` is the Hugging Face ``Image`` layout (``bytes``, ``path``).
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA_VERSION = "1"
# A decoded picture above this many pixels is a reject, not a crash: PIL's own bomb limit is 179 million, which at
# 3 bytes a pixel is half a gigabyte for one row.
MAX_PIXELS = 64_000_000


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


class BadImage(ValueError):
    """The bytes of a row are not a picture we open; the message says why, the row becomes a reject."""


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode to RGB.

    Raises:
        BadImage: empty, unreadable, truncated or larger than ``max_pixels``.
    """
    from PIL import Image

    if not data:
        raise BadImage("no image bytes")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > max_pixels:
                raise BadImage(
                    f"{picture.width}x{picture.height} pixels are more than the limit of {max_pixels}"
                )
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(f"cannot decode: {error}") from error


def sha256(data: bytes) -> str:
    """Hex digest; the stable name of an image's content."""
    return hashlib.sha256(data).hexdigest()
