"""The desk: one image, its annotations, and the engines that a program may ask about it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datagen.annotations import holds, serialise
from datagen.config import DatagenConfig
from datagen.corpus import CorpusRow
from datagen.engine import Engine, RequestError
from datagen.programs.draft import Draft, Ended, Provenance
from datagen.prompts import PromptSet
from datagen.records import Record, Sampling, Turn, record_id

if TYPE_CHECKING:
    from PIL.Image import Image

PROGRAM_VERSION = "1"
Step = Callable[["Desk", Draft], Awaitable[None]]


@dataclass
class Desk:
    """What a program works with at one image. ``started`` counts drafts, for the balance of the books."""

    config: DatagenConfig
    prompts: PromptSet
    engines: Mapping[str, Engine]
    row: CorpusRow
    picture: Image | None
    revision: str = ""
    started: int = 0
    annotations: str = field(init=False)

    def __post_init__(self) -> None:
        self.annotations = serialise(self.row)

    def first(self, kind: str, k: int, step: str) -> Draft:
        """The ``k``-th draft about this image."""
        self.started += 1
        return Draft(
            id=record_id(self.config.seed, self.row.image_id, step, k, self.config.round),
            image_ids=(self.row.image_id,),
            kind=kind,
            round=0,
            step=step,
        )

    def derive(
        self, parent: Draft, step: str, *, k: int = 0, round: int | None = None, kind: str | None = None
    ) -> Draft:
        """A draft made from a verified one."""
        self.started += 1
        return parent.child(
            step, k, parent.round if round is None else round, seed=self.config.seed, kind=kind
        )

    def seed(self, draft: Draft, step: str, attempt: int = 0) -> int:
        """Seed of a call: from the run's seed, the draft's id and the step, so a row redone is a row
        repeated.
        """
        return (
            int(record_id(self.config.seed, draft.id, step, attempt, self.config.round)[:8], 16) & 0x7FFFFFFF
        )

    def coin(self, draft: Draft, what: str, share: float) -> bool:
        """A seeded decision that ``share`` of drafts answer with yes."""
        return random.Random(self.seed(draft, what)).random() < share

    async def ask(self, draft: Draft, step: str, *, attempt: int = 0, rewrite: str = "") -> str:
        """One prompted call for a draft; the text as the model wrote it.

        Raises:
            Ended: ``failed`` where the engine refused the request, ``truncated`` where the text was cut.
        """
        prompt = self.prompts.prompt(step, draft.kind)
        about = self.prompts.kinds[draft.kind].about if draft.kind in self.prompts.kinds else ""
        text = self.prompts.render(
            step,
            kind=draft.kind,
            about=about,
            question=draft.question,
            answer=draft.answer,
            rewrite=rewrite,
            annotations=self.annotations,
            **self._drawn(draft),
        )
        turns = [Turn(role="system", text=prompt.system)] if prompt.system else []
        engine = self.engines[prompt.role]
        rendered = engine.render_chat([*turns, Turn(role="user", text=text)], has_image=prompt.image)
        return await self.call(
            draft, step, engine, rendered, self.sampling(draft, step, attempt), prompt.image
        )

    def _drawn(self, draft: Draft) -> dict[str, str]:
        """One value for each of the prompt set's draws, from the draft's seed."""
        drawn = {}
        for name, values in self.prompts.draws.items():
            drawn[name] = random.Random(self.seed(draft, f"draw-{name}")).choice(values)
        return drawn

    def sampling(self, draft: Draft, step: str, attempt: int = 0) -> Sampling:
        """How a step draws for this draft; later attempts are warmer."""
        settings = getattr(self.config.sampling, step)
        if attempt and settings.temperature < self.config.sampling.retry_temperature:
            settings = settings.model_copy(update={"temperature": self.config.sampling.retry_temperature})
        return settings.at(self.seed(draft, step, attempt))

    async def call(
        self, draft: Draft, step: str, engine: Engine, rendered: str, sampling: Sampling, image: bool
    ) -> str:
        """One call with a rendered prompt, put on the draft's account; see `ask`."""
        picture = self.picture if image else None
        try:
            completion = await engine.complete(
                rendered, picture, self.row.sha256 if image else None, sampling
            )
        except RequestError as error:
            draft.raw = str(error)
            raise Ended("failed", step) from error
        draft.spend(completion)
        if completion.finish_reason == "length":
            draft.raw = completion.text
            raise Ended("truncated", step)
        if completion.finish_reason not in ("stop", "eos"):
            draft.raw = f"finish_reason {completion.finish_reason}: {completion.text}"
            raise Ended("failed", step)
        return completion.text

    def kinds(self) -> list[str]:
        """A kind for every draft: each one that the annotations can carry before any comes twice, seeded
        order.
        """
        wanted = self.config.kinds or tuple(self.prompts.kinds)
        fit = [k for k in wanted if holds(self.prompts.kinds[k].needs, self.row)] or list(wanted)
        rng = random.Random(f"{self.config.seed}-kinds-{self.row.image_id}")
        drawn = rng.sample(fit, len(fit))
        again = [k for k in fit if not self.prompts.kinds[k].once] or fit
        while len(drawn) < self.config.drafts_per_image:
            drawn += rng.sample(again, len(again))
        return drawn[: self.config.drafts_per_image]

    def record(self, draft: Draft) -> Record:
        """A draft that has ended, as a record with its provenance."""
        return draft.record(
            Provenance(
                program=self.config.program,
                program_version=PROGRAM_VERSION,
                prompt_set=self.prompts.name,
                prompt_version=self.prompts.version,
                model_revision=self.revision,
                source=self.row.source,
            )
        )


async def survives(desk: Desk, draft: Draft, *steps: Step) -> bool:
    """Take a draft through steps; False where one of them ended it."""
    try:
        for step in steps:
            await step(desk, draft)
    except Ended as end:
        draft.end(end.state, end.reason)
        return False
    return True
