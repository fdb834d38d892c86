"""What an import is asked to do. Everything but the place of the output and the number of workers decides what is
written, and is part of the data set's identity.
"""

from __future__ import annotations

from pydantic import Field

from cluster.config import Config
from cluster.storage import join
from datagen.corpus import MAX_PIXELS

IMPORTER_VERSION = "1"


class ImportOptions(Config):
    """One run of ``l2t corpus <importer>``."""

    importer: str
    sources: tuple[str, ...] = Field(min_length=1, description="files or folders, as the importer takes them")
    images: str | None = Field(default=None, description="root under which paths of pictures lie")
    out: str = Field(description="root of the data sets")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    columns: dict[str, str] = Field(
        default_factory=dict, description="field to column, see datagen.importers.fields"
    )
    shard_images: int = Field(default=512, ge=1)
    limit: int | None = Field(default=None, ge=1)
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    workers: int | None = Field(default=None, ge=1)

    @property
    def corpus(self) -> str:
        """URI of the corpus."""
        return join(self.out, "corpora", self.name)

    @property
    def instructions(self) -> str:
        """URI of the instruction set, where the source holds conversations."""
        return join(self.out, "instructions", self.name)
