"""Task templates: the sentences that say how to answer and nothing about the image (L2T section 3.2, tables 8 and 9).

The paper picks them by hand from the most frequent sentences of the training set and gives the lists; the threshold
here is ours. Lists are data (``presets/templates/*.yaml``); mining counts per human turn, so a sentence repeated inside
one question counts once.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from cluster.errors import UserError
from train.config import PRESETS

LISTS = PRESETS / "templates"

# ':' ends a sentence too: what follows "Please provide a short description for this region:" is content.
# Whitespace is required after the mark, so "0.5" stays whole.
_SENTENCE_END = re.compile(r"(?<=[.?!:])\s+|\n+")
_QUOTES = str.maketrans("‘’‚‛“”„‟′″", "''''\"\"\"\"'\"")


def fold(text: str) -> str:
    """NFKC and straight quotes, character by character, so that positions stay what they were."""
    if text.isascii():
        return text
    folded = (unicodedata.normalize("NFKC", c) for c in text.translate(_QUOTES))
    return "".join(f if len(f) == 1 else c for f, c in zip(folded, text, strict=True))


def sentences(text: str) -> list[str]:
    """Sentences of an instruction, folded and stripped, ``<image>`` removed, empty ones dropped."""
    parts = _SENTENCE_END.split(fold(text.replace("<image>", "\n")))
    return [" ".join(p.split()) for p in parts if p.strip()]


@dataclass(frozen=True)
class TemplateSet:
    """Sentences with how many human turns hold them, most frequent first; ``turns`` is how many were counted."""

    counts: tuple[tuple[str, int], ...] = ()
    turns: int = 0
    source: str = "none"

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        texts = sorted((fold(text) for text, _ in self.counts), key=len, reverse=True)
        if not texts:
            return None
        bodies = "|".join(r"\s+".join(re.escape(word) for word in text.split()) for text in texts)
        return re.compile(rf"(?:^|(?<=[\s.?!:]))(?:{bodies})(?!\w)")

    def find(self, instruction: str) -> list[tuple[int, int]]:
        """Character spans of templates in ``instruction``: longest first, any whitespace between words, only where a
        sentence can begin."""
        if self._pattern is None:
            return []
        return [match.span() for match in self._pattern.finditer(fold(instruction))]

    @property
    def sha256(self) -> str:
        """Hash of the sentences (not of the counts): equal sets mask equally."""
        return hashlib.sha256(json.dumps([text for text, _ in self.counts]).encode()).hexdigest()

    def to_json(self) -> str:
        """What is stored with a checkpoint."""
        listed = [
            {"text": t, "count": n, "share": round(n / self.turns, 5) if self.turns else None}
            for t, n in self.counts
        ]
        return json.dumps(
            {"source": self.source, "turns": self.turns, "sha256": self.sha256, "templates": listed},
            indent=1,
            ensure_ascii=False,
        )

    @staticmethod
    def from_json(text: str) -> TemplateSet:
        """Inverse of :meth:`to_json`."""
        data = json.loads(text)
        counts = tuple((t["text"], t["count"]) for t in data["templates"])
        return TemplateSet(counts=counts, turns=data["turns"], source=data["source"])


def mine(
    conversations: Iterable[list[str]],
    *,
    min_share: float,
    top_k: int | None = None,
    max_rows: int | None = None,
) -> TemplateSet:
    """Count sentences over human turns and keep those in at least ``min_share`` of the turns (and the ``top_k`` first).

    Args:
        conversations: the human turns of each conversation.
    """
    counter: Counter[str] = Counter()
    turns = 0
    for row, human_turns in enumerate(conversations):
        if max_rows is not None and row >= max_rows:
            break
        for text in human_turns:
            turns += 1
            counter.update(set(sentences(text)))
    # A sentence seen once or twice is no template, however small the data set.
    floor = max(3, min_share * turns)
    kept = [(text, n) for text, n in counter.items() if n >= floor]
    kept.sort(key=lambda item: (-item[1], item[0]))
    return TemplateSet(counts=tuple(kept[:top_k]), turns=turns, source="mined")


def load_list(name: str) -> TemplateSet:
    """A list by name (``mix665k``) or path: YAML with a key ``templates``, a list of sentences.

    Raises:
        UserError: no such list, or not of that form.
    """
    path = LISTS / f"{name}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in LISTS.glob("*.yaml")))
        raise UserError(
            f"templates.list: there is no list {name!r}; known are {known}, or give the path of a YAML file"
        )
    data = yaml.safe_load(path.read_text())
    if not isinstance(data, dict) or not all(isinstance(t, str) for t in data.get("templates") or [None]):
        raise UserError(f"{path}: expected a key `templates` with a list of sentences")
    return TemplateSet(counts=tuple((t, 0) for t in data["templates"]), source=f"list:{name}")
