"""One answer measured: likelihood before and after, the model's own answer, and the judgement of the two.

No call sees the picture: the manner is that of the language model, and the picture would only make the words that name
what is seen more likely.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from datagen.engine import Engine, RequestError
from datagen.manner.config import MannerConfig
from datagen.manner.judging import combine, parse_choice
from datagen.manner.pairs import Answer
from datagen.manner.prompts import MannerPrompts
from datagen.records import Sampling, Turn

SCHEMA_VERSION = "1"
ROW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("turn", pa.int32()),
        ("image", pa.string()),
        ("question", pa.string()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("own", pa.string()),  # the inner LLM's own answer
        ("own_cut", pa.bool_()),
        ("own_refused", pa.bool_()),
        # Nats over the whole answer, and how many tokens it has under the inner LLM.
        ("nll_before", pa.float64()),
        ("nll_after", pa.float64()),
        ("nll_own", pa.float64()),
        ("tokens_before", pa.int32()),
        ("tokens_after", pa.int32()),
        ("tokens_own", pa.int32()),
        ("said_after_second", pa.string()),
        ("said_after_first", pa.string()),
        ("first_shown", pa.int8()),  # how often of two the judge chose what it was shown first
        ("verdict", pa.string()),  # "" where nothing was judged
        ("failure", pa.string()),
    ],
    metadata={"l2t.schema": "manner", "l2t.schema_version": SCHEMA_VERSION},
)

_REFUSED = re.compile(
    r"""\b(?:
        as\s+an?\s+(?:ai|artificial|(?:large\s+)?language\s+model|text-based)
      | i\s+(?:can(?:no|')t|can\s+not|do(?:n't|\s+not)\s+have\s+the\s+ability\s+to)\s+
        (?:\w+\s+)?(?:see|view|access|look\s+at|analy[sz]e|identify)
      | i(?:'m|\s+am)\s+(?:unable|not\s+able)\s+to\s+(?:\w+\s+)?(?:see|view|access|look\s+at|analy[sz]e|identify)
      | (?:no|any|the|an)\s+(?:image|picture|photo)\w*\s+(?:\w+\s+){0,3}(?:provided|attached|uploaded|shared|missing)
      | (?:provide|upload|share|attach)\s+(?:\w+\s+){0,3}(?:image|picture|photo)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def refused(text: str) -> bool:
    """Whether the model talks of not seeing the picture: such a text shows no manner of answering."""
    return bool(_REFUSED.search(text.replace("’", "'")))


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """Engines and prompts of a measurement; `measure` gives a row of `ROW_SCHEMA`."""

    config: MannerConfig
    prompts: MannerPrompts
    inner: Engine
    judge: Engine
    lead: str

    async def measure(self, answer: Answer) -> dict[str, Any]:
        """Every measure of one answer; a call the engine refuses (too long) ends the row with its ``failure``."""
        row = dict.fromkeys(ROW_SCHEMA.names)
        row.update(id=answer.id, turn=answer.turn, image=answer.image, question=answer.question)
        row.update(before=answer.before, after=answer.after, verdict="", failure="")
        try:
            row.update(await self._likelihoods(answer))
        except RequestError as error:
            return {**row, "failure": " ".join(str(error).split())[:300]}
        if self.config.pairwise and answer.before != answer.after:
            row.update(await self._judgement(answer, row))
        return row

    async def _likelihoods(self, answer: Answer) -> dict[str, Any]:
        prompt = self.inner.render_chat(answer.context, has_image=False)
        before, after, own = await asyncio.gather(
            self._nll(prompt, answer.before or ""), self._nll(prompt, answer.after), self._own(answer)
        )
        found = {"nll_before": before[0], "tokens_before": before[1]}
        found |= {"nll_after": after[0], "tokens_after": after[1], **own}
        if own["own"]:
            found["nll_own"], found["tokens_own"] = await self._nll(prompt, own["own"])
        return found

    async def _nll(self, prompt: str, text: str) -> tuple[float, int]:
        score = await self.inner.score(prompt, self.lead + text)
        return -score.logprob, score.tokens

    async def _own(self, answer: Answer) -> dict[str, Any]:
        turns = list(answer.context)
        last = max((i for i, t in enumerate(turns) if t.role == "user"), default=None)
        if last is None:
            return {"own": "", "own_cut": False, "own_refused": False}
        turns[last] = Turn(role="user", text=self.prompts.ask_own(turns[last].text))
        said = await self.inner.complete(
            self.inner.render_chat(turns, has_image=False), None, None, self._seeded(answer)
        )
        text = said.text.strip()
        return {"own": text, "own_cut": said.finish_reason == "length", "own_refused": refused(text)}

    def _seeded(self, answer: Answer) -> Sampling:
        lineage = f"{self.config.seed}\t{answer.id}\t{answer.turn}\town"
        return self.config.own.at(int.from_bytes(hashlib.sha256(lineage.encode()).digest()[:4], "big"))

    async def _judgement(self, answer: Answer, row: dict[str, Any]) -> dict[str, Any]:
        if not row["own"] or row["own_refused"]:
            return {"verdict": "no_reference"}
        old, new = answer.before or "", answer.after
        try:
            later, earlier = await asyncio.gather(
                self._ask(answer, row["own"], old, new), self._ask(answer, row["own"], new, old)
            )
        except RequestError:
            return {"verdict": "refused"}
        choices = parse_choice(later), parse_choice(earlier)
        return {
            "said_after_second": later,
            "said_after_first": earlier,
            "first_shown": choices.count("A"),
            "verdict": combine(*choices),
        }

    async def _ask(self, answer: Answer, reference: str, first: str, second: str) -> str:
        asked = self.prompts.ask_judge(answer.question, reference, first, second)
        prompt = self.judge.render_chat([Turn(role="user", text=asked)], has_image=False)
        said = await self.judge.complete(prompt, None, None, self.config.judging.at(self.config.seed))
        return said.text.strip()
