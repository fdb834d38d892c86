"""Log lines that say which run, shard and worker they are of: ``… INFO datagen.worker run=1f2e3d4c shard=7 committed``.

``run`` is `run_id` of the output's URI, which ``l2t status`` shows, so `grep run=1f2e3d4c` over the logs of a whole
cluster finds one run. Lines go to stderr: a terminal, a job's log, or in workers Ray's log folder.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cluster.storage import absolute

PACKAGES = ("cluster", "datagen", "train", "eval")
# Of the whole process, and of the work that a thread or a coroutine is doing right now.
_process: dict[str, object] = {}
_task: ContextVar[dict[str, object] | None] = ContextVar("l2t_log_fields", default=None)


def run_id(uri: str) -> str:
    """Eight hex digits that name a run or data set by its place."""
    return hashlib.sha256(absolute(uri).encode()).hexdigest()[:8]


def start(uri: str, **fields: object) -> None:
    """Have every line that this process logs from now on carry the run of ``uri`` and ``fields``.

    On a terminal only warnings show: there people look at the progress.
    """
    _process.clear()
    _process.update(run=run_id(uri), **fields)
    root = logging.getLogger()
    if any(isinstance(handler, _Handler) for handler in root.handlers):
        return
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(where)s%(message)s"))
    handler.addFilter(_add_where)
    root.addHandler(handler)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.WARNING if sys.stderr.isatty() else logging.INFO)


@contextmanager
def within(**fields: object) -> Iterator[None]:
    """Lines logged in the body, by this thread or coroutine, carry ``fields`` as well (``shard=7``)."""
    token = _task.set({**(_task.get() or {}), **fields})
    try:
        yield
    finally:
        _task.reset(token)


def where() -> str:
    """``run=1f2e3d4c shard=7 ``, "" in a process that works on no run."""
    return "".join(f"{key}={value} " for key, value in {**_process, **(_task.get() or {})}.items())


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Ours, to be found again."""


def _add_where(record: logging.LogRecord) -> bool:
    record.where = where()
    # Libraries that say everything they do have said it elsewhere already.
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in PACKAGES
