"""``l2t study``: run a study of the papers' claims on the starter world, and write its table, verdicts and page."""

from __future__ import annotations

import argparse
import shlex

EXAMPLES = """examples:
  l2t study                          the studies there are
  l2t study ladder                   all arms, three seeds; continues where it was when it is run again
  l2t study ladder --at-once 3       its three seeds side by side
  l2t study ladder seeds=1 --root runs/studies/quick
  l2t study ladder --dry-run         every command it will run
  l2t study ladder --report          table, verdicts and page from what was measured, run nothing
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="l2t study",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("name", nargs="?", help="of a file in eval/studies, or path of a YAML file")
    made.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings, such as seeds=5")
    made.add_argument("--root", metavar="URI", help="where everything goes (default runs/studies/<name>)")
    made.add_argument("--out", metavar="URI", help="where the results go (default <root>/results/<name>)")
    made.add_argument(
        "--at-once",
        type=int,
        default=1,
        metavar="N",
        help="training seeds side by side (default 1); their memory adds up, and on CPU a training takes one core",
    )
    made.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    made.add_argument("--report", action="store_true", help="only write the results again")
    return made


def main(argv: list[str]) -> int:
    """Run or report a study; returns the exit code."""
    args = parser().parse_intermixed_args(argv)

    from cluster.config import load_config
    from cluster.storage import join
    from eval.study.config import STUDIES, Study

    if args.name is None:
        for path in sorted(STUDIES.glob("*.yaml")):
            print(f"{path.stem:<20}{load_config(Study, STUDIES, path.stem).title}")
        return 0
    study = load_config(Study, STUDIES, args.name, args.overrides)
    name = args.name.rsplit("/", 1)[-1].removesuffix(".yaml")
    root = args.root or f"runs/studies/{name}"

    from eval.study import result, run

    if args.dry_run:
        for words in run.commands(study, root):
            print(f"l2t {shlex.join(words)}")
        return 0
    home = args.out or join(root, "results", name)
    summary = (
        run.collect(study, root, home) if args.report else run.run(study, root, home, max(1, args.at_once))
    )
    found = result.result_of(name, study, summary)
    print(result.markdown(found))
    print(*result.write(found, home), sep="\n")
    return 0
