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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml

from cluster import storage
from cluster.errors import UserError, did_you_mean
from train.config import PRESETS

LISTS = PRESETS / "templates"

# ':' ends a sentence too: what follows "Please provide a short description for this region:" is content.
# Whitespace is required after the mark, so "0.5" stays whole.
_SENTENCE_END = re.compile(r"(?<=[.?!:])\s+|\n+")
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"\w")
_EDITED = ", edited"
# What may stand in a list, and of which type.
_KEYS: dict[str, tuple[Any, str]] = {
    "templates": (list, "a list of sentences"),
    "text": (str, "a sentence in quotes"),
    "count": (int, "a whole number"),
    "share": ((float, int, type(None)), "a number"),
    "source": (str, "text"),
    "turns": (int, "a whole number"),
    "sha256": (str, "text"),
}
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
    def _texts(self) -> frozenset[str]:
        return frozenset(" ".join(fold(text).split()) for text, _ in self.counts) - {""}

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """By first character: the lengths of the templates that begin so, longest first."""
        found: dict[str, set[int]] = {}
        for text in self._texts:
            found.setdefault(text[0], set()).add(len(text))
        return {first: sorted(lengths, reverse=True) for first, lengths in found.items()}

    @cached_property
    def _starts(self) -> re.Pattern[str]:
        return re.compile(rf"(?:^|(?<=[\s.?!:]))[{''.join(map(re.escape, sorted(self._lengths)))}]")

    def find(self, instruction: str) -> list[tuple[int, int]]:
        """Character spans of templates in ``instruction``: longest first, any whitespace between words, only where a
        sentence can begin and a word ends.

        Looks texts up by length. One pattern of all of them is twice as fast for ten templates, but tries each at every
        word: with 10,000 it took 144 µs for an instruction, and this 9.
        """
        if not self._texts:
            return []
        text = fold(instruction)
        flat = _SPACES.sub(" ", text)
        spans = []
        at = 0
        while start := self._starts.search(flat, at):
            at = start.start()
            end = self._longest(flat, at)
            if end > at:
                spans.append((at, end))
            at = max(end, at + 1)
        if len(flat) == len(text):
            return spans
        places = [i for i, c in enumerate(text) if not (c.isspace() and i and text[i - 1].isspace())]
        return [(places[start], places[end - 1] + 1) for start, end in spans]

    def _longest(self, flat: str, start: int) -> int:
        """Where the longest template that begins at ``start`` ends; ``start`` itself where there is none."""
        for length in self._lengths[flat[start]]:
            end = start + length
            if flat[start:end] in self._texts and end <= len(flat) and not _WORD.match(flat, end):
                return end
        return start

    @property
    def sha256(self) -> str:
        """Hash of the sentences (not of the counts): equal sets mask equally."""
        return _hash([text for text, _ in self.counts])

    def to_json(self) -> str:
        """What is stored with a checkpoint: one template a line, so that it is easily read and edited."""
        head = {"source": self.source, "turns": self.turns, "sha256": self.sha256}
        lines = [
            json.dumps(
                {"text": t, "count": n, "share": round(n / self.turns, 5) if self.turns else None},
                ensure_ascii=False,
            )
            for t, n in self.counts
        ]
        listed = ",\n  ".join(lines)
        return (
            json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "templates": [\n  {listed}\n ]\n}}\n'
        )

    @staticmethod
    def from_json(text: str, place: str = "templates.json") -> TemplateSet:
        """Inverse of :meth:`to_json`; entries may have been edited, added and removed.

        ``sha256`` and ``share`` follow from the rest and are written anew; where the sentences are no longer those of
        the stored hash, ``source`` says so.

        Args:
            place: what errors call the text.

        Raises:
            UserError: not JSON, an unknown or missing key, or an entry of another type.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{place}: not readable as JSON: {error}") from error
        counts = _entries(data, place, ("source", "turns", "sha256"))
        source = data.get("source", "list")
        if data.get("sha256", "") != _hash([t for t, _ in counts]) and not source.endswith(_EDITED):
            source += _EDITED
        return TemplateSet(counts=counts, turns=data.get("turns", 0), source=source)


def load_list(name: str) -> TemplateSet:
    """A list by name (``mix665k``), path or URI: YAML with a key ``templates``, a list of sentences, or the
    ``templates.json`` of a run, as it is or edited.

    Raises:
        UserError: no such list, or not of that form; names the file and the entry.
    """
    preset = LISTS / f"{name}.yaml"
    place = str(preset) if "/" not in name and preset.is_file() else name
    if not storage.exists(place):
        known = ", ".join(sorted(found.stem for found in LISTS.glob("*.yaml")))
        raise UserError(
            f"templates.list: there is no list {name!r}; known are {known}, or give the path or URI of a YAML file or "
            "of a run's templates.json"
        )
    try:
        text = storage.read_bytes(place).decode()
        if place.endswith(".json"):
            found = TemplateSet.from_json(text, place)
            return replace(found, source=f"list:{name} ({found.source})")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: not readable as YAML: {' '.join(str(error).split())}") from error
    return TemplateSet(counts=_entries(data, place, ()), source=f"list:{name}")


def _hash(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _entries(data: object, place: str, head: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """Sentences and counts of a list; ``head`` are the other keys that may stand beside ``templates``."""
    if not isinstance(data, dict) or "templates" not in data:
        raise UserError(f"{place}: expected a key `templates` with a list of sentences")
    _check(data, place, ("templates", *head))
    return tuple(
        _entry(value, f"{place}: entry {number} of templates")
        for number, value in enumerate(data["templates"], start=1)
    )


def _entry(value: object, where: str) -> tuple[str, int]:
    fields: dict[Any, Any] = value if isinstance(value, dict) else {"text": value}
    _check(fields, where, ("text", "count", "share"))
    text, count = fields.get("text", ""), fields.get("count", 0)
    if not text.strip():
        raise UserError(f"{where}: it has no text; write a sentence in quotes, or take the entry out")
    if count < 0:
        raise UserError(f"{where}: count is {count}; it is a number of turns and cannot be negative")
    return text, count


def _check(values: dict[Any, Any], where: str, allowed: tuple[str, ...]) -> None:
    for key, value in values.items():
        if key not in allowed:
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(str(key), allowed)}")
        types, expected = _KEYS[key]
        # A bool is an int to Python, and a number to nobody else.
        if isinstance(value, bool) or not isinstance(value, types):
            raise UserError(f"{where}: {key} is {value!r:.80}; expected {expected}")
