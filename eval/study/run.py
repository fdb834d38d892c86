"""Run a study: everything its arms need, every arm with every seed, one evaluation of all models."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from cluster import storage
from cluster.errors import UserError
from cluster.stages import override, run_stage
from cluster.storage import join
from eval import report
from eval.study.config import Study, filled

SUMMARY = "summary.json"


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


def model_of(study: Study, root: str, run: Run) -> str:
    """URI of the model that a run leads to."""
    return filled(study.arms[run.arm].model, root=root, run=run.place, seed=run.seed)


def ended(study: Study, root: str) -> list[Run]:
    """Runs that led to no model: a loop may end before its last round, which is a result."""
    return [
        run
        for run in runs_of(study, root)
        if not storage.exists(join(model_of(study, root, run), "config.json"))
    ]


def measuring(study: Study, root: str, without: Collection[Run] = ()) -> list[str]:
    """The command line that measures all models, but for those of some runs.

    Raises:
        UserError: there is no model of the arm that others are held against.
    """
    there = [run for run in runs_of(study, root) if run not in without]
    bases = [run.name for run in there if run.arm == study.base]
    if not bases:
        raise UserError(f"no run of {study.base!r} led to a model, and all others are held against it")
    measure = study.measure
    return [
        "eval",
        "run",
        measure.preset,
        *(override(f"models.{run.name}", model_of(study, root, run)) for run in there),
        override("baseline", bases[0]),
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


def run(
    study: Study, root: str, home: str, at_once: int = 1, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Do what is left of the study, ``at_once`` seeds side by side; see :func:`collect`.

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
    pool = ThreadPoolExecutor(at_once)
    seeds = [pool.submit(run_all, training(study, root, seed)) for seed in range(study.seeds)]
    try:
        wait(seeds)
    finally:
        # After a Ctrl-C: the terminal sent the stages their own; they say what they keep, then we leave.
        pool.shutdown(cancel_futures=True)
    for seed in seeds:
        seed.result()
    without = ended(study, root)
    for one in without:
        say(f"{one.name} led to no model and is left out; {one.place} says why")
    run_all([measuring(study, root, without)])
    # Studies may share a root and its answers; the comparison is each one's own.
    storage.write_bytes(join(home, SUMMARY), storage.read_bytes(join(evals(root), SUMMARY)))
    return collect(study, root, home)


def collect(study: Study, root: str, home: str) -> dict[str, Any]:
    """The comparison of all models of the study with its arms as ``seeds``, from what it measured last.

    Raises:
        UserError: nothing was measured yet.
    """
    measured = report.read(join(home, SUMMARY))
    uris = [source["uri"] for source in measured["sources"]]
    names = {model["name"] for model in measured["models"]}
    recipes: dict[str, list[str]] = {}
    for one in runs_of(study, root):
        if one.name in names:
            recipes.setdefault(one.arm, []).append(one.name)
    return report.summarise(uris, recipes[study.base][0], recipes=recipes)
