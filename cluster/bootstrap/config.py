"""What a bootstrap loop is: its model, its images, the original data, and the rules by which it goes on or ends."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from cluster.config import Config
from cluster.storage import join

PRESETS_DIR = Path(__file__).parents[1] / "presets"
# Settings that may differ when a loop with a finished round goes on: how far and where it runs, not what a round is.
OPERATIONAL = {"rounds": True, "address": True, "promotion": {"patience"}}


class StageSettings(Config):
    """How a stage is run: its preset and further settings for it (``a.b=c``)."""

    preset: str
    set: tuple[str, ...] = ()


class Source(Config):
    """Data that the model has learned from before and that stays in the mix."""

    instructions: str
    corpus: str | None = Field(None, description="None: the loop's own")
    weight: float = Field(1.0, gt=0, description="passes per epoch")
    share: float = Field(1.0, gt=0, le=1, description="of its rows, always the same ones")


class Held(Config):
    """Pictures and gold rows that nothing is trained on."""

    corpus: str
    instructions: str


class Screen(Config):
    """What a round's pairs go through as a whole (``l2t curate``)."""

    near_duplicate: float | None = Field(
        0.8, gt=0, le=1, description="similarity within the round; None: off"
    )
    decontaminate: tuple[str, ...] = Field((), description="evaluation sets beside the validation set")


class Mix(Config):
    """How self-written pairs join the original data (weight and bound are *ours*: the paper says that it merges)."""

    weight: float = Field(1.0, gt=0, description="passes over self-written rows per epoch")
    max_self_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="upper bound of self-written rows among those of an epoch; their weight falls to keep it",
    )
    restart: bool = Field(
        False,
        description="each round trains the first model anew on everything; else the incumbent learns on",
    )


class Promotion(Config):
    """When a round's model takes the place of the one before (*ours*)."""

    min_gain: float = Field(
        0.0, description="mean relative improvement over all tasks must be above this, in percent"
    )
    confidence: float = Field(
        0.9,
        gt=0.5,
        lt=1,
        description="the lower end of its two-sided interval must be; errors are clustered by image",
    )
    patience: int = Field(0, ge=0, description="rounds in a row that may fail before the loop ends")


class Collapse(Config):
    """Floors below which the loop ends (*ours*; the ratios are round by original data, or model by first model)."""

    distinct_2: float = Field(0.4, ge=0, description="distinct word pairs of instructions per word pair")
    unique: float = Field(0.3, ge=0, description="share of different instructions")
    kind_entropy: float = Field(0.5, ge=0, description="bits over kinds of questions")
    answer_entropy: float = Field(0.5, ge=0, description="bits over answers")
    spread: float = Field(0.5, ge=0, description="mean cosine distance between instructions")
    length: tuple[float, float] = Field((0.4, 2.5), description="mean words of an instruction")
    vc: float = Field(0.7, ge=0, description="mean visual contribution on the validation set")


class BootstrapConfig(Config):
    """Rounds of generate, screen, train, measure and decide."""

    model: str = Field(description="run of the L2T-trained model (the folder that holds model/)")
    corpus: str = Field(description="URI of the images the model writes about")
    original: tuple[Source, ...] = Field(
        min_length=1, description="what the model was trained on; it stays in the mix"
    )
    validation: Held | None = Field(
        None, description="decides on promotion; None promotes every round unseen, as the paper does"
    )
    root: str = Field(description="results go to <root>/{instructions,checkpoints,evals,bootstrap}")
    name: str = "bootstrap"
    seed: int = Field(0, description="of writing and of training; every round draws anew from it")
    rounds: int = Field(1, ge=1)
    generator: str | None = Field(
        None, description="run of another model that writes in place of the incumbent (a control)"
    )
    datagen: StageSettings | None = Field(
        description="None: nothing is written, rounds train on the original data alone (a control)"
    )
    screen: Screen | None = Screen()
    mix: Mix = Mix()
    train: StageSettings
    eval: StageSettings = StageSettings(preset="starter")
    promotion: Promotion = Promotion()
    collapse: Collapse = Collapse()
    address: str | None = Field(
        None, description="job server of a Ray cluster on which each stage is a job; None: stages run here"
    )

    @model_validator(mode="after")
    def _known_name(self) -> BootstrapConfig:
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"name {self.name!r}: letters, digits, - and _ (it becomes part of folders)")
        return self

    @property
    def home(self) -> str:
        """URI of the loop's own records."""
        return join(self.root, "bootstrap", self.name)
