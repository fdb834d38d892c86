"""Work on shards by a pool of Ray actors: indices go in, one line of statistics comes out, data stays in storage."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cluster.errors import UserError

# Takes a shard's index, does the work, returns what it counted.
Work = Callable[[int], dict[str, int]]


class Pool:
    """The actor: builds its work once, then does it for one shard after another."""

    def __init__(self, build: Callable[..., Work], settings: dict[str, Any]) -> None:
        self.work = build(**settings)

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """A batch of one index. What the user can put right comes back as text: Ray would wrap the exception."""
        for shard in (int(k) for k in batch["shard"]):
            try:
                counts, error = self.work(shard), ""
            except UserError as problem:
                counts, error = {}, str(problem)
            yield {
                "shard": [shard],
                "error": [error],
                "names": [list(counts)],
                "values": [list(counts.values())],
            }


def each_shard(
    build: Callable[..., Work], settings: dict[str, Any], shards: Sequence[int], workers: int
) -> Iterator[dict[str, int]]:
    """Counts of every shard as it is done, in any order; Ray must be running.

    Raises:
        UserError: a shard failed for something that the user can put right.
    """
    import ray

    quiet()
    done = ray.data.from_items([{"shard": k} for k in shards], override_num_blocks=len(shards)).map_batches(
        Pool,
        fn_constructor_kwargs={"build": build, "settings": settings},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(shards)), max_tasks_in_flight_per_actor=2),
        num_cpus=1,
    )
    for row in done.iter_rows():
        if row["error"]:
            raise UserError(row["error"])
        yield dict(zip(row["names"], map(int, row["values"]), strict=True))


def quiet() -> None:
    """One line of progress is ours; a long shard is not a hang."""
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def workers_here() -> int:
    """How many shards to work on at once where nobody says: the cores of this machine, or all of a cluster."""
    if not os.environ.get("RAY_ADDRESS"):
        return os.cpu_count() or 1
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
