"""``l2t manner``: measure the writing-manner gap of an instruction set, before and after it was rewritten.

Free-form answers are compared with how the inner LLM writes: their likelihood under it, words and sentences against
its own answers to the same questions, and a blind judgement in both orders. No picture is shown to any model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datagen.manner.result import Change, Manner

EXAMPLES = """examples:
  l2t manner runs/demo/instructions/round0 --inner starter --out runs/demo/manner
  l2t manner s3://bucket/aligned --before s3://bucket/llava-mix --inner Qwen/Qwen2.5-7B-Instruct \\
      --judge Qwen/Qwen2.5-32B-Instruct --set inner.max_model_len=4096 judge.max_model_len=4096 \\
      inner.gpu_memory_utilization=0.3 judge.gpu_memory_utilization=0.6 --out s3://bucket/manner
  l2t manner runs/mine --rows 500 --set pairwise=false --out runs/mine-manner     # likelihood and words only

Rows that our rewrite program changed hold their original answer; for all others --before names the set as it was, with
the same ids. A set that was never rewritten is measured as it is. The result is in <out>/manner.json, the page in
<out>/manner.html, and every measured answer in <out>/rows. A stopped run continues when it is run again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the numbers; 0 done.

    Raises:
        UserError: bad input, or an engine that cannot run.
    """
    args = parser().parse_args(argv)

    from cluster.config import load_config
    from datagen.config import PRESETS_DIR
    from datagen.manner.config import MannerConfig
    from datagen.manner.run import measure_manner

    given: dict[str, Any] = {"instructions": args.instructions, "before": args.before, "rows": args.rows}
    given |= {"seed": args.seed, "inner": {"model": args.inner}}
    if args.judge:
        given["judge"] = {"model": args.judge}
    config = load_config(MannerConfig, PRESETS_DIR, None, args.set, defaults=given)
    print(summary(measure_manner(config, args.out), args.out))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t manner",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("instructions", help="URI of a published instruction set")
    made.add_argument("--before", help="URI of the same set before it was rewritten")
    made.add_argument(
        "--inner", metavar="MODEL", default="starter", help="the LLM whose manner is wanted (starter)"
    )
    made.add_argument(
        "--judge", metavar="MODEL", help="the LLM that compares before and after (the inner one)"
    )
    made.add_argument(
        "--rows", type=_positive, default=2000, help="answers to measure, drawn by their ids (2000)"
    )
    made.add_argument("--seed", type=int, default=0, help="another seed measures other answers (0)")
    made.add_argument("--out", required=True, help="folder or URI of the result")
    made.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="a.b=c",
        help="further settings (datagen/manner/config.py), as inner.max_model_len=4096 judging.max_tokens=64",
    )
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} answers are nothing to measure")
    return number


def summary(result: Manner, out: str) -> str:
    """The result in a dozen lines."""
    survey, likelihood = result.survey, result.likelihood
    lines = [
        f"{result.instructions}: {survey.answers} answers, {survey.soft} soft-format, {survey.hard} hard-format"
        + (f", {survey.unpaired} without a partner" if survey.unpaired else ""),
        f"  measured {survey.measured - result.failed}, {result.changed} of them changed by the rewrite"
        + (f", {result.failed} too long for the engine" if result.failed else ""),
    ]
    rows = [("nats per token", likelihood.per_token, 3), ("perplexity", likelihood.perplexity, 2)]
    rows += [(s.label, s.change, 2) for s in result.styles]
    lines += _compared(rows) if result.changed else _alone(rows)
    for gap in result.divergences:
        was = f"{gap.before.value:.3f} -> " if result.changed else ""
        floor = f", chance {gap.floor:.3f}" if gap.floor is not None else ""
        lines.append(f"  JS divergence of {gap.name}: {was}{gap.after.value:.3f} bits{floor}")
    lines.append(_judged(result))
    lines.append(f"  page: {out.rstrip('/')}/manner.html")
    return "\n".join(lines)


def _compared(rows: list[tuple[str, Change, int]]) -> list[str]:
    width = max(len(name) for name, _, _ in rows) + 2
    lines = [f"  {'':<{width}}{'before':>10}{'after':>10}{'own':>10}   difference (95 %)"]
    for name, change, digits in rows:
        difference, before, after = change.difference, change.before.value, change.after.value
        bounds = ""
        if difference.low is not None and difference.high is not None:
            bounds = f" ({difference.low:+.{digits}f} to {difference.high:+.{digits}f})"
        lines.append(
            f"  {name:<{width}}{before:>10.{digits}f}{after:>10.{digits}f}{_own(change, digits):>10}"
            f"   {difference.value:+.{digits}f}{bounds}"
        )
    return lines


def _alone(rows: list[tuple[str, Change, int]]) -> list[str]:
    width = max(len(name) for name, _, _ in rows) + 2
    return [f"  {'':<{width}}{'as it is':>10}{'own':>10}"] + [
        f"  {name:<{width}}{change.after.value:>10.{digits}f}{_own(change, digits):>10}"
        for name, change, digits in rows
    ]


def _own(change: Change, digits: int) -> str:
    return f"{change.own.value:.{digits}f}" if change.own else "-"


def _judged(result: Manner) -> str:
    judgement = result.judgement
    if judgement is None or not judgement.pairs:
        return "  judgement: no pairs"
    said = (
        f"  judgement of {judgement.pairs} pairs by {result.names['judge']}: {judgement.after} for after, "
        f"{judgement.before} for before, {judgement.tie} tie, {judgement.inconsistent} turned with the order, "
        f"{judgement.unparsed} unparsed"
    )
    more = [(judgement.no_reference, "without a reference"), (judgement.refused, "too long")]
    said += "".join(f", {n} {what}" for n, what in more if n)
    return (
        said
        if judgement.can_judge
        else f"{said}\n  this judge cannot do the task; take a stronger one with --judge"
    )
