"""What a study is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cluster.config import Config

STUDIES = Path(__file__).parents[1] / "studies"
# What a command line may name in braces.
PLACES = ("root", "run", "seed", "arm")
_HOLE = re.compile(r"\{(\w+)\}")


class Arm(Config):
    """One recipe: command lines after ``l2t`` that lead to a model; ``{run}`` is its folder, one for every seed."""

    steps: tuple[str, ...]
    model: str = Field("{run}/model", description="what is measured")
    note: str = ""


class Claim(Config):
    """A sentence of a paper in numbers: ``arm`` minus ``against`` goes up or down, stays, or does not fall.

    ``metric`` is a task, ``overall`` (mean relative improvement in percent), or a teacher-forced measure with its set
    of data, as ``test.vc`` or ``train.loss``.
    """

    source: str
    says: str
    arm: str
    against: str
    metric: str = "overall"
    direction: Literal["up", "down", "same", "not_down"] = "up"


class Measure(Config):
    """How all models are measured."""

    preset: str = "starter"
    corpus: str = "{root}/corpora/test"
    instructions: str = "{root}/instructions/test-questions"
    set: tuple[str, ...] = ()


class Study(Config):
    """Arms by name; the first is what the others are held against unless ``baseline`` says otherwise."""

    title: str
    question: str
    design: str
    phrases: dict[str, str] = Field(
        default_factory=dict,
        description="what command lines have in common, by the name that stands for it in braces",
    )
    prepare: tuple[str, ...] = Field((), description="command lines that all arms need, run once")
    arms: dict[str, Arm] = Field(min_length=2)
    baseline: str = ""
    seeds: int = Field(3, ge=1)
    measure: Measure = Measure()
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if self.baseline and self.baseline not in self.arms:
            raise ValueError(f"baseline {self.baseline!r} is not one of the arms {', '.join(self.arms)}")
        for claim in self.claims:
            for arm in (claim.arm, claim.against):
                if arm not in self.arms:
                    raise ValueError(
                        f"claim {claim.says!r}: {arm!r} is not one of the arms {', '.join(self.arms)}"
                    )
        for line in (*self.prepare, *(step for arm in self.arms.values() for step in arm.steps)):
            for hole in _HOLE.findall(filled(line, **self.phrases)):
                if hole not in PLACES:
                    known = ", ".join((*PLACES, *self.phrases))
                    raise ValueError(f"{line!r}: {{{hole}}} is unknown; there are {known}")
        return self

    def words(self, line: str, **places: object) -> list[str]:
        """A command line as arguments, its phrases and places filled in."""
        return shlex.split(filled(filled(line, **self.phrases), **places))

    @property
    def base(self) -> str:
        """The arm that the others are held against."""
        return self.baseline or next(iter(self.arms))


def filled(text: str, **places: object) -> str:
    """A command line with its places filled in; other braces are YAML's and stay."""
    return _HOLE.sub(lambda hole: str(places[hole[1]]) if hole[1] in places else hole[0], text)
