"""What benchmarks ran on, and how their numbers are written."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def machine(*packages: str) -> str:
    """Processor, load, versions and commit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPO, capture_output=True, text=True)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{os.cpu_count()} cores of {cpu}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"{versions}, commit {commit.stdout.strip()}"
    )


def spread(values: Sequence[float], digits: int) -> str:
    """Median, and the extremes where there are several."""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f} … {max(values):,.{digits}f})"
