"""Stages of the loop by name: ``cluster`` may import none of the packages that do the work, so it starts them as
``python -m <package>`` and hands data over by URI. Each stage continues or says that it is done when run again, which
is what makes the loops built from them resumable."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence

import yaml

from cluster.errors import UserError

PR_SET_PDEATHSIG = 1
# In the folder of a stage's output: why it stopped of its own accord. Going on would stop there again.
STOPPED = "stopped.txt"


def override(key: str, value: object) -> str:
    """``key=value`` as the config loader reads it, whatever the value holds."""
    return f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix('...' + chr(10)).strip()}"


def run_stage(module: str, arguments: Sequence[str], *, environment: dict[str, str] | None = None) -> None:
    """Run ``python -m module arguments`` with this process's terminal, to its end.

    The child dies with this process even under kill -9: a half-dead run that goes on writing beside its own
    continuation would be worse than a stopped one.

    Raises:
        UserError: the stage failed; its own message stands above.
    """
    command = [sys.executable, "-m", module, *arguments]
    child = subprocess.Popen(command, env={**os.environ, **(environment or {})}, preexec_fn=_die_with_parent)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        # The terminal sent the child its own Ctrl-C; it says what it keeps, then we leave.
        child.wait()
        raise
    if code == 130 or code == -signal.SIGINT:
        raise KeyboardInterrupt
    if code != 0:
        raise UserError(
            f"stage failed with exit code {code}: python -m {module} {shlex.join(arguments)}\n"
            "Its message stands above. What was finished is kept: put it right and run the same command again."
        )


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
