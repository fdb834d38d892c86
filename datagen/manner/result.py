"""What ``manner.json`` holds. Every measure is *ours*: the paper's own evaluation of manner is done by people."""

from __future__ import annotations

from pydantic import Field

from cluster.config import Config
from datagen.manner.survey import Survey

SCHEMA_VERSION = "1"


class Estimate(Config):
    """A value with its standard error (clustered by image) and the middle 95 % of its bootstrap, where there are
    any."""

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None


class Change(Config):
    """One quantity before and after, and their paired difference (after - before)."""

    before: Estimate
    after: Estimate
    difference: Estimate
    own: Estimate | None = Field(
        default=None, description="the same of the inner LLM's own answers, where it applies"
    )


class Likelihood(Config):
    """Text-only teacher-forced likelihood under the inner LLM, in nats.

    ``per_token`` is over all tokens (perplexity is its exponential), ``per_answer`` the mean over answers of their
    nats per token, ``total`` the mean nats of a whole answer: a rewrite that only adds likely words lowers the first
    two and raises the last.
    """

    answers: int
    per_token: Change
    perplexity: Change
    per_answer: Change
    total: Change
    per_answer_changed: Change | None = Field(
        default=None, description="per_answer over the answers whose text changed"
    )
    closed: float | None = Field(
        default=None,
        description="share of the way from before to the model's own answers, by per_answer; None where before was not "
        "above them",
    )
    closed_changed: float | None = Field(
        default=None, description="the same of the answers whose text changed"
    )


class Divergence(Config):
    """Jensen-Shannon divergence, in bits, from the inner LLM's own answers to the same questions.

    It is biased upwards for finite samples, more so for longer n-grams: ``floor``, between two random halves of the
    reference, shows how much of it is noise (a little more than in the comparison itself, for halves are smaller).
    """

    name: str
    before: Estimate
    after: Estimate
    difference: Estimate
    floor: float | None


class Style(Config):
    """A statistic of sentences or words, mean over answers."""

    name: str
    label: str
    change: Change


class Repetition(Config):
    """How much the answers repeat one another; all three sets answer the same questions."""

    name: str
    label: str
    before: float | None
    after: float | None
    own: float | None


class Word(Config):
    """A word's use per thousand words; ``z`` is the signed root of
    Dunning's log-likelihood ratio, before against the reference."""

    word: str
    before: float
    after: float
    own: float
    z: float


class Words(Config):
    """What was used more and less than in the reference before the rewrite, most striking first."""

    over: tuple[Word, ...]
    under: tuple[Word, ...]


class Judgement(Config):
    """Blind pairwise judgement; the first seven add up to ``pairs``."""

    pairs: int
    after: int = Field(description="both orders: the new answer is closer to the reference")
    before: int
    tie: int = Field(description="both orders: no difference")
    inconsistent: int = Field(description="the verdict turned with the order; counts as a tie")
    unparsed: int = Field(description="at least one of the two could not be read")
    no_reference: int = Field(description="the model gave no usable answer of its own")
    refused: int = Field(description="the engine refused the call, too long")
    preferred: Estimate | None = Field(description="after / (after + before), None without a verdict")
    first_shown: float | None = Field(
        description="how often a readable verdict named what was shown first; 0.5 is no preference for a position"
    )
    can_judge: bool = Field(description="whether at least half of the judged pairs got a verdict or a tie")


class Reference(Config):
    """The inner LLM's own answers, to the same questions without the picture."""

    answers: int
    usable: int
    refused: int = Field(description="talk of not seeing the picture; left out")
    cut: int = Field(description="ended by the token limit; kept")


class Manner(Config):
    """One measurement; all texts are soft-format answers of the sample."""

    schema_version: str = SCHEMA_VERSION
    source: str = "ours; arXiv 2503.18320 evaluates manner by people"
    instructions: str
    before: str
    models: dict[str, str]
    names: dict[str, str]
    prompts: str
    seed: int
    survey: Survey
    failed: int = Field(description="answers of the sample that the engine refused, too long for its context")
    changed: int = Field(description="measured answers whose text differs from before")
    images: int
    reference: Reference
    likelihood: Likelihood
    divergences: tuple[Divergence, ...]
    styles: tuple[Style, ...]
    repetition: tuple[Repetition, ...]
    words: Words | None
    function_words: Words | None
    judgement: Judgement | None
