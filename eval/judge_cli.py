"""``l2t eval judge``: a judge model rates stored answers, or says which of two models answered better."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datagen.engine import EngineConfig

EXAMPLES = """examples:
  l2t eval judge runs/evals/l2t-1f2e3d4c-8a9b0c runs/evals/vit-5a6b7c8d-8a9b0c --model models/judge \\
      --output runs/judged                  ratings of MMHal-Bench, HallusionBench, MT-Bench
  l2t eval judge runs/evals/l2t-1f2e3d4c-8a9b0c --model big-judge --base-url http://judge:8000/v1 --output runs/judged
  l2t eval judge runs/evals/l2t-1f2e3d4c-8a9b0c runs/evals/vit-5a6b7c8d-8a9b0c --model models/judge --pairs \\
      --json pairs.json                     which of the two is better, each pair in both orders

A stopped command continues, and no verdict is had twice. Verdicts that cannot be read are counted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and judge; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(None if argv is None else list(argv))
    from cluster.errors import UserError
    from datagen.engine import EngineConfig

    try:
        engine = EngineConfig(
            backend="openai" if args.base_url else "vllm",
            model=args.model,
            base_url=args.base_url,
            max_model_len=args.max_model_len,
            max_num_seqs=args.max_num_seqs,
            tensor_parallel_size=args.tensor_parallel_size,
        )
        if args.pairs:
            _pairs(args, engine)
        else:
            _rate(args, engine)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="l2t eval judge",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("answers", nargs="+", metavar="URI", help="answers that `l2t eval run` stored")
    parser.add_argument(
        "--model", required=True, help="the judge: folder, s3://, hub name, or the name its server gives it"
    )
    parser.add_argument("--base-url", default="", help="of an OpenAI-compatible server, ending in /v1")
    parser.add_argument("--output", default="", metavar="URI", help="root of the verdicts' data sets")
    parser.add_argument(
        "--pairs", action="store_true", help="compare the first two answers' models instead of rating"
    )
    parser.add_argument("--tasks", nargs="*", default=[], help="with --pairs: these tasks only")
    parser.add_argument("--json", metavar="PATH", help="with --pairs: outcomes and verdicts of every pair")
    parser.add_argument("--engines", type=int, default=1, help="judges that work side by side (default 1)")
    parser.add_argument(
        "--max-model-len", type=int, default=8192, help="tokens of prompt and verdict (default 8192)"
    )
    parser.add_argument("--max-num-seqs", type=int, default=64, help="verdicts in work at once (default 64)")
    parser.add_argument("--tensor-parallel-size", type=int, default=1, help="GPUs of one judge (default 1)")
    return parser


def _rate(args: argparse.Namespace, engine: EngineConfig) -> None:
    from cluster.errors import UserError
    from eval.judge_stage import JudgeConfig, report, run

    if not args.output:
        raise UserError("--output is missing: where the verdicts are stored")
    config = JudgeConfig(answers=tuple(args.answers), engine=engine, engines=args.engines, output=args.output)
    for uri in run(config):
        print(uri)
        for task, counts in report(uri).items():
            print(
                f"  {task:<24}"
                + ", ".join(f"{counts[k]} {k}" for k in ("answers", "read", "unparsed", "failed"))
            )


def _pairs(args: argparse.Namespace, engine: EngineConfig) -> None:
    from cluster.datasets import iter_tables
    from cluster.errors import UserError
    from datagen.engine import EngineDead, build_engine
    from datagen.revision import model_revision
    from eval.judge_pairs import Compared, compare, pairs_of, tally

    if len(args.answers) != 2:
        raise UserError(f"--pairs takes two data sets of answers, not {len(args.answers)}")
    left, right = (
        [
            row
            for table in iter_tables(uri)
            for row in table.to_pylist()
            if not args.tasks or row["task"] in args.tasks
        ]
        for uri in args.answers
    )
    pairs = pairs_of(left, right)
    if not pairs:
        raise UserError(f"{args.answers[0]} and {args.answers[1]} have no answered sample in common")

    async def judged() -> list[Compared]:
        judge = build_engine(engine)
        try:
            return await compare(judge, pairs, model_revision(engine), {})
        finally:
            judge.close()

    try:
        compared = asyncio.run(judged())
    except EngineDead as error:
        raise UserError(f"the judge {args.model} died: {error}") from error
    tasks: dict[str, list[Compared]] = {}
    for pair, one in zip(pairs, compared, strict=True):
        tasks.setdefault(str(pair.left["task"]), []).append(one)
    tallies = {task: asdict(tally(found)) for task, found in tasks.items()}
    for task, counts in tallies.items():
        print(_line(task, pairs[0].left["model"], pairs[0].right["model"], counts))
    if args.json:
        outcomes = [asdict(one) for one in compared]
        with open(args.json, "w") as file:
            json.dump(
                {"judge": model_revision(engine), "tallies": tallies, "pairs": outcomes}, file, indent=1
            )


def _line(task: str, left: Any, right: Any, counts: Mapping[str, Any]) -> str:
    return (
        f"{task}: {left} better {counts['left']}, {right} better {counts['right']}, equal {counts['tie']}, "
        f"swayed by the order {counts['swayed']}, unparsed {counts['unparsed']}; "
        f"share of {left} {100 * counts['share']:.1f} ± {100 * counts['se']:.1f} %"
    )


if __name__ == "__main__":
    raise SystemExit(main())
