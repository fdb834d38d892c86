"""``l2t bootstrap``: the trained model writes its own next lesson (L2T paper, section on self-bootstrapping).

A round shows the model images alone; it writes instructions and responses (L2T taught it p(X_I, X_A | X_V)); gates and
the verifier throw away what is bad; the rest joins the data the model has learned from and training continues; the
result is measured, and takes the old model's place only if it is better. A stopped loop continues where it was when the
same command is given again; a finished round is never done again. In the end a page shows the rounds side by side.
"""

from __future__ import annotations

import argparse
import shlex

EXAMPLES = """examples:
  l2t bootstrap starter model=runs/demo/checkpoints/l2t root=runs/demo corpus=runs/demo/corpora/starter-train \\
      'original=[{instructions: runs/demo/instructions/round-0}]'
  l2t bootstrap starter ... rounds=3 \\
      'validation={corpus: runs/world/corpora/val, instructions: runs/world/instructions/val-questions}'
                                           (l2t corpus starter --split validation --name val --out runs/world makes it;
                                           without one every round is promoted unseen)
  l2t bootstrap control-steps ...          a control: as many steps on old data; also control-unfiltered, -captions,
                                           -generator, -verify, -rating
  l2t bootstrap starter ... --dry-run      the resolved config and what the next round will run
  l2t bootstrap starter ... --status       where the loop is, and why rounds ended as they did
"""


def main(argv: list[str]) -> int:
    """Parse the command line and run the rounds; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="l2t bootstrap",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", help="name in cluster/presets or path of a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings, such as rounds=3")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and the plan, start nothing"
    )
    parser.add_argument("--status", action="store_true", help="print where the loop is, start nothing")
    args = parser.parse_intermixed_args(argv)

    from cluster.bootstrap.config import PRESETS_DIR, BootstrapConfig
    from cluster.bootstrap.loop import run_rounds
    from cluster.config import load_config, to_yaml
    from cluster.stages import run_stage

    config = load_config(BootstrapConfig, PRESETS_DIR, args.preset, args.overrides)
    if args.dry_run:
        print(to_yaml(config))
        print(plan(config))
    elif args.status:
        print(status(config))
    else:
        run_rounds(config)
        print(status(config))
        run_stage("eval", ["rounds", config.home])
    return 0


def plan(config) -> str:  # type: ignore[no-untyped-def]  # BootstrapConfig, imported lazily
    """The command lines of the next round, as far as they are known before it has begun."""
    from cluster.bootstrap.loop import decisions_of, following

    state = following(config, list(decisions_of(config)))
    if state is None:
        return "the loop is over; rounds= and promotion.patience= let it go on"
    stages = [*state.writing(), *([state.measuring()] if config.validation else [])]
    lines = [f"round {state.number}: python -m {s.module} {shlex.join(s.arguments)}" for s in stages if s]
    trained = f"round {state.number}: python -m train {config.train.preset} ... output={state.run}"
    lines.insert(len(state.writing()), trained + " (its mix follows from what was written)")
    return "\n".join(lines)


def status(config) -> str:  # type: ignore[no-untyped-def]
    """One line for every round, and where the unfinished one is."""
    from cluster.bootstrap.loop import decisions_of, following
    from cluster.bootstrap.round import run_of

    decisions = list(decisions_of(config))
    lines = []
    for d in decisions:
        mix = f"{d.mixture.written_rows} self-written rows ({d.mixture.self_share:.0%} of an epoch)"
        lines.append(f"round {d.round}: {d.outcome}; {mix}; {d.reason}")
    state = following(config, decisions)
    if state is not None:
        lines.append(f"round {state.number}: not decided; last finished stage: {state.reached()}")
    best = max((d.round for d in decisions if d.outcome == "promoted"), default=0)
    lines.append(f"incumbent: round {best}, {run_of(config, best)}")
    return "\n".join(lines)
