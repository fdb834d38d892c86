"""LLM-aligned answers (writing-manner gap, arXiv 2503.18320): the inner LLM rewrites soft-format answers in
its own manner, reviews the result, and what fails keeps its original answer.

Router, gate, retries and fallback are *ours*: the paper's prompts and its handling of failures were not
found.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from datagen.gates.preserve import preserve
from datagen.parsing import ParseError, normalise, parse_text, parse_yes_no
from datagen.programs.check import pair_gates
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft, Ended
from datagen.records import GateResult
from datagen.routing import is_hard


class Rewritten(NamedTuple):
    """An answer and how it came out: ``accepted`` (in new words), ``kept`` (it was in the manner) or ``fallback``
    (no attempt passed, the original stays)."""

    answer: str
    outcome: Literal["accepted", "kept", "fallback"]


def wants_rewrite(desk: Desk, draft: Draft) -> bool:
    """Soft-format answers of kinds that have a manner, in the configured share."""
    kind = desk.prompts.kinds.get(draft.kind)
    if (kind is not None and not kind.rewrite) or draft.format == "choice":
        return False
    return not is_hard(draft.question, draft.answer) and desk.coin(
        draft, "rewrite", desk.config.rewrite.share
    )


async def align(desk: Desk, draft: Draft) -> None:
    """Rewrite and review a verified draft, then end it: ``accepted`` (rewritten, or already in the manner),
    or ``kept_original`` where no attempt passed.
    """
    if not wants_rewrite(desk, draft):
        draft.end("accepted")
        return
    result = await rewritten(desk, draft)
    draft.rewrite = result.outcome
    if result.outcome == "accepted":
        # The gate's detail keeps what the answer was: before and after can be compared and undone.
        draft.gates.append(GateResult(name="original_answer", passed=True, detail=draft.answer))
        draft.answer = result.answer
    draft.end("kept_original" if result.outcome == "fallback" else "accepted")


async def rewritten(desk: Desk, draft: Draft) -> Rewritten:
    """The draft's answer in the inner LLM's manner, after the gate and the review of every attempt."""
    for attempt in range(1 + desk.config.rewrite.retries):
        try:
            new = parse_text(await desk.ask(draft, "rewrite", attempt=attempt))
            if normalise(new) == normalise(draft.answer):
                return Rewritten(draft.answer, "kept")
            if _in_form(desk, draft, new) and await _says_the_same(desk, draft, new):
                return Rewritten(new, "accepted")
        except (Ended, ParseError) as error:
            # The original answer stands: a rewrite that went wrong costs its calls and nothing else.
            draft.raw = ""
            draft.gates.append(GateResult(name="rewrite", passed=False, detail=str(error)))
    return Rewritten(draft.answer, "fallback")


def _in_form(desk: Desk, draft: Draft, new: str) -> bool:
    """Whether the new answer passes what the old one passed, and keeps its facts."""
    results = [preserve(draft.answer, new)] if "preserve" in desk.config.gates else []
    stopped, before = _stopped(desk, draft, new), _stopped(desk, draft, draft.answer)
    if stopped and not (before and before.name == stopped.name):
        results.append(stopped)
    draft.gates += results
    return all(result.passed for result in results)


def _stopped(desk: Desk, draft: Draft, answer: str) -> GateResult | None:
    return next((r for r in pair_gates(desk, draft.kind, draft.question, answer) if not r.passed), None)


async def _says_the_same(desk: Desk, draft: Draft, new: str) -> bool:
    if not desk.config.rewrite.review:
        return True
    same, why = await desk.read(draft, "review", parse_yes_no, rewrite=new)
    draft.gates.append(GateResult(name="review", passed=same, detail=why or new))
    return same
