"""What an owner leaves behind is killed with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from datagen.engine_guard import Guard


def alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has waited for does not)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Waits up to ten seconds for the end of a process."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


OWNER = """
import subprocess, sys, time
from datagen.engine_guard import Guard
engine = subprocess.Popen(["sleep", "600"], start_new_session=True)
guard = Guard([engine.pid])
print(engine.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_owner_takes_its_engine_along() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    engine = int(owner.stdout.readline())
    assert alive(engine)
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    assert gone(engine)


def test_a_released_guard_kills_nobody() -> None:
    engine = subprocess.Popen(["sleep", "600"])
    Guard([engine.pid]).release()
    time.sleep(0.2)
    assert engine.poll() is None
    engine.kill()
    engine.wait()
