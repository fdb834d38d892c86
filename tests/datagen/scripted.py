"""An engine that answers by a function of the prompt, for tests of programs; never behind a benchmark or a page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from PIL.Image import Image

from datagen.engine import Completion, Score
from datagen.records import Sampling, Turn


class ScriptedEngine:
    """Answers in the starter's chat format; see `datagen.engine.Engine` for the methods."""

    def __init__(self, script: Callable[[str], str | Completion]) -> None:
        self.script = script
        self.prompts: list[str] = []
        self.running, self.slots = 0, 64

    def render_chat(self, turns: Sequence[Turn], *, has_image: bool, cut_after_image: bool = False) -> str:
        """``USER: <image>\\n… ASSISTANT:``"""
        if cut_after_image:
            return "USER: <image>\n"
        said = " ".join(f"{'USER' if t.role == 'user' else 'ASSISTANT'}: {t.text}" for t in turns)
        return (said.replace("USER: ", "USER: <image>\n", 1) if has_image else said) + " ASSISTANT:"

    def after_instruction(self) -> str:
        """See `Engine`."""
        return " ASSISTANT:"

    def before_answer(self) -> str:
        """See `Engine`."""
        return " "

    async def complete(
        self,
        prompt: str,
        image: Image | None,
        image_id: str | None,
        sampling: Sampling,
        logprobs: bool = False,
        regex: str = "",
    ) -> Completion:
        """See `Engine`."""
        await asyncio.sleep(0)
        self.prompts.append(prompt)
        said = self.script(prompt)
        if isinstance(said, Completion):
            return said
        return Completion(text=said, tokens_prompt=len(prompt.split()), tokens_completion=len(said.split()))

    async def score(
        self, prompt: str, continuation: str, image: Image | None = None, image_id: str | None = None
    ) -> Score:
        """A word costs 1 nat, and half of that where the prompt holds it."""
        await asyncio.sleep(0)
        words = continuation.split()
        return Score(tokens=len(words), logprob=-sum(0.5 if w in prompt else 1.0 for w in words))

    def close(self) -> None:
        """Nothing to free."""
