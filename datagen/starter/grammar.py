"""Text back to questions: the patterns that write them, read as regular expressions."""

from __future__ import annotations

import re
from functools import cache

from datagen.starter.phrases import EXTREMES, RELATIONS
from datagen.starter.questions import QUESTIONS, Question
from datagen.starter.scene import COLORS, SHAPES, SIZES, WORDS

_ADJECTIVES = f"(?:(?:{'|'.join(SIZES)}) )?(?:(?:{'|'.join(COLORS)}) )?"
_SINGULAR = rf"(?:{_ADJECTIVES}(?:{'|'.join(SHAPES)}|object)|sign|(?:{'|'.join(EXTREMES)}) object)"
_PLURAL = rf"(?:{_ADJECTIVES}(?:circle|square|triangle|star|object)s|{_ADJECTIVES}crosses|signs)"
_HOLES = {
    "noun": _SINGULAR,
    "relation": "|".join(RELATIONS),
    "color": "|".join(COLORS),
    "shape": "|".join(SHAPES),
    "word": "|".join(WORDS),
    "number": r"\d+",
    "extreme": "tallest|shortest",
    "box": r"\[\d+, \d+, \d+, \d+\]",
}


def _hole(match: re.Match[str]) -> str:
    name = match.group(1)
    if name.startswith("a_"):
        field = name[2:]
        return rf"an? (?P<{field}>{_HOLES[field.rstrip('2')]})"
    if name.endswith("s") and name[:-1].rstrip("2") == "noun":
        return rf"(?P<{name[:-1]}>{_PLURAL})"
    return rf"(?P<{name}>{_HOLES[name.rstrip('2')]})"


@cache
def _readers() -> tuple[tuple[re.Pattern[str], type[Question]], ...]:
    readers = []
    for cls in QUESTIONS:
        for pattern in cls.patterns:
            literal = re.sub(r"([.?\[\]])", r"\\\1", pattern)
            readers.append((re.compile(re.sub(r"\{(\w+)\}", _hole, literal)), cls))
    return tuple(readers)


def parse(text: str) -> Question | None:
    """The question a text asks, or None where it is not a question of this world."""
    for reader, cls in _readers():
        if match := reader.fullmatch(text.strip()):
            values = {k: _singular(v) if k.startswith("noun") else v for k, v in match.groupdict().items()}
            return cls(**values)
    return None


def _singular(noun: str) -> str:
    if noun.endswith("crosses"):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith("cross") else noun
