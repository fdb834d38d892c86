"""A draft on its way: what the steps of a program change, and how it ends in exactly one record."""

from __future__ import annotations

from dataclasses import dataclass, field

from datagen.engine import Completion
from datagen.records import Format, GateResult, Record, Sampling, State, Turn, Verdict, record_id


class Ended(Exception):
    """A step that ends its draft: the terminal state and the reason, a short fixed form that can be
    counted.
    """

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(f"{state}: {reason}")
        self.state: State = state
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where records come from; equal for all drafts of an image."""

    program: str
    program_version: str
    prompt_set: str
    prompt_version: str
    model_revision: str
    source: str


@dataclass
class Draft:
    """One candidate conversation about one image. ``raw`` is what a model last wrote and nobody could read.

    ``number`` counts the first drafts of an image by call, ``place`` is this one's place among those that the call
    writes, ``lead`` the id of the first of them. An imported conversation stands in ``turns``, as it was in
    ``origin``; question and answer are then the exchange at work.
    """

    id: str
    image_ids: tuple[str, ...]
    kind: str
    round: int = 0
    step: str = "synthesize"
    parents: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""
    format: Format = "open"
    options: tuple[str, ...] = ()
    answer_index: int | None = None
    rewrite: str = ""
    raw: str = ""
    number: int = -1
    place: int = 0
    lead: str = ""
    turns: tuple[Turn, ...] = ()
    origin: Record | None = None
    state: State | None = None
    reason: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    verdict: Verdict | None = None
    scores: dict[str, float] = field(default_factory=dict)
    gates: list[GateResult] = field(default_factory=list)
    calls: int = 0
    tokens_prompt: int = 0
    tokens_cached: int = 0
    tokens_completion: int = 0

    def child(self, step: str, k: int, round: int, *, seed: int, kind: str | None = None) -> Draft:
        """A draft made from this one; its id follows from this one's and the step, not from any text."""
        return Draft(
            id=record_id(seed, self.id, step, k, round),
            image_ids=self.image_ids,
            kind=kind or self.kind,
            round=round,
            step=step,
            parents=(self.id,),
        )

    def spend(self, completion: Completion) -> None:
        """Put a call on this draft's account."""
        self.calls += 1
        self.tokens_prompt += completion.tokens_prompt
        self.tokens_cached += completion.tokens_cached
        self.tokens_completion += completion.tokens_completion

    def end(self, state: State, reason: str = "") -> None:
        """Reach the terminal state; a second end is a bug."""
        if self.state is not None:
            raise AssertionError(
                f"draft {self.id} ended twice: {self.state} {self.reason}, then {state} {reason}"
            )
        self.state, self.reason = state, reason

    def record(self, provenance: Provenance) -> Record:
        """The draft as a record. Text that could not be read stands in a turn of the role ``draft``."""
        if self.state is None:
            raise AssertionError(f"draft {self.id} has not ended")
        turns = list(self.turns)
        if not turns and self.question:
            turns.append(Turn(role="user", text=self.question))
        if not self.turns and self.answer:
            turns.append(Turn(role="assistant", text=self.answer))
        if self.raw:
            turns.append(Turn(role="draft", text=self.raw))
        return Record(
            id=self.id,
            image_ids=self.image_ids,
            kind=self.kind,
            format=self.format,
            conversation=tuple(turns),
            state=self.state,
            reason=self.reason,
            round=self.round,
            parents=self.parents,
            options=self.options,
            answer_index=self.answer_index,
            rewrite=self.rewrite,
            sampling=self.sampling,
            verdict=self.verdict,
            scores=tuple(sorted(self.scores.items())),
            gates=tuple(self.gates),
            calls=self.calls,
            tokens_prompt=self.tokens_prompt,
            tokens_cached=self.tokens_cached,
            tokens_completion=self.tokens_completion,
            program=provenance.program,
            program_version=provenance.program_version,
            prompt_set=provenance.prompt_set,
            prompt_version=provenance.prompt_version,
            # Nobody here wrote what an imported conversation says, unless it was rewritten.
            model_revision=provenance.model_revision
            if self.rewrite or not self.origin
            else self.origin.model_revision,
            source=self.origin.source if self.origin else provenance.source,
        )


def outcome(state: str, reason: str) -> str:
    """The key under which a terminal state is counted: ``accepted``, ``rejected:unverified``,
    ``failed:image`` …
    """
    return f"{state}:{reason}" if reason else state
