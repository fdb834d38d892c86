"""Talk about the task instead of the picture: annotations that the reader never sees, assistants,
rewriting.
"""

from __future__ import annotations

import re

from datagen.records import GateResult

_META = re.compile(
    r"""\b(?:
        (?:the|these|this|given|provided)\s+(?:captions?|annotations?|bounding\s+boxes)
      | (?:according|based)\s+(?:to|on)\s+the\s+(?:text|captions?|annotations?|coordinates|provided)
      | as\s+an?\s+(?:ai|artificial|language\s+model|assistant)
      | i\s+(?:cannot|can't|can\s+not|am\s+unable\s+to)\s+(?:see|view|access|answer)
      | (?:sure|certainly|of\s+course)[,!]\s+(?:here|i)
      | here\s+(?:is|are)\s+(?:the|a|your|my)\s+(?:rewritten|new|revised|harder|question|answer)
      | rewritten\s+(?:answer|version|response)
      | (?:question|answer|instruction|evidence|verdict|options)\s*:
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# A question that lists its options is a multiple choice, not talk about the task.
_ALLOWED = re.compile(r"\bOptions:(?=\s+A\.)")


def meta_talk(question: str, answer: str) -> GateResult:
    """Mentions of captions or boxes as input (ComVint's constraint 4), of being an AI, or of the prompt's own
    fields.
    """
    for name, text in (("question", question), ("answer", answer)):
        if found := _META.search(_ALLOWED.sub("", text)):
            return GateResult(name="meta_talk", passed=False, detail=f"{name}: {found[0]!r}")
    return GateResult(name="meta_talk", passed=True)
