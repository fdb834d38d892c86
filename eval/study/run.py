"""Run a study: everything its arms need, every arm with every seed, one evaluation of all models."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cluster.stages import override, run_stage
from cluster.storage import join
from eval import report
from eval.study.config import Study, filled


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one training seed; ``name`` is how it is called in tables."""

    arm: str
    seed: int
    place: str

    @property
    def name(self) -> str:
        """Arm and seed."""
        return f"{self.arm}-s{self.seed}"


def runs_of(study: Study, root: str) -> list[Run]:
    """All arms of the first seed, then of the next: a study that is stopped has whole seeds."""
    return [
        Run(arm=arm, seed=seed, place=join(root, "runs", f"{arm}-s{seed}"))
        for seed in range(study.seeds)
        for arm in study.arms
    ]


def preparing(study: Study, root: str) -> list[list[str]]:
    """Command lines that all arms need."""
    return [study.words(line, root=root) for line in study.prepare]


def training(study: Study, root: str, seed: int) -> list[list[str]]:
    """Command lines of all arms with one seed, in order: a later arm may build on an earlier one."""
    return [
        study.words(step, root=root, run=run.place, seed=run.seed, arm=run.arm)
        for run in runs_of(study, root)
        if run.seed == seed
        for step in study.arms[run.arm].steps
    ]


def measuring(study: Study, root: str) -> list[str]:
    """The command line that measures all models."""
    models = [
        override(
            f"models.{run.name}", filled(study.arms[run.arm].model, root=root, run=run.place, seed=run.seed)
        )
        for run in runs_of(study, root)
    ]
    measure = study.measure
    return [
        "eval",
        "run",
        measure.preset,
        *models,
        override("baseline", f"{study.base}-s0"),
        override("corpus", filled(measure.corpus, root=root)),
        override("instructions", filled(measure.instructions, root=root)),
        override("output", evals(root)),
        *(filled(setting, root=root) for setting in measure.set),
    ]


def commands(study: Study, root: str) -> Iterator[list[str]]:
    """Every command line of the study in order, the evaluation last."""
    yield from preparing(study, root)
    for seed in range(study.seeds):
        yield from training(study, root, seed)
    yield measuring(study, root)


def evals(root: str) -> str:
    """Root of the results."""
    return join(root, "evals")


def run(study: Study, root: str, at_once: int = 1, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Do what is left of the study, ``at_once`` seeds side by side; the comparison of all its models with recipes as
    ``seeds``.

    Raises:
        UserError: a stage failed; its message stands above. Other seeds are finished first, and the study continues
            when run again.
    """
    lines = list(commands(study, root))
    numbers = itertools.count(1)

    def run_all(commands_: Iterable[list[str]]) -> None:
        for words in commands_:
            say(f"\n[{next(numbers)}/{len(lines)}] l2t {shlex.join(words)}")
            run_stage("cluster", words)

    run_all(preparing(study, root))
    with ThreadPoolExecutor(at_once) as pool:
        seeds = [pool.submit(run_all, training(study, root, seed)) for seed in range(study.seeds)]
    for seed in seeds:
        seed.result()
    run_all([measuring(study, root)])
    return collect(study, root)


def collect(study: Study, root: str) -> dict[str, Any]:
    """The comparison from what was measured last.

    Raises:
        UserError: nothing was measured yet.
    """
    measured = report.read(join(evals(root), "summary.json"))
    uris = [source["uri"] for source in measured["sources"]]
    recipes = {arm: [r.name for r in runs_of(study, root) if r.arm == arm] for arm in study.arms}
    return report.summarise(uris, f"{study.base}-s0", recipes=recipes)
