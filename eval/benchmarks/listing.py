"""The task table as text."""

from __future__ import annotations

from cluster.errors import UserError, did_you_mean
from eval.scorers import SCORERS
from eval.tasks import SUITES, TASKS, Task


def table() -> str:
    """A line for each task: name, split, rule, how it is asked, title."""
    lines = [f"{'task':<24}{'split':<9}{'rule':<26}{'asks':<9}{'tokens':<8}{'chance':<8}what"]
    for task in TASKS.values():
        chance = "-" if task.chance is None else f"{task.chance:g}"
        tokens = str(task.sampling.max_tokens) if task.ask == "answer" else "-"
        lines.append(
            f"{task.name:<24}{task.split or '-':<9}{_rule(task):<26}{task.ask:<9}{tokens:<8}{chance:<8}{task.title}"
        )
    lines += ["", "suites:", *(f"  {name:<15}{', '.join(names)}" for name, names in SUITES.items())]
    return "\n".join([*lines, "", "`l2t eval tasks NAME` shows prompt, licence and where to get the data."])


def about(name: str) -> str:
    """Everything about one task.

    Raises:
        UserError: there is none of this name.
    """
    if name not in TASKS:
        raise UserError(f"no task {name!r}{did_you_mean(name, TASKS)}")
    task = TASKS[name]
    drawn = f"gold set {task.benchmark}{' part ' + task.part if task.part else ''}"
    if not task.benchmark:
        drawn = f"instructions of kind {', '.join(task.kinds) or 'any'}, format {', '.join(task.formats) or 'any'}"
    facts = {
        "what": task.title,
        "rows": drawn,
        "split": task.split,
        "prompt": repr(task.prompt),
        "without options": repr(task.open_prompt) if task.open_prompt else "",
        "asks": task.ask,
        "sampling": str(task.sampling) if task.ask == "answer" else "",
        "rule": f"{_rule(task)} ({task.variant})",
        "number": task.aggregation,
        "licence": task.licence,
        "get it": task.source,
        "import": f"l2t eval import {task.benchmark} <folder or files> --output <root>"
        if task.benchmark
        else "",
    }
    return "\n".join([name, *(f"  {key:<16}{value}" for key, value in facts.items() if value)])


def _rule(task: Task) -> str:
    return SCORERS[task.scorer].version if task.scorer in SCORERS else f"{task.scorer} (missing)"
