"""Files below a root, and nothing else: what a data row names is looked up under the root that the user gave.

A row's path may come from anybody. Absolute paths, ``..``, URLs and links that lead out of the root are rejects and
are never opened; nothing is ever fetched from an address that a row holds.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cluster import storage
from cluster.errors import UserError
from datagen.importers.rejects import BadRow

MAX_BYTES = 64 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:file|https?|data|ftp|s3|gs|javascript):", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def clean_name(name: object) -> str:
    """A row's path in its one normal form (``a/./b`` and ``a//b`` are ``a/b``).

    Raises:
        BadRow: not a path below a root.
    """
    if not isinstance(name, str) or not name.strip():
        raise BadRow("malformed", f"the path of the picture is {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BadRow("non_utf8", "the path of the picture is not UTF-8") from error
    if _URL.match(name):
        raise BadRow("outside_root", f"{name!r} is a URL; only files under the root are read")
    if name[0] in "/\\" or _DRIVE.match(name):
        raise BadRow("outside_root", f"{name!r} is an absolute path")
    if ".." in re.split(r"[/\\]", name):
        raise BadRow("outside_root", f"{name!r} leads out of the root")
    if _CONTROL.search(name):
        raise BadRow("malformed", f"{name!r} has control characters")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        raise BadRow("malformed", f"{name!r} names no file")
    return "/".join(parts)


@dataclass(frozen=True)
class Root:
    """A folder or prefix; picklable, opened by the process that reads."""

    uri: str

    def check(self, option: str = "--images") -> None:
        """Raises UserError where a local root is no folder; an object store has no folders to check."""
        if self.is_local and not os.path.isdir(self.path):
            raise UserError(f"{option} {self.uri}: no such folder. Check the path.")

    @property
    def is_local(self) -> bool:
        """Whether plain file access works."""
        return "://" not in self.uri or self.uri.startswith("file://")

    @property
    def path(self) -> str:
        """The local path."""
        return os.path.expanduser(self.uri.removeprefix("file://"))

    def read(self, name: object, limit: int = MAX_BYTES) -> bytes:
        """The bytes of the file that a row names.

        Raises:
            BadRow: no file under this root, not a plain file, or larger than ``limit``.
            UserError: the store does not answer or refuses access, which no row is to blame for.
        """
        clean = clean_name(name)
        return self._read_local(clean, limit) if self.is_local else self._read_remote(clean, limit)

    def exists(self, name: str) -> bool:
        """Whether a file of this name can be read."""
        if self.is_local:
            return os.path.isfile(os.path.join(self.path, name))
        return storage.exists(storage.join(self.uri, name))

    def _read_local(self, name: str, limit: int) -> bytes:
        base = os.path.realpath(self.path)
        real = os.path.realpath(os.path.join(base, name))
        if os.path.commonpath([base, real]) != base:
            raise BadRow("outside_root", f"{name!r} is a link that leads out of the root")
        try:
            status = os.stat(real)
            if not stat.S_ISREG(status.st_mode):
                raise BadRow("not_a_file", f"{name!r} is not a plain file")
            if status.st_size > limit:
                raise BadRow(
                    "too_many_bytes", f"{name!r} has {status.st_size:,} bytes, the limit is {limit:,}"
                )
            with open(real, "rb") as file:
                return file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadRow("missing_file", f"{name!r} is not under {self.uri}") from error
        except OSError as error:
            raise BadRow("unreadable", f"{name!r}: {error.strerror or error}") from error

    def _read_remote(self, name: str, limit: int) -> bytes:
        from pyarrow.fs import FileType

        uri = storage.join(self.uri, name)
        filesystem, path = storage.filesystem(uri)
        try:
            info = filesystem.get_file_info(path)
            if info.type == FileType.NotFound:
                raise BadRow("missing_file", f"{name!r} is not under {self.uri}")
            if info.type != FileType.File:
                raise BadRow("not_a_file", f"{name!r} is not an object")
            if info.size > limit:
                raise BadRow("too_many_bytes", f"{name!r} has {info.size:,} bytes, the limit is {limit:,}")
            with filesystem.open_input_stream(path) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise UserError(
                f"{uri}: cannot be read ({error}). Check the store and your access to it."
            ) from error


def iter_files(uri: str) -> Iterator[tuple[str, int]]:
    """Relative name and size of every file below ``uri``, sorted within each folder; linked folders are not entered.

    Locally in constant memory; an object store is listed whole, about 300 bytes a name.
    """
    root = Root(uri)
    if root.is_local:
        yield from _walk(root.path, "")
        return
    prefix = uri.rstrip("/") + "/"
    for found in sorted(storage.list_objects(uri), key=lambda found: found.uri):
        yield found.uri.removeprefix(prefix), found.size


def _walk(base: str, below: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(os.path.join(base, below)) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{os.path.join(base, below)}: cannot be listed ({error.strerror})") from error
    for entry in ordered:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(base, name)
        elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
            yield (
                name,
                entry.stat(follow_symlinks=False).st_size,
            )  # where a link leads is looked at when it is read


def source_files(source: str, endings: tuple[str, ...]) -> list[tuple[str, int]]:
    """URIs and sizes of the files that ``source`` means: itself, or those below it with one of ``endings``.

    Raises:
        UserError: there is none.
    """
    root = Root(source)
    if root.is_local:
        if os.path.isfile(root.path):
            return [(source, os.path.getsize(root.path))]
        if not os.path.isdir(root.path):
            raise UserError(f"{source}: no such file or folder. Check the path.")
    elif not source.endswith("/") and storage.exists(source):
        filesystem, path = storage.filesystem(source)
        return [(source, filesystem.get_file_info(path).size)]
    found = [(storage.join(source, n), size) for n, size in iter_files(source) if n.lower().endswith(endings)]
    if not found:
        raise UserError(f"{source}: no {' or '.join(endings)} file there. Check the path.")
    return found
