"""Several workers of one run as plain processes over gloo, without Ray: ``python group.py run.yaml rank world``.

What Ray Train starts are the same workers; without it a test of two takes seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from torch import distributed as dist

from cluster.config import to_yaml
from train.config import TrainConfig

ROOT = Path(__file__).parents[2]


def run_group(cfg: TrainConfig, world: int, folder: Path) -> str:
    """Run to the end; returns what the workers wrote to stderr.

    Raises:
        AssertionError: a worker failed.
    """
    folder.mkdir()
    (folder / "run.yaml").write_text(to_yaml(cfg))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder / "run.yaml"), str(rank), str(world)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    written = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * world, "\n".join(w[-3000:] for w in written)
    return "\n".join(written)


def main() -> None:
    from train.loop import run_worker

    path, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{path.parent}/meeting", rank=rank, world_size=world)
    run_worker(TrainConfig.model_validate(yaml.safe_load(path.read_text())), torch.device("cpu"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
