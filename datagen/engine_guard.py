"""An engine must not outlive its owner: vLLM's engine process keeps its memory when the owner is killed hard."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


class Guard:
    """A shell that waits for the end of this process, however it comes, and then kills ``pids``.

    It reads from a pipe whose other end only this process holds: the pipe breaks with the process, also under
    ``kill -9`` and the kernel's memory killer.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        script = 'cat >/dev/null; kill -9 "$@" 2>/dev/null'
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", script, "engine-guard", *map(str, pids)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def release(self) -> None:
        """The engine has been closed in good order."""
        self._shell.kill()
        self._shell.communicate()


def engine_children() -> list[int]:
    """Process ids of the engine processes that this process has started."""
    import psutil

    return [child.pid for child in psutil.Process().children() if child.name().startswith("VLLM")]
