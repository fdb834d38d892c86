"""Preflight and a Ray of our own on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from cluster import runtime
from cluster.errors import UserError

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


def test_this_machine_will_do() -> None:
    runtime.preflight()


def test_too_small_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtime, "cpu_flags", lambda: frozenset({"sse2"}))
    with pytest.raises(UserError, match="AVX2"):
        runtime.preflight()
    monkeypatch.setattr(runtime, "cpu_flags", frozenset)  # another kind of CPU
    monkeypatch.setattr(runtime, "available_memory", lambda: runtime.GIB)
    with pytest.raises(UserError, match=r"1\.0 GiB of memory are free.*Close other programs"):
        runtime.preflight()
    monkeypatch.setattr(runtime, "available_memory", lambda: None)
    monkeypatch.setattr(runtime.shutil, "disk_usage", lambda place: Usage(0, 0, runtime.GIB))
    with pytest.raises(UserError, match=r"1\.0 GiB of disk are free at .*Free some space"):
        runtime.preflight(tmp_path)


SCRIPT = """
import os, ray
from cluster.runtime import init_ray
with init_ray():
    assert ray.cluster_resources()["CPU"] >= 8
    print(ray.get_runtime_context().gcs_address)
    @ray.remote
    def environment(): return os.environ["TOKENIZERS_PARALLELISM"], os.environ["VLLM_CPU_KVCACHE_SPACE"]
    print(ray.get(environment.remote()))
    with init_ray(): pass
    assert ray.is_initialized()
assert not ray.is_initialized()
"""


def test_local_ray_listens_on_loopback_only() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    address, values = done.stdout.splitlines()
    assert address.startswith("127.0.0.1:") and values == "('false', '1')"


JOIN = """
from cluster.errors import UserError
from cluster.runtime import init_ray
try:
    with init_ray():
        pass
except UserError as error:
    print(error)
"""


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    # Not "auto": that would join whatever Ray somebody else runs on this machine.
    environment = {**os.environ, "RAY_ADDRESS": "nowhere", "RAY_TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", JOIN], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "no Ray cluster answers at RAY_ADDRESS=nowhere" in done.stdout, done.stderr
