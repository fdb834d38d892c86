"""Which of the tasks asked for can be run: those whose gold sets are there."""

from __future__ import annotations

import logging

from cluster.errors import UserError
from eval.benchmarks.importing import is_imported
from eval.config import EvalConfig, GoldSet
from eval.tasks import TASKS, Task

log = logging.getLogger(__name__)


def available(config: EvalConfig) -> tuple[GoldSet, list[Task]]:
    """The data and the tasks of a run. Tasks of a suite whose benchmark was not imported are left out, and said.

    Raises:
        UserError: a task asked for by name has no data, or none of the suite's has.
    """
    asked = [TASKS[name] for name in config.task_names]
    there = {name: is_imported(config.benchmarks, name) for name in {task.benchmark for task in asked} - {""}}
    tasks = [task for task in asked if there.get(task.benchmark, True)]
    missing = sorted(name for name, found in there.items() if not found)
    if missing and (config.tasks or not tasks):
        raise UserError(
            f"not imported under {config.benchmarks}: {', '.join(missing)}. Import: "
            f"l2t eval import {missing[0]} <folder or files> --output {config.benchmarks}   "
            "(`l2t eval tasks` says where to get them)"
        )
    if missing:
        log.warning(
            "left out, not imported under %s: %s. `l2t eval tasks` says where to get them.",
            config.benchmarks,
            ", ".join(missing),
        )
    starter = any(not task.benchmark for task in tasks)
    gold = GoldSet(
        corpus=config.corpus if starter else "",
        instructions=config.instructions if starter else "",
        benchmarks=config.benchmarks,
        names=tuple(sorted({task.benchmark for task in tasks} - {""})),
    )
    return gold, tasks
