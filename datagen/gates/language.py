"""Rows in another language than the data set's: a small naive Bayes model over byte n-grams (py3langid, an update of
langid.py, Lui and Baldwin 2012), whose weights come with the package.

Short texts, numbers and boxes are not judged: on a few words any identifier guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from cluster.errors import UserError
from datagen.records import GateResult, Turn

NAME = "language"
MIN_LETTERS = 40
MIN_WORDS = 8
# Only a confident "another language" drops a row.
MIN_CONFIDENCE = 0.8
_NOT_PROSE = re.compile(r"<image>|\[[\d.,\s]+\]|https?://\S+|`[^`]*`|\d+")


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def check_codes(codes: Sequence[str]) -> None:
    """All ``codes`` are languages that the model knows.

    Raises:
        UserError: names the one that is not and those there are.
    """
    known = sorted(_identifier().labels)
    for code in codes:
        if code not in known:
            raise UserError(f"--language {code}: not known; ISO 639-1 codes: {', '.join(known)}")


def language(turns: Iterable[Turn], wanted: Sequence[str]) -> GateResult:
    """Whether the whole conversation is in one of the languages ``wanted`` (ISO 639-1 codes)."""
    text = _NOT_PROSE.sub(" ", " ".join(t.text for t in turns if t.role != "draft"))
    letters = sum(map(str.isalpha, text))
    if letters < MIN_LETTERS or (len(text.split()) < MIN_WORDS and text.isascii()):
        return GateResult(name=NAME, passed=True, detail="too short to judge")
    found, confidence = _identifier().classify(text)
    if found in wanted or confidence < MIN_CONFIDENCE:
        return GateResult(name=NAME, passed=True)
    return GateResult(name=NAME, passed=False, detail=f"{found} with confidence {confidence:.2f}")
