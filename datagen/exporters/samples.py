"""Records with their images, shard by shard: what every format is written from."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from cluster.datasets import read_manifest, read_shard
from datagen.exporters.config import ExportConfig, Unexported
from datagen.records import Record, Turn, from_table

# File endings by what the bytes are, whatever a source called them.
ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}
MAX_NAME = 80
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_HASHED = re.compile(r".*-[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Original bytes and the ending that fits them."""

    image_id: str
    data: bytes
    ending: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A record with its images in order; ``position`` counts the rows of the shard that were looked at."""

    record: Record
    pictures: tuple[Picture, ...]
    shard: int
    position: int


class NoImage(ValueError):
    """An image of a row is missing or is no picture; the message says which."""


def samples(config: ExportConfig, shard: int, take: int) -> Iterator[Sample | Unexported]:
    """The first ``take`` rows of the wanted states in shard ``shard``; those without their images as Unexported."""
    store = Pictures(config.corpus, shard)
    for position, record in enumerate(_records(config, shard)):
        if position == take:
            return
        try:
            pictures = tuple(store.get(image) for image in record.image_ids)
        except NoImage as missing:
            yield Unexported(id=record.id, shard=shard, reason=str(missing))
            continue
        yield Sample(record=record, pictures=pictures, shard=shard, position=position)


def _records(config: ExportConfig, shard: int) -> Iterator[Record]:
    for stream in ("rows", "rejects"):
        if stream in read_manifest(config.source).shards[shard].parts:
            table = read_shard(config.source, shard, stream)
            for batch in table.to_batches(max_chunksize=256):
                found = from_table(pa.Table.from_batches([batch]))
                yield from (record for record in found if record.state in config.states)


class Pictures:
    """The images of one corpus shard; the shard is read when the first one is asked for."""

    def __init__(self, corpus: str, shard: int) -> None:
        self.corpus, self.shard = corpus, shard
        self._images: pa.ChunkedArray | None = None
        self._place: dict[str, int] = {}

    def get(self, image_id: str) -> Picture:
        """One image.

        Raises:
            NoImage: it is not in this shard, or not a picture in a format that people can open.
        """
        if self._images is None:
            if not self.corpus:
                raise NoImage(f"image {image_id}: the instruction set names no corpus")
            table = read_shard(self.corpus, self.shard, columns=["image_id", "image"])
            self._images = table["image"]
            self._place = {name: n for n, name in enumerate(table["image_id"].to_pylist())}
        if image_id not in self._place:
            raise NoImage(f"image {image_id}: not in shard {self.shard} of the corpus")
        data = (self._images[self._place[image_id]].as_py() or {}).get("bytes") or b""
        return Picture(image_id=image_id, data=data, ending=_ending(image_id, data))


def _ending(image_id: str, data: bytes) -> str:
    """From the header alone; nothing is decoded."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind = picture.format or ""
    except UnidentifiedImageError:
        raise NoImage(f"image {image_id}: not a picture ({len(data)} bytes of no known format)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NoImage(f"image {image_id}: not a picture ({error})") from error
    if kind not in ENDINGS:
        raise NoImage(f"image {image_id}: {kind} is none of {', '.join(ENDINGS)}")
    return ENDINGS[kind]


def safe_name(name: str) -> str:
    """A file name without its ending for an id of any characters: the id itself where it is harmless, else its harmless
    characters and eight hex digits that keep different ids apart. Never a path, hidden, or reserved."""
    if (
        len(name) <= MAX_NAME
        and _SAFE.fullmatch(name)
        and not _HASHED.fullmatch(name)
        and name.lower() not in _DEVICES
    ):
        return name
    stem = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[-MAX_NAME:].strip("_") or "image"
    return f"{stem}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


# Names that a Windows file system takes for devices.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def talk(record: Record) -> tuple[Turn, ...]:
    """The turns that a model is trained on; text that nobody could read is not among them.

    Raises:
        ValueError: no user turn followed by an assistant turn, or roles that do not alternate; the message says which.
    """
    turns = tuple(t for t in record.conversation if t.role != "draft")
    body = turns[1:] if turns and turns[0].role == "system" else turns
    if len(body) < 2 or len(body) % 2:
        raise ValueError("no question with an answer" if len(body) < 2 else "the last question has no answer")
    for number, turn in enumerate(body):
        if turn.role != ("user", "assistant")[number % 2]:
            raise ValueError(f"turn {number} is of role {turn.role}: user and assistant do not alternate")
    return turns
