"""Calls about one image, each made once: arms of an ablation and drafts written together share what is equal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from datagen.engine import Completion, Engine, Score
from datagen.records import Sampling

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class Calls:
    """The engine calls of one corpus row by what was asked. ``made`` counts those that reached an engine.

    A call follows from its prompt, image and sampling alone, and seeds follow from lineage: two arms that agree up
    to here ask the same and are answered once. Records count calls as if their arm had run alone.
    """

    made: int = 0
    tokens_prompt: int = 0
    tokens_cached: int = 0
    tokens_completion: int = 0
    _known: dict[Any, asyncio.Task[Completion]] = field(default_factory=dict)
    _scored: dict[Any, asyncio.Task[Score]] = field(default_factory=dict)

    async def complete(
        self,
        engine: Engine,
        prompt: str,
        picture: Image | None,
        image_id: str | None,
        sampling: Sampling,
        regex: str = "",
    ) -> Completion:
        """`Engine.complete`, or the answer that an equal call got; errors are shared like answers."""
        key = (id(engine), prompt, image_id, sampling, regex)
        task = self._known.get(key)
        if task is None:
            # A task of its own: the draft that asked first may be cancelled while another still waits.
            task = asyncio.ensure_future(self._ask(engine, prompt, picture, image_id, sampling, regex))
            self._known[key] = task
        return await asyncio.shield(task)

    async def score(
        self, engine: Engine, prompt: str, answer: str, picture: Image | None, image_id: str | None
    ) -> Score:
        """`Engine.score`, or what an equal call got."""
        key = (id(engine), prompt, image_id, answer)
        task = self._scored.get(key)
        if task is None:
            task = asyncio.ensure_future(self._score(engine, prompt, answer, picture, image_id))
            self._scored[key] = task
        return await asyncio.shield(task)

    async def _score(
        self, engine: Engine, prompt: str, answer: str, picture: Image | None, image_id: str | None
    ) -> Score:
        self.made += 1
        score = await engine.score(prompt, answer, picture, image_id)
        self.tokens_prompt += score.tokens_prompt
        return score

    async def _ask(
        self,
        engine: Engine,
        prompt: str,
        picture: Image | None,
        image_id: str | None,
        sampling: Sampling,
        regex: str,
    ) -> Completion:
        self.made += 1
        completion = await engine.complete(prompt, picture, image_id, sampling, regex=regex)
        self.tokens_prompt += completion.tokens_prompt
        self.tokens_cached += completion.tokens_cached
        self.tokens_completion += completion.tokens_completion
        # Half a surrogate pair, which a model may write, cannot be stored.
        return replace(completion, text=completion.text.encode("utf-8", "replace").decode())
