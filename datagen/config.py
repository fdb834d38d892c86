"""Settings of a datagen run. What is here and not in `OPERATIONAL` decides what is written and is part of the
run's identity; the rest only decides how fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cluster.config import Config
from datagen.engine import EngineConfig
from datagen.gates import NAMES
from datagen.records import Sampling

ROLES = ("generator", "verifier", "inner")
PRESETS_DIR = Path(__file__).parent / "presets"
OPERATIONAL = {
    "output",
    "corpus",
    "actors",
    "in_flight",
    "rows_in_flight",
    "cpus_per_actor",
    "gpus_per_actor",
    "engine_deaths",
}


class StepSampling(Config):
    """How one step draws its text; the seed comes from the run's seed and the draft's id."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, description="0 is off")
    max_tokens: int = Field(default=96, ge=1)
    stop: tuple[str, ...] = ()

    def at(self, seed: int) -> Sampling:
        """With a seed."""
        return Sampling(seed=seed, **self.model_dump())


_CREATIVE = StepSampling(temperature=0.9, top_p=0.95)


class Samplings(Config):
    """One entry per step. ``retry_temperature`` is for the second and later rewrites of one answer: a greedy
    model would only say the same again.
    """

    synthesize: StepSampling = _CREATIVE
    complicate: StepSampling = _CREATIVE
    verify: StepSampling = StepSampling()
    bool_yes: StepSampling = StepSampling()
    bool_no: StepSampling = StepSampling(temperature=0.7)
    choice: StepSampling = StepSampling(temperature=0.7)
    rewrite: StepSampling = StepSampling()
    review: StepSampling = StepSampling(max_tokens=16)
    instruct: StepSampling = Field(
        default=StepSampling(temperature=1.0, top_k=20),
        description="bootstrap: the instruction (decoding as in Oasis)",
    )
    respond: StepSampling = Field(default=StepSampling(), description="bootstrap: the response, greedy")
    retry_temperature: float = 0.7


class Engines(Config):
    """Which model plays which role; None is the generator's."""

    generator: EngineConfig = EngineConfig()
    verifier: EngineConfig | None = None
    inner: EngineConfig | None = Field(
        default=None, description="the base LLM whose manner of writing answers should have"
    )

    def of(self, role: str) -> EngineConfig:
        """Settings of a role."""
        chosen: EngineConfig | None = getattr(self, role)
        return chosen or self.generator


class Reformulate(Config):
    """Shares of verified drafts that also become a yes/no pair or a multiple choice (fractions are ours: the
    paper gives none).
    """

    bool_share: float = Field(default=0.3, ge=0, le=1)
    choice_share: float = Field(default=0.3, ge=0, le=1)


class Rewrite(Config):
    """Writing-manner alignment of soft-format answers."""

    share: float = Field(default=1.0, ge=0, le=1, description="0 turns it off")
    retries: int = Field(default=1, ge=0, description="further attempts before the original answer is kept")


class DatagenConfig(Config):
    """One run: corpus in, instructions out."""

    corpus: str = Field(description="URI of a published corpus")
    output: str = Field(description="URI of the instruction data set to write")
    program: Literal["comvint", "bootstrap"] = "comvint"
    prompt_set: str = Field(default="starter", description="name in datagen/prompts or path of a YAML file")
    engines: Engines = Engines()
    drafts_per_image: int = Field(default=4, ge=1)
    kinds: tuple[str, ...] = Field(
        default=(), description="families to ask for; empty: all of the prompt set"
    )
    rounds: int = Field(default=1, ge=0, description="complicate-then-verify rounds")
    round: int = Field(default=0, ge=0, description="bootstrap round this data belongs to")
    reformulate: Reformulate = Reformulate()
    rewrite: Rewrite = Rewrite()
    sampling: Samplings = Samplings()
    gates: tuple[str, ...] = NAMES
    verify: bool = Field(
        default=True, description="off only for ablations: drafts that pass the gates are accepted"
    )
    seed: int = 0
    shards: int | None = Field(default=None, ge=1, description="only the first shards of the corpus")
    actors: int = Field(default=1, ge=1, description="engine actors")
    in_flight: int = Field(
        default=3, ge=1, description="shards in work at once per actor, so the batch never drains"
    )
    rows_in_flight: int | None = Field(
        default=None, description="images in work at once per actor; None: two batches full of drafts"
    )
    cpus_per_actor: float = 1.0
    gpus_per_actor: float | None = Field(
        default=None, description="None: tensor_parallel_size where Ray has GPUs, else 0"
    )
    engine_deaths: int = Field(
        default=3, ge=1, description="times a shard may lose its engine before the run stops"
    )

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is written."""
        return self.model_dump(mode="json", exclude=OPERATIONAL)
