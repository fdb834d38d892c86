"""The mechanical gates, before any call is spent on judging."""

from __future__ import annotations

from datagen.gates import run_gates
from datagen.programs.desk import Desk
from datagen.programs.draft import Draft, Ended


async def check(desk: Desk, draft: Draft) -> None:
    """Run the gates that the config names; the first that fails ends the draft with ``gate:<name>``."""
    results = run_gates(desk.config.gates, draft.question, draft.answer)
    draft.gates += results
    if results and not results[-1].passed:
        raise Ended("rejected", f"gate:{results[-1].name}")
