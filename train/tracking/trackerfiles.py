"""What trackers keep with a run: their files, and what they have of it already."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster import storage

UPLOAD_S = 60.0


class Folder:
    """A local folder whose files belong below the run: there itself, or copied there now and then."""

    def __init__(self, run: str, name: str) -> None:
        from pyarrow.fs import LocalFileSystem

        files, path = storage.filesystem(run)
        self.uri = storage.join(run, name)
        self._copied = time.monotonic()
        self._is_copy = not isinstance(files, LocalFileSystem)
        parent = Path(tempfile.mkdtemp(prefix="l2t-trackers-")) if self._is_copy else Path(path)
        self.path = parent / name
        self.path.mkdir(parents=True, exist_ok=True)

    def keep(self) -> None:
        """Copy, if that was not done within the last minute."""
        if self._is_copy and time.monotonic() - self._copied > UPLOAD_S:
            storage.upload_dir(self.path, self.uri)
            self._copied = time.monotonic()

    def close(self) -> None:
        """Copy for the last time."""
        if self._is_copy:
            storage.upload_dir(self.path, self.uri)
            shutil.rmtree(self.path.parent)


class Known:
    """What ``trackers.json`` remembers about one tracker: its name for the run, and the last step that it has."""

    def __init__(self, run: str, tracker: str) -> None:
        self._place, self._tracker = storage.join(run, "trackers.json"), tracker
        mine = self._read().get(tracker, {})
        self.run_id: str | None = mine.get("run")
        self.step: int = mine.get("step", 0)

    def _read(self) -> dict[str, Any]:
        return json.loads(storage.read_bytes(self._place)) if storage.exists(self._place) else {}

    def write(self, run_id: str, step: int) -> None:
        """It has points up to and with this step."""
        self.run_id, self.step = run_id, step
        both = self._read() | {self._tracker: {"run": run_id, "step": step}}
        storage.write_bytes(self._place, json.dumps(both).encode())
