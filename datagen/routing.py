"""Soft or hard format (writing-manner gap, arXiv 2503.18320): only soft-format answers are rewritten.

The paper says that soft format is open-ended; its exact rule was not found, so the rule here is *ours*: an
answer is hard where the question dictates its form or where it is nothing but a label.
"""

from __future__ import annotations

import re

CLAUSES = (
    r"in one word",
    r"single word or phrase",
    r"with the (?:option'?s? )?letter",
    r"option'?s letter from the given choices",
    r"bounding box",
    r"one-sentence caption",
    r"reference ocr token",
    r"short description for this region",
    r"yes or no\b",
    r"as (?:json|a number|a list)\b",
)
_CLAUSE = re.compile("|".join(CLAUSES), re.IGNORECASE)
_LABEL = re.compile(
    r"""\s*(?:
        \(?[A-Ha-h]\)?[.)]?                      # an option's letter
      | (?:yes|no)[.!]?
      | [-+$€£]?\d[\d.,:/%]*\s*\w{0,6}[.]?       # a number, perhaps with a unit
      | [\[(]\s*\d[\d.,\s]*[\])]                  # a box
      | ```.*```                                  # code
    )\s*""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
SHORT_WORDS = 5


def is_short(answer: str) -> bool:
    """At most SHORT_WORDS words and not a sentence: what fits into an option or on one word's request."""
    return len(answer.split()) <= SHORT_WORDS and answer.rstrip()[-1:] not in (".", "!", "?")


def is_hard(question: str, answer: str) -> bool:
    """Whether the form of the answer is fixed, so that rewriting it would break it."""
    return bool(_CLAUSE.search(question)) or bool(_LABEL.fullmatch(answer)) or is_short(answer)
