"""LLM-aligned answers (writing-manner gap, arXiv 2503.18320): the inner LLM rewrites soft-format answers in
its own manner, reviews the result, and what fails keeps its original answer.

Router, gate, retries and fallback are *ours*: the paper's prompts and its handling of failures were not
found.
"""

from __future__ import annotations

from datagen.gates.preserve import preserve
from datagen.parsing import ParseError, normalise, parse_text, parse_yes_no
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft, Ended
from datagen.records import GateResult
from datagen.routing import is_hard


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
    for attempt in range(1 + desk.config.rewrite.retries):
        try:
            done = await _attempt(desk, draft, attempt)
        except (Ended, ParseError) as error:
            # The original answer is verified: a rewrite that went wrong costs its calls and nothing else.
            draft.raw = ""
            draft.gates.append(GateResult(name="rewrite", passed=False, detail=str(error)))
            continue
        if done:
            draft.end("accepted")
            return
    draft.rewrite = "fallback"
    draft.end("kept_original")


async def _attempt(desk: Desk, draft: Draft, attempt: int) -> bool:
    new = parse_text(await desk.ask(draft, "rewrite", attempt=attempt))
    if normalise(new) == normalise(draft.answer):
        draft.rewrite = "kept"
        return True
    if "preserve" in desk.config.gates:
        kept = preserve(draft.answer, new)
        draft.gates.append(kept)
        if not kept.passed:
            return False
    same, why = parse_yes_no(await desk.ask(draft, "review", attempt=attempt, rewrite=new))
    draft.gates.append(GateResult(name="review", passed=same, detail=why or new))
    if same:
        # The gate's detail keeps what the answer was: before and after can be compared and undone.
        draft.gates.append(GateResult(name="original_answer", passed=True, detail=draft.answer))
        draft.answer, draft.rewrite = new, "accepted"
    return same
