"""Settings of a datagen run. What is here and not in `OPERATIONAL` decides what is written and is part of the
run's identity; the rest only decides how fast.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cluster.config import Config
from cluster.errors import did_you_mean
from cluster.storage import join
from datagen.annotations import holds
from datagen.corpus import CorpusRow
from datagen.engine import EngineConfig
from datagen.gates import KEEPABLE, NAMES
from datagen.gates.settings import Balance, Blind, Consistency, NearDuplicate, Rating
from datagen.records import Sampling

ROLES = ("generator", "verifier", "inner")
PRESETS_DIR = Path(__file__).parent / "presets"
OPERATIONAL = {
    "output",
    "corpus",
    "instructions",
    "arms",
    "actors",
    "max_actors",
    "in_flight",
    "rows_in_flight",
    "cpus_per_actor",
    "gpus_per_actor",
    "engine_deaths",
    "quarantine_limit",
}

ENGINE_IDENTITY = ("backend", "max_model_len", "dtype", "image_placeholder")
# What arms may differ in: filters and follow-ups, not what the drafts are or who writes them.
ARM_SETTINGS = (
    "gates",
    "verify",
    "blind",
    "consistency",
    "rating",
    "near_duplicate",
    "keep",
    "balance",
    "rounds",
    "reformulate",
    "rewrite",
    "evolve",
)

NO_ROW = CorpusRow(image_id="", image=b"", width=0, height=0, sha256="")


class StepSampling(Config):
    """How one step draws its text; the seed comes from the run's seed and the draft's id."""

    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, description="0 is off")
    max_tokens: int = Field(default=96, ge=1)
    stop: tuple[str, ...] = ()

    def at(self, seed: int) -> Sampling:
        """With a seed."""
        # Spelt out: model_dump for every call was a tenth of a call's cost.
        return Sampling(
            seed=seed,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            stop=self.stop,
        )


_CREATIVE = StepSampling(temperature=0.9, top_p=0.95)
_RATING = StepSampling(max_tokens=160)


class Samplings(Config):
    """One entry per step."""

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
    evolve_interaction: StepSampling = _CREATIVE
    evolve_reasoning: StepSampling = _CREATIVE
    evolve_perception: StepSampling = _CREATIVE
    eliminate: StepSampling = StepSampling()
    extract: StepSampling = Field(
        default=StepSampling(max_tokens=256), description="bootstrap: the instruction within what was written"
    )
    rate_solvability: StepSampling = _RATING
    rate_clarity: StepSampling = _RATING
    rate_hallucination: StepSampling = _RATING
    rate_nonsense: StepSampling = _RATING
    guess: StepSampling = Field(
        default=StepSampling(), description="blind gate: the answer without the image"
    )
    again: StepSampling = Field(
        default=StepSampling(temperature=0.7, top_p=0.95), description="consistency: the sampled answers"
    )
    retry_temperatures: tuple[float, ...] = Field(
        default=(0.7, 1.0),
        description="ladder of further attempts where a text could not be read or a rewrite failed: a greedy model "
        "would only say the same again. Its length is how often an unreadable text is tried again",
    )


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
    review: bool = Field(default=True, description="off only for ablations: what passes the gate is taken")


class Evolve(Config):
    """Evolution of pairs (MMEvol, arXiv 2409.05840): its direction probabilities and its patience."""

    interaction: float = Field(default=0.25, ge=0)
    reasoning: float = Field(default=0.25, ge=0)
    perception: float = Field(default=0.5, ge=0)
    patience: int = Field(default=2, ge=1, description="attempts at a round before the version before stays")
    eliminate: bool = Field(default=True, description="off only for ablations: no judge compares old and new")


class Bootstrap(Config):
    """Program bootstrap: how the model is shown an image alone, and what follows a pair that it wrote."""

    system: str = Field(default="", description="system text that the generator was trained with")
    ending: Literal["template", "sentence"] = Field(
        default="template",
        description="template: an instruction goes on to where the template begins the answer; sentence: it is cut "
        "behind its first sentence, or behind its options. L2T takes no loss on the template's words, so a model that "
        "it trained may never have learned to end an instruction",
    )
    extract: bool = Field(
        default=False,
        description="the verifier takes the instruction out of what was written, or says that there is none (Oasis): "
        "for models that were not trained with mode l2t",
    )
    ask: tuple[str, ...] = Field(
        default=(),
        description="instructions in place of the model's own, one for each draft of an image in turn: a control, as "
        "with captions only",
    )
    further: Literal["none", "complicate", "evolve"] = Field(
        default="none", description="what is made from a pair that passed, in `rounds` rounds"
    )
    patience: int = Field(
        default=64,
        ge=0,
        description="drafts without one readable pair (or 16 times as many without one accepted) after which the run "
        "ends, counted by each worker; 0: never",
    )


class DatagenConfig(Config):
    """One run: corpus in, instructions out."""

    corpus: str = Field(description="URI of a published corpus")
    instructions: str | None = Field(
        default=None, description="align, evolve: URI of the instruction set to work on, over the same corpus"
    )
    output: str = Field(description="URI of the instruction data set to write")
    program: Literal["comvint", "bootstrap", "align", "evolve"] = "comvint"
    prompt_set: str = Field(default="starter", description="name in datagen/prompts or path of a YAML file")
    engines: Engines = Engines()
    drafts_per_image: int = Field(default=4, ge=1)
    pairs_per_call: int = Field(
        default=1,
        ge=1,
        description="pairs that one call of synthesize writes (ComVint: 3); drafts share the call",
    )
    kinds: tuple[str, ...] = Field(
        default=(), description="families to ask for; empty: all of the prompt set"
    )
    needs: dict[str, str] = Field(
        default={},
        description="kind: what the annotations must hold, in place of the prompt set's (datagen.prompts)",
    )
    rounds: int = Field(default=1, ge=0, description="complicate-then-verify or evolution rounds")
    round: int = Field(default=0, ge=0, description="bootstrap round this data belongs to")
    reformulate: Reformulate = Reformulate()
    rewrite: Rewrite = Rewrite()
    evolve: Evolve = Evolve()
    sampling: Samplings = Samplings()
    gates: tuple[str, ...] = Field(default=NAMES, description="mechanical checks, see datagen/gates")
    verify: bool = Field(
        default=True, description="off only for ablations: drafts that pass the gates are accepted"
    )
    blind: Blind = Blind()
    consistency: Consistency = Consistency()
    rating: Rating = Rating()
    near_duplicate: NearDuplicate = NearDuplicate()
    keep: tuple[str, ...] = Field(
        default=(),
        description="gates that only write down what they find, so that each can be measured on all drafts "
        f"(l2t eval gates): {', '.join(KEEPABLE)}",
    )
    bootstrap: Bootstrap = Bootstrap()
    balance: Balance = Balance()
    arms: dict[str, dict[str, Any]] = Field(
        default={},
        description="ablation: name: settings that differ; each arm is a data set <output>/<name>, calls are shared",
    )
    seed: int = 0
    shards: int | None = Field(default=None, ge=1, description="only the first shards of the corpus")
    actors: int = Field(default=1, ge=1, description="engine actors")
    max_actors: int | None = Field(
        default=None, ge=1, description="let the pool grow to this with the backlog"
    )
    in_flight: int = Field(
        default=3, ge=1, description="shards in work at once per actor, so the batch never drains"
    )
    rows_in_flight: int | None = Field(
        default=None, ge=1, description="images in work at once per actor; None: two batches full of drafts"
    )
    cpus_per_actor: float = 1.0
    gpus_per_actor: float | None = Field(
        default=None, description="None: tensor_parallel_size where Ray has GPUs, else 0"
    )
    engine_deaths: int = Field(
        default=2,
        ge=1,
        description="engine deaths at a shard after which the row that causes them is searched for",
    )
    quarantine_limit: int = Field(
        default=8,
        ge=1,
        description="rows of a shard that may kill engines before the engine itself is blamed",
    )

    @field_validator("gates")
    @classmethod
    def _known_gates(cls, gates: tuple[str, ...]) -> tuple[str, ...]:
        for name in gates:
            if name not in NAMES:
                raise ValueError(
                    f"there is no gate {name!r}{did_you_mean(name, NAMES)} Gates: {', '.join(NAMES)}"
                )
        return gates

    @field_validator("keep")
    @classmethod
    def _keepable(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        for name in keep:
            if name not in KEEPABLE:
                raise ValueError(
                    f"keep: there is no gate {name!r}{did_you_mean(name, KEEPABLE)} Gates: {', '.join(KEEPABLE)}"
                )
        return keep

    @model_validator(mode="after")
    def _consistent(self) -> DatagenConfig:
        if (self.program in ("align", "evolve")) != (self.instructions is not None):
            needs = "needs" if self.instructions is None else "takes no"
            raise ValueError(f"program {self.program} {needs} instructions=<URI of an instruction set>")
        for kind, needs in self.needs.items():
            try:
                holds(needs, NO_ROW)
            except ValueError as error:
                raise ValueError(f"needs of {kind!r}: {error}") from error
        if self.program == "bootstrap" and self.pairs_per_call > 1:
            raise ValueError(
                "pairs_per_call is for synthesize; the bootstrapping model writes one instruction a call"
            )
        if not (self.evolve.interaction or self.evolve.reasoning or self.evolve.perception):
            raise ValueError("evolve: one of the directions needs a weight above 0")
        if self.consistency.low > self.consistency.high:
            raise ValueError("consistency: low is above high, so no draft could pass")
        if self.engines.generator.backend == "openai" and (
            self.program == "bootstrap"
            or self.blind.method == "likelihood"
            or self.rating.method == "likelihood"
        ):
            raise ValueError(
                "bootstrapping and likelihoods of blind or rating need raw prompts and log likelihoods, which a "
                "chat server does not give: use backend vllm for the generator"
            )
        for name in self.arms:
            if not re.fullmatch(r"[\w-]+", name):
                raise ValueError(f"arm {name!r}: a name of letters, digits, - and _ (it becomes a folder)")
            self.arm(name)
        return self

    def identity(self) -> dict[str, Any]:
        """Everything that decides what is written. Of the engines that is what bears on the text: a run that ran out
        of memory continues with a smaller batch. Weights are identified by their revision, not by where they lie.
        """
        settings = self.model_dump(mode="json", exclude=OPERATIONAL | {"engines"})
        engines = {role: self.engines.of(role) for role in ROLES}
        return {
            **settings,
            "engines": {role: e.model_dump(include=set(ENGINE_IDENTITY)) for role, e in engines.items()},
        }

    def variants(self) -> dict[str, DatagenConfig]:
        """The runs that this run is: itself under the name "", or its arms."""
        return {name: self.arm(name) for name in self.arms} or {"": self}

    def arm(self, name: str) -> DatagenConfig:
        """The run that an arm would be on its own.

        Raises:
            ValueError: the arm changes something that decides which calls are shared, or is misspelt.
        """
        settings = self.model_dump(mode="json")
        for key, value in self.arms[name].items():
            if key not in ARM_SETTINGS:
                raise ValueError(
                    f"arm {name!r} sets {key!r}{did_you_mean(key, ARM_SETTINGS)} Arms may differ in "
                    f"{', '.join(ARM_SETTINGS)}"
                )
            settings[key] = {**settings[key], **value} if isinstance(settings[key], dict) else value
        return DatagenConfig.model_validate({**settings, "arms": {}, "output": join(self.output, name)})
