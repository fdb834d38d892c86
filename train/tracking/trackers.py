"""Log lines to TensorBoard, MLflow and Weights & Biases, through their own libraries.

Points are sent by a thread of their own: a server that is slow or gone costs no step and ends no training. A run that
continues does not double its points: TensorBoard is told from where on older ones are void, and for the others the
run's ``trackers.json`` keeps under which name and up to which step they have it.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from train.tracking.tracking import MLflow, TensorBoard, WandB

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
# How long the end of a run waits for a server that takes no points.
CLOSE_S = 120.0
logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """One place that points go to."""

    def write(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


class Trackers:
    """What a run reports to. Only the first worker has one."""

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)
        self._queue: SimpleQueue[tuple[int, dict[str, float]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._send, name="trackers", daemon=True)
        self._thread.start()

    def log(self, line: Mapping[str, Any]) -> None:
        """Send the numbers of a log line; returns at once."""
        self._queue.put((int(line["step"]), numbers(line)))

    def close(self) -> None:
        """Send what is left and close; gives up on what takes longer than two minutes."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            logger.warning(
                "trackers: not everything was sent within %.0f s; the run's log.jsonl has it", CLOSE_S
            )

    def _send(self) -> None:
        while (item := self._queue.get()) is not None:
            step, values = item
            for name, tracker in list(self._trackers.items()):
                self._try(name, tracker, lambda t=tracker, s=step, v=values: t.write(s, v))  # type: ignore[misc]
        for name, tracker in list(self._trackers.items()):
            self._try(name, tracker, tracker.close)

    def _try(self, name: str, tracker: Tracker, work: Callable[[], None]) -> None:
        # Foreign code at work: mlflow raises bare exceptions, and whatever it is, the other trackers go on.
        try:
            work()
        except Exception as error:
            # Kind and place alone: messages of clients may hold addresses with passwords in them.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
            logger.warning("trackers: %s takes no points (%s); training goes on without it", name, kind)
            del self._trackers[name]


def open_trackers(
    names: Sequence[TrackerName], run: str, config: Mapping[str, Any], *, step: int = 0
) -> Trackers:
    """Trackers of a run.

    Args:
        run: URI of the run; event files are stored below it, and its last part is its name elsewhere.
        config: what is stored as the run's settings.
        step: steps that the run has done, more than 0 where it continues.

    Raises:
        UserError: a library, an address or a key is missing; the message says how to set it.
    """
    openers: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(run, config, step),
        "mlflow": lambda: MLflow(run, config),
        "wandb": lambda: WandB(run, config),
    }
    return Trackers({name: openers[name]() for name in dict.fromkeys(names)})


def numbers(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """All numbers of a log line but its step; those of a mapping as ``lr/connector``."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and prefix + key != "step":
            found[prefix + key] = float(value)
    return found
