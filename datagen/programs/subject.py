"""What a program works on: one image (or a conversation without any), its annotations, and imported conversations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datagen import corpus
from datagen.annotations import serialise
from datagen.corpus import CorpusRow
from datagen.programs.calls import Calls
from datagen.records import Record

if TYPE_CHECKING:
    from PIL.Image import Image

NO_IMAGE = CorpusRow(image_id="", image=b"", width=0, height=0, sha256="")


@dataclass
class Subject:
    """One row of work, shared by all arms of a run. ``records`` are the conversations about this image that an
    imported set holds; ``row`` is `NO_IMAGE` for a conversation without one.
    """

    row: CorpusRow
    records: tuple[Record, ...] = ()
    calls: Calls = field(default_factory=Calls)
    annotations: str = field(init=False)
    _decoding: asyncio.Task[Image] | None = None

    def __post_init__(self) -> None:
        self.annotations = serialise(self.row)

    @property
    def has_image(self) -> bool:
        """Whether there is (or should be) a picture."""
        return self.row is not NO_IMAGE

    async def picture(self) -> Image:
        """The decoded picture; decoded at the first call that shows it, outside the event loop, once.

        Raises:
            BadImage: see `datagen.corpus.decode_image`.
        """
        if self._decoding is None:
            self._decoding = asyncio.ensure_future(asyncio.to_thread(corpus.decode_image, self.row.image))
        return await asyncio.shield(self._decoding)
