"""What is each gate of datagen worth? On the starter world, where every pair can be judged exactly: of the
drafts that a gate saw, how many it kept, the share of those that is right (precision), the share of right
ones that it kept (recall), and how much the former exceeds the share of right ones among all that it saw
(lift).

Needs a data set made with ``keep`` naming the gates (preset starter-bootstrap-gates, arm ``recorded``): there
each gate judged every draft, also those that another would have thrown away. In other sets a gate is measured
on what the gates before it left. Errors are clustered by image; lift is a difference on the same drafts, so
its error is that of the difference. Pairs that the oracle cannot read (free-form text outside the world's
grammar) are unknown and counted as that.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eval.statistics import codes

if TYPE_CHECKING:
    from datagen.records import Record
    from eval.verifier import Truth

EXAMPLES = """examples:
  l2t datagen starter-bootstrap-gates corpus=runs/demo/corpora/starter-train output=runs/gates \\
      engines.generator.model=runs/demo/checkpoints/l2t/model
  l2t eval gates runs/gates/recorded
  l2t eval gates runs/gates/recorded --json runs/gates.json
"""
ALL = "all gates"
CAUSES = ("right", "wrong answer", "ill-posed", "unreadable")
# Scores that rise with what their gate likes, and that gate.
SCORES = {
    "p_yes": "rating",
    **dict.fromkeys(("solvability", "clarity", "hallucination", "nonsense"), "rating"),
    "vc": "blind",
    "consistency": "consistency",
    "majority": "consistency",
}


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share or difference of shares with its standard error clustered by image."""

    value: float
    se: float

    def __str__(self) -> str:
        return "      -     " if math.isnan(self.value) else f"{100 * self.value:5.1f} ± {100 * self.se:4.1f}"


@dataclass(frozen=True, kw_only=True)
class GateQuality:
    """What a gate does to the drafts that it ``saw``; ``known`` of these the oracle could judge,
    ``kept_known`` of the ``kept``."""

    gate: str
    saw: int
    kept: int
    known: int
    kept_known: int
    precision: Share
    recall: Share
    lift: Share


def decisions(record: Record) -> dict[str, bool]:
    """Which gates judged an exchange, and how; a verdict that could not be read keeps nothing."""
    found = {gate.name: gate.passed for gate in record.gates if gate.name not in NOTES}
    if record.verdict is not None:
        found["verify"] = record.verdict.result == "yes"
    return found


# Notes in the place of gates, and gates over several rows: they say nothing about whether a pair is right.
NOTES = (
    "drawn",
    "original_answer",
    "rewrite",
    "review",
    "improved",
    "preserve",
    "duplicate",
    "repeated",
    "over_share",
)


def measure_gates(records: Iterable[Record], truth: Truth) -> list[GateQuality]:
    """Quality of every gate that judged any of the records that have a question and an answer, and of all
    together."""
    rows = [(r.image_ids[0] if r.image_ids else r.id, decisions(r), truth(r)) for r in records if r.answer]
    names = list(dict.fromkeys(name for _, found, _ in rows for name in found))
    measured = [_quality("no gate", [(image, True, right) for image, _, right in rows])]
    for name in names:
        measured.append(
            _quality(name, [(image, found[name], right) for image, found, right in rows if name in found])
        )
    whole = [(image, all(found.values()), right) for image, found, right in rows]
    return [*measured, _quality(ALL, whole)]


def _quality(gate: str, rows: Sequence[tuple[str, bool, bool | None]]) -> GateQuality:
    known = [(image, kept, right) for image, kept, right in rows if right is not None]
    images = [image for image, _, _ in known]
    kept = np.array([k for _, k, _ in known], dtype=np.float64)
    right = np.array([r for _, _, r in known], dtype=np.float64)
    precision, precision_parts = _ratio(kept * right, kept)
    recall, recall_parts = _ratio(kept * right, right)
    base, base_parts = _ratio(right, np.ones_like(right))
    return GateQuality(
        gate=gate,
        saw=len(rows),
        kept=sum(k for _, k, _ in rows),
        known=len(known),
        kept_known=int(kept.sum()),
        precision=Share(value=precision, se=_clustered(precision_parts, images)),
        recall=Share(value=recall, se=_clustered(recall_parts, images)),
        lift=Share(value=precision - base, se=_clustered(precision_parts - base_parts, images)),
    )


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """A ratio of sums and what each row adds to its deviation (linearised)."""
    if not bottom.sum():
        return math.nan, np.full_like(top, math.nan)
    value = float(top.sum() / bottom.sum())
    return value, (top - value * bottom) / bottom.sum()


def _clustered(parts: NDArray[np.float64], images: Sequence[str]) -> float:
    """Standard error of a sum of deviations whose images are independent (Miller 2024, as `eval.statistics`)."""
    code, k = codes(images)
    return math.sqrt(float((np.bincount(code, weights=parts, minlength=k) ** 2).sum()))


def separation(records: Iterable[Record], truth: Truth) -> dict[str, tuple[float, int]]:
    """By score: the probability that a right pair scores above a wrong one (area under the ROC curve; 0.5
    says nothing), whatever the threshold, and the number of pairs judged."""
    by_score: dict[str, list[tuple[float, bool]]] = {name: [] for name in SCORES}
    for record in records:
        right = truth(record) if record.answer else None
        for name, value in record.scores:
            if name in by_score and right is not None and math.isfinite(value):
                by_score[name].append((value, right))
    found = {}
    for name, pairs in by_score.items():
        good = np.array([v for v, right in pairs if right])
        bad = np.sort([v for v, right in pairs if not right])
        if len(good) and len(bad):
            below = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
            found[name] = (float(below.mean() / 2 / len(bad)), len(pairs))
    return found


def stopped(
    records: Iterable[Record], cause: Callable[[Record], str]
) -> dict[str, dict[str, tuple[int, int]]]:
    """By gate and by what is wrong with a pair: (how many of those that it saw it stopped, how many it saw)."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for record in records:
        if not record.answer:
            continue
        why = cause(record)
        for gate, kept in decisions(record).items():
            counts = found.setdefault(gate, dict.fromkeys(CAUSES, (0, 0)))
            counts[why] = (counts[why][0] + (not kept), counts[why][1] + 1)
    return found


def causes_table(found: dict[str, dict[str, tuple[int, int]]]) -> str:
    """For the terminal."""
    width = max(map(len, [*found, "stopped of"]))
    lines = [f"{'stopped of':<{width}}" + "".join(f"{cause:>19}" for cause in CAUSES)]
    for gate, counts in found.items():
        cells = (f"{a} of {n} ({a / n:.0%})" if n else "-" for a, n in (counts[c] for c in CAUSES))
        lines.append(f"{gate:<{width}}" + "".join(f"{cell:>19}" for cell in cells))
    lines.append("ill-posed: the picture does not answer the question; unreadable: no question of this world")
    return "\n".join(lines)


def table(measured: Sequence[GateQuality], scores: dict[str, tuple[float, int]]) -> str:
    """For the terminal; shares in percent."""
    width = max(len(q.gate) for q in measured)
    lines = [
        f"{'gate':<{width}}  {'saw':>6}  {'kept':>6}  {'unknown':>7}  {'precision':>12}  {'recall':>12}  {'lift':>12}"
    ]
    for q in measured:
        lines.append(
            f"{q.gate:<{width}}  {q.saw:>6}  {q.kept:>6}  {q.saw - q.known:>7}  {q.precision}  {q.recall}  {q.lift}"
        )
    lines.append("percent ± standard error clustered by image, of pairs that the oracle can judge")
    for name, (area, n) in scores.items():
        lines.append(
            f"score {name} ({SCORES[name]}): a right pair is above a wrong one in {area:.1%} ({n} pairs)"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """``l2t eval gates``."""
    parser = argparse.ArgumentParser(
        prog="l2t eval gates",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instructions", help="URI of an instruction data set of the starter world")
    parser.add_argument("--json", metavar="URI", help="also write the table there")
    args = parser.parse_args(argv)
    from eval.verifier import read_starter, starter_cause, starter_truth

    made, facts = read_starter(args.instructions)
    truth, causes = starter_truth(facts), stopped(made, starter_cause(facts))
    measured, scores = measure_gates(made, truth), separation(made, truth)
    print(table(measured, scores) + "\n\n" + causes_table(causes))
    if args.json:
        from cluster.storage import write_bytes

        found = {"gates": [asdict(q) for q in measured], "separation": scores, "stopped": causes}
        write_bytes(args.json, json.dumps(found, indent=1).replace("NaN", "null").encode())
    return 0
