"""``l2t eval``: measure checkpoints on all tasks, compare them, write the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.config import EvalConfig

EXAMPLES = """examples:
  l2t eval run starter models.l2t=runs/demo/checkpoints/l2t/model models.vit=runs/demo/checkpoints/vit/model
  \\
      corpus=runs/world/corpora/starter-test instructions=runs/world/instructions/starter-test-questions \\
      output=runs/demo/evals
  l2t eval run starter ... --dry-run        resolved config and plan, nothing started
  l2t eval run starter ... blind=true       every answer also without its picture: blind accuracy beside accuracy
  l2t eval compare runs/demo/evals/l2t-1f2e3d4c-8a9b0c runs/demo/evals/vit-5a6b7c8d-8a9b0c --baseline vit
  l2t eval page --evals runs/demo/evals/l2t-1f2e3d4c-8a9b0c --trains l2t=runs/demo/checkpoints/l2t \\
      --instructions runs/demo/instructions/round0 --out runs/demo/page.html
  l2t eval verifier runs/demo/instructions/round-0   the verifier's verdicts against exact truth (starter world)
  l2t eval import pope downloads/POPE --output runs/benchmarks      Parquet with embedded pictures
  l2t eval import textvqa TextVQA_0.5.1_val.json --images textvqa --output runs/benchmarks
  l2t eval run l2t models.l2t=... benchmarks=runs/benchmarks output=runs/evals
  l2t eval compare runs/evals/vit-... runs/evals/l2t-s0-... runs/evals/l2t-s1-... runs/evals/l2t-s2-... \\
      --seeds l2t=l2t-s0,l2t-s1,l2t-s2 --reported paper=logs/llava --report compare.html
  l2t eval gates --help                     what each gate of datagen is worth, where truth is known
  l2t eval tasks                            the task table; `tasks NAME` says all about one
  l2t eval corrupt --help                   copies of a corpus or of benchmarks with ImageNet-C corruptions
  l2t eval attention --help                 attention on the picture before the answer, with overlays
  l2t eval judge --help                     a model rates answers (MMHal, HallusionBench, MT-Bench) or compares two runs
  l2t eval diversity --help                 how varied written instructions are, beside others (signs of collapse)
  l2t eval rounds --help                    the page of a bootstrap loop: its rounds side by side
  l2t eval import-lmms --help               lmms-eval's logs into a comparison
  l2t eval export-lmms --help               a run in lmms-eval's layout, and how its driver asks our checkpoint
"""

# Commands with a parser of their own; whether that one wants to see the command's name.
OWN = {
    "corrupt": ("eval.corruptions.cli", False),
    "attention": ("eval.attention_cli", False),
    "judge": ("eval.judge_cli", False),
    "gates": ("eval.gates", False),
    "import-lmms": ("eval.interop.lmms", True),
    "export-lmms": ("eval.interop.lmms", True),
    "diversity": ("eval.diversity", False),
    "rounds": ("eval.rounds", False),
}


def main(argv: Sequence[str]) -> int:
    """Run one subcommand; returns the exit code."""
    arguments = list(argv)
    if arguments and arguments[0] in OWN:
        from importlib import import_module

        module, named = OWN[arguments[0]]
        return int(import_module(module).main(arguments if named else arguments[1:]))
    args = _parser().parse_args(arguments)
    commands = {
        "run": _run,
        "compare": _compare,
        "page": _page,
        "verifier": _verifier,
        "import": _import,
        "tasks": _tasks,
    }
    return commands[args.command](args)


def _parser() -> argparse.ArgumentParser:
    def command(name: str, help_text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=help_text, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    parser = argparse.ArgumentParser(
        prog="l2t eval",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = command("run", "measure checkpoints; a stopped run continues")
    run.add_argument("preset", help="name in eval/presets or path of a YAML file")
    run.add_argument("overrides", nargs="*", help="a.b=c settings, such as models.l2t=<folder> limit=50")
    run.add_argument("--report", metavar="URI", help="also write the page there (ending in .html)")
    run.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and the plan, start nothing"
    )
    run.add_argument(
        "--cluster", metavar="FILE", help="with --dry-run: whether the engines fit this cluster YAML"
    )
    compare = command("compare", "table of any number of finished runs, with paired differences")
    compare.add_argument("evals", nargs="*", help="URIs that `l2t eval run` and `l2t eval judge` printed")
    compare.add_argument(
        "--baseline", help="name of the model that differences refer to (default: the first)"
    )
    compare.add_argument("--json", metavar="URI", help="also write the comparison there")
    compare.add_argument("--report", metavar="URI", help="also write the page there (ending in .html)")
    _seeds_and_reported(compare)
    page = command("page", "one self-contained HTML page of a whole experiment")
    page.add_argument("--evals", nargs="*", default=[], help="URIs that `l2t eval run` printed")
    page.add_argument(
        "--summary", metavar="URI", help="instead of --evals: summary.json of a run or comparison"
    )
    page.add_argument(
        "--trains", nargs="*", default=[], metavar="NAME=URI", help="training runs (their log.jsonl)"
    )
    page.add_argument("--instructions", nargs="*", default=[], help="URIs of instruction data sets")
    page.add_argument("--baseline", help="name of the model that differences refer to")
    _seeds_and_reported(page)
    page.add_argument("--title", default="Learning to instruct", help="heading of the page")
    page.add_argument("--out", required=True, help="where to write the page (URI ending in .html)")
    verifier = command("verifier", "a data set's verdicts against exact truth, where there is one")
    verifier.add_argument("instructions", help="URI of an instruction data set of the starter world")
    tasks = command("tasks", "print the task table")
    tasks.add_argument("names", nargs="*", help="all there is to know about these tasks")
    imports = command("import", "turn a benchmark's files into a gold set with its pictures")
    imports.add_argument("task", help="benchmark, or a task of it (`l2t eval tasks` lists them)")
    imports.add_argument("sources", nargs="+", help="folder(s) or files, local or s3://")
    imports.add_argument(
        "--output", required=True, help="root URI: <output>/corpora/NAME and <output>/gold/NAME"
    )
    imports.add_argument(
        "--images",
        metavar="ROOT",
        help="folder that the pictures' paths start from; nothing outside it is read",
    )
    imports.add_argument("--split", help="instead of the benchmark's usual one (`l2t eval tasks`)")
    imports.add_argument(
        "--limit", type=int, help="rows of a lite subset, by part; those that `limit=` of a run would take"
    )
    imports.add_argument("--shard-images", type=int, default=512, help="pictures in a shard (default 512)")
    imports.add_argument("--dry-run", action="store_true", help="read the rows, write nothing")
    return parser


def _seeds_and_reported(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seeds",
        nargs="*",
        default=[],
        metavar="RECIPE=RUN,RUN,RUN",
        help="models that are seeds of one recipe",
    )
    command.add_argument(
        "--reported",
        nargs="*",
        default=[],
        metavar="NAME=FILE",
        help="results.json of lmms-eval (or its folder): numbers without samples",
    )


def _run(args: argparse.Namespace) -> int:
    from cluster.config import load_config, to_yaml
    from cluster.errors import UserError
    from cluster.storage import join
    from eval.config import PRESETS, EvalConfig

    config = load_config(EvalConfig, PRESETS, args.preset, args.overrides)
    from eval import planning, report, runner

    if args.cluster and not args.dry_run:
        raise UserError("--cluster goes with --dry-run; a run looks at the cluster that it is on")
    if args.dry_run:
        print(to_yaml(config))
        for step in planning.plan(config):
            calls = sum(len(c.picks) for c in step.pending)
            print(f"{step.uri}\n  {step.samples} samples in {len(step.chunks)} chunks, {calls} still to do")
        if args.cluster:
            _check_fit(config, args.cluster)
        return 0
    uris = runner.run(config)
    summary = report.summarise(uris, config.baseline)
    report.write(summary, join(config.output, "summary.json"))
    print(report.text(summary))
    print("\nresults:", *uris, join(config.output, "summary.json"), sep="\n  ")
    if args.report:
        from eval.page import write_summary

        write_summary(args.report, summary, args.preset)
        print(args.report)
    return 0


def _check_fit(config: EvalConfig, cluster: str) -> None:
    from cluster.fleets import read_fleet
    from cluster.nodetypes import check
    from eval import runner

    fleet = read_fleet(cluster)
    engines, scorers = runner.pools(config, fleet)
    for asked in [engines, *([scorers] if config.likelihood.enabled else [])]:
        print(check(asked, fleet))


def _compare(args: argparse.Namespace) -> int:
    from eval import report
    from eval.interop.lmms_log import reported_from
    from eval.recipes import from_texts

    recipes, reported = from_texts(args.seeds), reported_from(args.reported)
    summary = report.summarise(args.evals, args.baseline, recipes=recipes, reported=reported)
    if args.json:
        report.write(summary, args.json)
    print(report.text(summary))
    if args.report:
        from eval.page import write_summary

        write_summary(args.report, summary)
        print(args.report)
    return 0


def _page(args: argparse.Namespace) -> int:
    from cluster.errors import UserError
    from eval.interop.lmms_log import reported_from
    from eval.page import write_page
    from eval.recipes import from_texts

    trains: dict[str, str] = {}
    for text in args.trains:
        name, equals, uri = text.partition("=")
        if not equals or not name:
            raise UserError(f"--trains {text}: write name=URI of a training run")
        trains[name] = uri
    if args.summary and args.evals:
        raise UserError("give --summary or --evals, not both: a summary names its own data sets")
    write_page(
        args.out,
        evals=args.evals,
        summary=args.summary,
        trains=trains,
        instructions=args.instructions,
        baseline=args.baseline,
        recipes=from_texts(args.seeds),
        reported=reported_from(args.reported),
        title=args.title,
    )
    print(args.out)
    return 0


def _verifier(args: argparse.Namespace) -> int:
    from eval.verifier import measure_dataset

    for kind, quality in measure_dataset(args.instructions).items():
        print(f"{kind:<12}{quality}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from cluster.errors import UserError
    from eval.benchmarks.importing import ImportJob, run_import
    from eval.tasks import TASKS

    for option in ("limit", "shard_images"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} {value}: at least 1")
    task = TASKS.get(args.task)
    if task is not None and not task.benchmark:
        raise UserError(f"{args.task} is a task of the starter world; `l2t demo` makes its data")
    job = ImportJob(
        benchmark=task.benchmark if task else args.task,
        sources=tuple(map(_absolute, args.sources)),
        output=_absolute(args.output),
        images=None if args.images is None else _absolute(args.images),
        split=args.split,
        limit=args.limit,
        shard_images=args.shard_images,
    )
    made = run_import(job, dry_run=args.dry_run)
    print(f"{made.rows} rows, {made.pictures} pictures, {made.shards} shards")
    for uri, counts in ((job.corpus, made.corpus_counts), (job.gold, made.gold_counts)):
        print(uri + ("  (dry run, not written)" if args.dry_run else ""))
        for state, number in sorted(counts.items(), key=lambda item: -item[1]):
            print(f"  {number:>9}  {state}")
    return 0


def _absolute(uri: str) -> str:
    """A path that means the same in another working folder."""
    import os

    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _tasks(args: argparse.Namespace) -> int:
    from eval.benchmarks.listing import about, table

    print("\n\n".join(about(name) for name in args.names) if args.names else table())
    return 0


def entry() -> int:
    """``python -m eval``."""
    from cluster.errors import UserError

    try:
        return main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
