"""Storage on a local or shared file system: temporary file, then rename or hard link."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cluster.errors import UserError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CHUNK = 1 << 20
TEMPORARY = ".tmp"
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Object(NamedTuple):
    """Something stored: its URI, size in bytes, and when it was last written (seconds since 1970)."""

    uri: str
    size: int
    modified: float


class LocalStore:
    """Paths on this machine."""

    conditional = True

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def read(self, path: str) -> bytes:
        with _explained(path):
            return Path(path).read_bytes()

    def chunks(self, path: str) -> Iterator[bytes]:
        with _explained(path), open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def write(self, path: str, data: bytes) -> None:
        _refuse_device(path)
        with _explained(path), _temporary(path) as temporary:
            _write_through(temporary, data)
            os.replace(temporary, path)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        if os.path.exists(path):
            return self.read(path) == data
        with _explained(path), _temporary(path) as temporary:
            _write_through(temporary, data)
            try:
                os.link(temporary, path)
                return True
            except FileExistsError:
                return self.read(path) == data
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
        return self._create_exclusively(path, data)

    def _create_exclusively(self, path: str, data: bytes) -> bool:
        """For file systems without hard links; a kill in the middle leaves half a file, which readers
        refuse."""
        with _explained(path):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return self.read(path) == data
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            return True

    def delete(self, path: str) -> None:
        _refuse_device(path)
        with _explained(path):
            Path(path).unlink(missing_ok=True)

    def list(self, path: str) -> list[Object]:
        found = []
        for folder, _, names in os.walk(path):
            for name in names:
                file = os.path.join(folder, name)
                try:
                    status = os.stat(file)
                except FileNotFoundError:  # somebody's temporary file, renamed since
                    continue
                found.append(Object(file, status.st_size, status.st_mtime))
        return found

    def download(self, path: str, local: Path) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        with _explained(path):
            shutil.copyfile(path, local)

    def upload(self, local: Path, path: str) -> None:
        _refuse_device(path)
        with _explained(path), _temporary(path) as temporary:
            shutil.copyfile(local, temporary)
            os.replace(temporary, path)

    def abort_uploads(self, path: str, grace_seconds: float) -> int:
        """Temporary files of writers that were killed."""
        before = time.time() - grace_seconds
        left = [
            found for found in self.list(path) if found.uri.endswith(TEMPORARY) and found.modified < before
        ]
        for found in left:
            self.delete(found.uri)
        return len(left)

    def filesystem(self) -> FileSystem:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem()


def _refuse_device(path: str) -> None:
    """Replacing or deleting a file by name would put a plain file where the machine's /dev/null was (for root)."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise UserError(f"{path}: is a device or a pipe, not a file. Give the path of a file.")


def _write_through(path: str, data: bytes) -> None:
    """Write past the cache: a commit record must not outlive the part it names when power fails."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _temporary(path: str) -> Iterator[str]:
    """A name for a temporary file beside ``path``, whose folder is made; the file is gone afterwards."""
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turns what the operating system says into what a person can do."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file. Check the path.") from error
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{path}: a folder where a file is expected, or the other way round") from error
    except PermissionError as error:
        raise UserError(
            f"{path}: no permission ({error.strerror}). Change its rights, or use another path."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full. Free some space, or use another path.") from error
        raise UserError(f"{path}: {error.strerror or error}") from error
