"""What a curation does; a gate that is None or empty is off."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cluster.config import Config
from cluster.datasets import manifest_hash
from datagen.gates import decontaminate, image_duplicate, language, near_duplicate
from datagen.gates.image_duplicate import MAX_DISTANCE

LENGTH = "length"
# In the order in which they judge; the first that drops a row is its reason. Rows that go for what they are go first,
# so that no row is dropped as the double of one that does not stay.
GATES = (LENGTH, language.NAME, decontaminate.NAME, image_duplicate.NAME, near_duplicate.NAME)


class CurateConfig(Config):
    """One run of ``l2t curate``.

    Attributes:
        source: instruction set to read.
        corpus: where its images are.
        output: instruction set to write.
        near_duplicate: least similarity of rows that say the same, 1 for the same words only.
        across_pictures: compare texts about different pictures too.
        image_duplicate: largest Hamming distance of pictures that show the same.
        decontaminate: evaluation sets, instructions or corpora.
        picture_distance: as ``image_duplicate``, for the pictures of evaluation sets.
        language: ISO 639-1 codes of the languages that may stay.
        length: least and most words of an answer.
        keep: gates that only write down what they find.
    """

    source: str
    corpus: str
    output: str
    near_duplicate: float | None = Field(default=None, gt=0, le=1)
    across_pictures: bool = False
    image_duplicate: int | None = Field(default=None, ge=0, le=MAX_DISTANCE)
    decontaminate: tuple[str, ...] = ()
    picture_distance: int = Field(default=4, ge=0, le=MAX_DISTANCE)
    language: tuple[str, ...] = ()
    length: tuple[int, int] | None = None
    keep: tuple[str, ...] = ()

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that are on, in order."""
        return tuple(name for name in GATES if getattr(self, name) not in (None, ()))

    @property
    def dropping(self) -> tuple[str, ...]:
        """The gates that are on and drop what they find."""
        return tuple(name for name in self.gates if name not in self.keep)

    @property
    def looks(self) -> bool:
        """Whether pictures have to be decoded."""
        return self.image_duplicate is not None or bool(self.decontaminate)

    def identity(self) -> dict[str, Any]:
        """What makes a run the same run, wherever its data lies: settings, and evaluation sets by content."""
        values = self.model_dump(mode="json", exclude={"source", "corpus", "output", "decontaminate"})
        return {**values, "decontaminate": {uri: manifest_hash(uri) for uri in self.decontaminate}}
