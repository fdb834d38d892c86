"""Settings of a measurement. What is not in `OPERATIONAL` decides the numbers and is part of the run's identity."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cluster.config import Config
from cluster.models import STARTERS
from datagen.config import ENGINE_IDENTITY, StepSampling
from datagen.engine import EngineConfig

OPERATIONAL = {"instructions", "before", "actors", "in_flight", "cpus_per_actor", "gpus_per_actor"}


class MannerConfig(Config):
    """One measurement of one instruction set."""

    instructions: str = Field(description="URI of a published instruction set")
    before: str | None = Field(
        default=None,
        description="URI of the set it was rewritten from; None: the originals that our rewrite program kept",
    )
    inner: EngineConfig = Field(
        default=EngineConfig(), description="the base LLM whose manner of writing answers should have"
    )
    judge: EngineConfig | None = Field(default=None, description="None: the inner LLM judges")
    pairwise: bool = Field(default=True, description="whether a judge compares before and after")
    prompts: str | None = Field(
        default=None,
        description="name in datagen/manner/prompts or path of a YAML file; None: starter for the embedded models, "
        "full for all others",
    )
    rows: int = Field(
        default=2000, ge=1, description="answers measured; the sample follows from ids and seed"
    )
    seed: int = 0
    own: StepSampling = Field(
        default=StepSampling(temperature=0.7, top_p=0.95, max_tokens=256),
        description="how the inner LLM draws its own answers, the reference",
    )
    judging: StepSampling = Field(default=StepSampling(max_tokens=160), description="how the judge draws")
    resamples: int = Field(default=500, ge=50, description="replicates of every bootstrap interval")
    actors: int = Field(default=1, ge=1, description="engine actors")
    in_flight: int = Field(default=8, ge=1, description="shards in work at once per actor")
    cpus_per_actor: float = 1.0
    gpus_per_actor: float | None = Field(
        default=None, description="None: the larger tensor_parallel_size where Ray has GPUs, else 0"
    )

    @model_validator(mode="after")
    def _can_score(self) -> MannerConfig:
        if self.inner.backend == "openai":
            raise ValueError(
                "inner needs backend vllm: a server does not tell the likelihood of a given answer"
            )
        return self

    @property
    def judge_engine(self) -> EngineConfig:
        """Settings of the judge."""
        return self.judge or self.inner

    @property
    def prompt_set(self) -> str:
        """Name or path of the prompts."""
        return self.prompts or ("starter" if self.inner.model in STARTERS else "full")

    def identity(self) -> dict[str, Any]:
        """Everything that decides the numbers; weights are identified by their revision, not by where they lie."""
        settings = self.model_dump(mode="json", exclude=OPERATIONAL | {"inner", "judge", "prompts"})
        engines = {"inner": self.inner, "judge": self.judge_engine}
        return {
            **settings,
            "engines": {role: e.model_dump(include=set(ENGINE_IDENTITY)) for role, e in engines.items()},
        }
