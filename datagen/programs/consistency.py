"""Does the model answer its question the same way again and again? (VisPlay, arXiv 2511.15661, uses the share of the
majority as a measure of difficulty and keeps 0.3 to 0.8; the comparison with the written answer is *ours*.)"""

from __future__ import annotations

import asyncio

from datagen.agreement import agrees
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft
from datagen.records import GateResult, Turn


async def consistent(desk: Desk, draft: Draft) -> None:
    """Sample answers side by side; end the draft (``gate:consistency``) where the share that agrees with its answer is
    outside the band. The share stands in the record's scores."""
    band = desk.config.consistency
    if not band.samples:
        return
    engine, image = desk.engines["generator"], desk.subject.has_image
    prompt = engine.render_chat([Turn(role="user", text=draft.question)], has_image=image)
    settings = desk.config.sampling.again
    ended = await asyncio.gather(
        *(
            desk.call(draft, "again", engine, prompt, settings.at(desk.seed(draft, "again", n)), image)
            for n in range(band.samples)
        ),
        return_exceptions=True,
    )
    # All have come back, so the account is the same whichever failed first.
    if failures := [end for end in ended if isinstance(end, BaseException)]:
        raise failures[0]
    said = [str(answer) for answer in ended]
    share = sum(agrees(answer, draft.answer, draft.options) for answer in said) / band.samples
    draft.scores["consistency"] = share
    desk.gate(
        draft,
        GateResult(
            name="consistency",
            passed=band.low <= share <= band.high,
            detail=f"{share:.0%} of {band.samples} answers agree, asked {band.low:.0%} to {band.high:.0%}",
        ),
    )
