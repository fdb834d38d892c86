"""Ratings that a judge wrote: MMHal-Bench and MT-Bench. The judge's text is ``Answer.meta["judgement"]``.

MMHal-Bench: the text must hold "rating: s" for exactly one s of 0 to 6, else the rating is 0; an answer rated
below 3 hallucinates. "Rating: 10" reads as 1. ``mmhal_clean`` (*ours*) wants the whole number and leaves an
answer that got no rating out of both means: the judge failed there, not the model.
MT-Bench: the first "[[x]]", else the first "[x]"; answers without one are left out of the mean, as the
authors' table does. ``mt_bench_clean`` (*ours*) takes only 1 to 10, since small judges write "[[85]]".
``Answer.meta["turn"]`` is 1 or 2. All count what got no rating in ``unparsed``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from eval.scorers.base import Answer, Scored, Scorer, ratio, table

_MMHAL_CLEAN = re.compile(r"rating:\s*\**\s*([0-6])(?![\d.]*\d)")
# Nine digits are enough for a rating; more would become inf.
_RATING = r"(\d{1,9}\.?\d{0,9})"
_DOUBLE, _SINGLE = re.compile(rf"\[\[{_RATING}\]\]"), re.compile(rf"\[{_RATING}\]")


def _judgement(answer: Answer) -> str:
    return str(answer.meta.get("judgement") or "")


def read_mmhal(text: str) -> float | None:
    """The rating by the authors' rule, None where it finds none or several."""
    found = [s for s in range(7) if f"rating: {s}" in text.lower()]
    return float(found[0]) if len(found) == 1 else None


def read_mmhal_clean(text: str) -> float | None:
    """The only rating from 0 to 6 that the text gives, once or more often."""
    found = set(_MMHAL_CLEAN.findall(text.lower()))
    return float(found.pop()) if len(found) == 1 else None


def read_mt_bench(text: str) -> float | None:
    """The first doubly, else singly bracketed number."""
    match = _DOUBLE.search(text) or _SINGLE.search(text)
    return float(match.group(1)) if match else None


def read_mt_bench_clean(text: str) -> float | None:
    """The same, None outside 1 to 10."""
    rating = read_mt_bench(text)
    return rating if rating is not None and 1 <= rating <= 10 else None


_MMHAL = ("rating", "hallucinated", "rated", "unparsed", "n")


def _make_mmhal(
    name: str, version: str, read: Callable[[str], float | None], *, lost: float | None
) -> Scorer:
    """``lost`` is the rating of an answer that got none, None leaves it out."""

    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            said = read(_judgement(answer))
            rating = lost if said is None else said
            parsed.append("" if said is None else f"{said:g}")
            kept = rating is not None
            rows.append((rating or 0.0, float(kept and rating < 3), float(kept), float(said is None), 1.0))  # type: ignore[operator]
        return Scored(parsed, table(rows, _MMHAL))

    metrics = {
        "score": ratio(_MMHAL, "rating", "rated", scale=1.0, share=False),
        "hallucination_rate": ratio(_MMHAL, "hallucinated", "rated", higher=False),
        "unparsed": ratio(_MMHAL, "unparsed", "n", higher=False),
    }
    return Scorer(name=name, version=version, columns=_MMHAL, score=score, metrics=metrics, primary="score")


_MT = ("rating", "rated", "rating_1", "rated_1", "rating_2", "rated_2", "unparsed", "n")


def _make_mt_bench(name: str, version: str, read: Callable[[str], float | None]) -> Scorer:
    def score(answers: Sequence[Answer]) -> Scored:
        parsed, rows = [], []
        for answer in answers:
            said = read(_judgement(answer))
            rating, rated = said or 0.0, float(said is not None)
            turns = [float(str(answer.meta.get("turn", "")) == turn) for turn in ("1", "2")]
            parsed.append("" if said is None else f"{said:g}")
            by_turn = [x * of for of in turns for x in (rating, rated)]
            rows.append((rating, rated, *by_turn, 1.0 - rated, 1.0))
        return Scored(parsed, table(rows, _MT))

    metrics = {
        "score": ratio(_MT, "rating", "rated", scale=1.0, share=False),
        "turn_1": ratio(_MT, "rating_1", "rated_1", scale=1.0, share=False),
        "turn_2": ratio(_MT, "rating_2", "rated_2", scale=1.0, share=False),
        "unparsed": ratio(_MT, "unparsed", "n", higher=False),
    }
    return Scorer(name=name, version=version, columns=_MT, score=score, metrics=metrics, primary="score")


MMHAL = _make_mmhal("mmhal", "mmhal-official-1", read_mmhal, lost=0.0)
MMHAL_CLEAN = _make_mmhal("mmhal_clean", "mmhal-clean-1", read_mmhal_clean, lost=None)
MT_BENCH = _make_mt_bench("mt_bench", "mt_bench-official-1", read_mt_bench)
MT_BENCH_CLEAN = _make_mt_bench("mt_bench_clean", "mt_bench-clean-1", read_mt_bench_clean)
