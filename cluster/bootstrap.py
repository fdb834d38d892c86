"""``l2t bootstrap``: the trained model writes its own next lesson (L2T paper, section on self-bootstrapping).

A round shows the model images alone; it writes instructions and responses (L2T taught it p(X_I, X_A | X_V)); gates and
the verifier throw away what is bad; the rest joins the data the model has learned from and training continues. Every
state of a round is a published data set or a finished checkpoint, so a stopped run continues and a finished round is
never done again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import Field

from cluster.config import Config, load_config, to_yaml
from cluster.datasets import read_manifest
from cluster.errors import UserError
from cluster.stages import override, run_stage
from cluster.storage import join

PRESETS_DIR = Path(__file__).parent / "presets"
EXAMPLES = """examples:
  l2t bootstrap starter model=runs/demo/checkpoints/l2t root=runs/demo \\
      corpus=runs/demo/corpora/starter-train instructions=[runs/demo/instructions/round-0]
  l2t bootstrap starter ... rounds=3
  l2t bootstrap starter ... --dry-run      the resolved config and what each round will run
"""


class StageSettings(Config):
    """How a stage is run: its preset and further settings for it (``a.b=c``)."""

    preset: str
    set: tuple[str, ...] = ()


class BootstrapConfig(Config):
    """Rounds of generate, gate, merge, train."""

    model: str = Field(description="run of the L2T-trained model (the folder that holds model/)")
    corpus: str = Field(description="URI of the images the model writes about")
    instructions: tuple[str, ...] = Field(
        description="URIs of what the model was trained on; they stay in the mix"
    )
    root: str = Field(description="results go to <root>/instructions and <root>/checkpoints")
    name: str = "bootstrap"
    rounds: int = Field(1, ge=1)
    self_weight: float = Field(
        1.0, gt=0, description="passes over self-written rows per pass over the others"
    )
    datagen: StageSettings
    train: StageSettings

    def pairs(self, number: int) -> str:
        """URI of the pairs written in a round (from 1)."""
        return join(self.root, "instructions", f"{self.name}-{number}")

    def run(self, number: int) -> str:
        """URI of the training run of a round; round 0 is the model we start from."""
        return self.model if number == 0 else join(self.root, "checkpoints", f"{self.name}-{number}")


def generate_arguments(config: BootstrapConfig, number: int) -> list[str]:
    """Command line of a round's generation: images only, written by the model of the round before."""
    return [
        config.datagen.preset,
        override("corpus", config.corpus),
        override("output", config.pairs(number)),
        override("round", number),
        override("engines.generator.model", join(config.run(number - 1), "model")),
        *config.datagen.set,
    ]


def train_arguments(config: BootstrapConfig, number: int) -> list[str]:
    """Command line of a round's training: the model of the round before continues on everything so far."""
    data: list[dict[str, object]] = [
        {"corpus": config.corpus, "instructions": uri} for uri in config.instructions
    ]
    data += [
        {"corpus": config.corpus, "instructions": config.pairs(k), "weight": config.self_weight}
        for k in range(1, number + 1)
    ]
    return [
        config.train.preset,
        override("model", join(config.run(number - 1), "model")),
        override("data", data),
        override("output", config.run(number)),
        *config.train.set,
    ]


def run_rounds(config: BootstrapConfig) -> list[str]:
    """Run all rounds; returns the URIs of their training runs."""
    for number in range(1, config.rounds + 1):
        run_stage("datagen", generate_arguments(config, number))
        if not read_manifest(config.pairs(number)).totals.rows.get("rows"):
            raise UserError(
                f"round {number}: none of the written pairs passed, so there is nothing to learn from. "
                f"Where they went is shown by l2t view {config.pairs(number)}. "
                "A model that was trained longer with mode l2t writes better pairs."
            )
        run_stage("train", train_arguments(config, number))
    return [config.run(k) for k in range(1, config.rounds + 1)]


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
    args = parser.parse_args(argv)
    config = load_config(BootstrapConfig, PRESETS_DIR, args.preset, args.overrides)
    if args.dry_run:
        print(to_yaml(config))
        for number in range(1, config.rounds + 1):
            print(f"round {number}: python -m datagen {' '.join(generate_arguments(config, number))}")
            print(f"round {number}: python -m train {' '.join(train_arguments(config, number))}")
        return 0
    for uri in run_rounds(config):
        print(uri)
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
