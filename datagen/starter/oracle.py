"""The exact judge of the starter world: is this pair right about this scene? Measures verifiers, never filters data.

It reads text as the grammar of ``questions`` writes it, so it can also judge what a model drafted. Text outside that
grammar is not called wrong but unreadable: the model may have said something sensible that the oracle cannot read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from datagen.starter import manner
from datagen.starter import questions as q
from datagen.starter.grammar import parse
from datagen.starter.phrases import IllPosed, captions
from datagen.starter.scene import Scene

_CHOICES = re.compile(
    r"(?P<question>.*) Options: A\. (.*) B\. (.*) C\. (.*) D\. (.*)\. Answer with the letter\."
)
_BOX = re.compile(r"\[(\d+), (\d+), (\d+), (\d+)\]")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """``correct`` is None where the question is not of this world's language; ``reason`` in words."""

    correct: bool | None
    reason: str


def judge(question: str, answer: str, scene: Scene) -> Judgement:
    """Judge one instruction-response pair exactly.

    Boxes count from an IoU of 0.5 (the usual grounding rule); descriptions must name the same things in any order.
    """
    text = question.strip().removesuffix(manner.ONE_WORD).strip()
    options: tuple[str, ...] = ()
    if match := _CHOICES.fullmatch(question.strip()):
        text, *listed = match.groups()
        options = tuple(listed)
    parsed = parse(text)
    if parsed is None:
        return Judgement(correct=None, reason="unreadable question")
    try:
        truth = parsed.truth(scene)
    except IllPosed as error:
        return Judgement(correct=False, reason=f"ill-posed: {error}")
    if options:
        right = manner.LETTERS[options.index(truth.short)] if options.count(truth.short) == 1 else None
        return _compare(answer.strip().rstrip(".") == right, truth.short)
    said = manner.own(answer.strip())
    if isinstance(parsed, q.Ground):
        return _compare(_overlap(said, truth.short) >= 0.5, truth.short)
    if isinstance(parsed, q.Detail):
        return _compare(_facts(said) == _facts(truth.short), truth.short)
    if isinstance(parsed, q.Caption):
        return _compare(said in captions(scene), truth.short)
    same = said.rstrip(".").lower() in (truth.short.lower(), truth.sentence.rstrip(".").lower())
    return _compare(same, truth.sentence)


def _compare(same: bool, truth: str) -> Judgement:
    return Judgement(correct=same, reason="right" if same else f"truth: {truth}")


def _facts(description: str) -> list[str]:
    return sorted(description.strip().rstrip(".").lower().removeprefix("chart: ").split(", "))


def _overlap(said: str, truth: str) -> float:
    a, b = _BOX.search(said), _BOX.search(truth)
    if a is None or b is None:
        return 0.0
    ax1, ay1, ax2, ay2 = map(int, a.groups())
    bx1, by1, bx2, by2 = map(int, b.groups())
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    shared = max(0, width) * max(0, height)
    union = max(0, ax2 - ax1) * max(0, ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared / union if union else 0.0
