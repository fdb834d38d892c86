"""Objects by URI: a path or ``file://`` on this machine, ``s3://bucket/key`` on any S3-compatible store.

Endpoint, region and credentials come from the environment as in every AWS tool (``AWS_ENDPOINT_URL``,
``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` …) and from nowhere else, so that none of them is ever stored with an
output.

Objects are written whole or not at all: a reader never sees half of one, whatever kills the writer.
`put_if_absent` is the one primitive that the commit protocol of `cluster.datasets` stands on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cluster.errors import UserError
from cluster.local_store import LocalStore, Object

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = [
    "Object",
    "abort_uploads",
    "absolute",
    "delete",
    "download_dir",
    "exists",
    "filesystem",
    "join",
    "list_objects",
    "list_prefix",
    "probe_conditional_put",
    "put_if_absent",
    "read_bytes",
    "sha256_of",
    "upload_dir",
    "write_bytes",
]

PROBE_ROUNDS, PROBE_WRITERS = 4, 8
# Where Ray unpacks a job's working directory.
JOB_COPY = "/runtime_resources/working_dir_files/"


class Store(Protocol):
    """What a kind of storage has to offer; ``path`` is local, or ``bucket/key``.

    ``conditional`` turns False when the store itself says that it has no conditional put.
    """

    conditional: bool

    def exists(self, path: str) -> bool: ...
    def read(self, path: str) -> bytes: ...
    def chunks(self, path: str) -> Iterator[bytes]: ...
    def write(self, path: str, data: bytes) -> None: ...
    def put_if_absent(self, path: str, data: bytes) -> bool: ...
    def delete(self, path: str) -> None: ...
    def list(self, path: str) -> list[Object]: ...
    def download(self, path: str, local: Path) -> None: ...
    def upload(self, local: Path, path: str) -> None: ...
    def abort_uploads(self, path: str, grace_seconds: float) -> int: ...
    def filesystem(self) -> FileSystem: ...


def _open(uri: str) -> tuple[Store, str, str]:
    """The store of a URI, the path in it, and the prefix that turns a path back into a URI."""
    text = os.fspath(uri)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalStore(), os.path.expanduser(text), ""
    if scheme == "file":
        return LocalStore(), rest, "file://"
    if scheme == "s3":
        from cluster.s3_store import s3_store

        if not rest.strip("/"):
            raise UserError(f"{uri}: a bucket is missing; write s3://bucket/path")
        return s3_store(), rest.rstrip("/"), "s3://"
    raise UserError(
        f"{uri}: storage of kind {scheme!r} is not known; use a path, file:// or s3:// (with "
        "AWS_ENDPOINT_URL any S3-compatible store, Google Cloud Storage among them)"
    )


def absolute(uri: str) -> str:
    """The same place whatever the working directory, without a slash at its end."""
    return uri.rstrip("/") if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def join(uri: str, *parts: str) -> str:
    """``uri`` with ``parts`` below it, one slash between each."""
    return "/".join([os.fspath(uri).rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether this object (locally also: this folder) is there."""
    store, path, _ = _open(uri)
    return store.exists(path)


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The whole object.

    Raises:
        UserError: it is missing, may not be read, has more than ``limit`` bytes, or the store cannot be reached.
    """
    store, path, _ = _open(uri)
    if limit is None:
        return store.read(path)
    read = bytearray()
    for chunk in store.chunks(path):
        read += chunk
        if len(read) > limit:
            raise UserError(f"{uri}: has more than {limit:,} bytes, which nothing of its kind has")
    return bytes(read)


def sha256_of(uri: str) -> str:
    """Hex digest of an object's bytes, read in pieces so that its size does not matter."""
    store, path, _ = _open(uri)
    digest = hashlib.sha256()
    for chunk in store.chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def write_bytes(uri: str, data: bytes) -> None:
    """Write or replace an object atomically: temporary file and rename, or a single PUT.

    Raises:
        UserError: see :func:`refuse_lost`.
    """
    store, path, _ = _open(uri)
    refuse_lost(uri)
    store.write(path, data)


def put_if_absent(uri: str, data: bytes) -> bool:
    """Create an object unless there is one.

    Returns:
        True when the object holds ``data`` because of us. A refusal is doubted, because a store may have kept
        our bytes and lost its answer: what is there is read back, and equal bytes count as ours.

    Raises:
        UserError: see :func:`refuse_lost`.
    """
    store, path, _ = _open(uri)
    refuse_lost(uri)
    return store.put_if_absent(path, data)


def refuse_lost(uri: str) -> None:
    """Before something is written there.

    Raises:
        UserError: a relative path in a Ray job: the folder that it would be in goes away with the job.
    """
    store, path, _ = _open(uri)
    if isinstance(store, LocalStore) and not os.path.isabs(path) and JOB_COPY in os.getcwd():
        raise UserError(
            f"{uri}: this job runs in a copy of the working directory, which is deleted after it. Give outputs as "
            "s3://bucket/path, or as an absolute path of a file system that all nodes share."
        )


def delete(uri: str) -> None:
    """Remove an object; one that is gone already is fine."""
    store, path, _ = _open(uri)
    store.delete(path)


def list_objects(uri: str) -> list[Object]:
    """Everything below ``uri`` with size and age, for collecting garbage; readers never list."""
    store, path, prefix = _open(uri)
    return [Object(prefix + found.uri, found.size, found.modified) for found in store.list(path)]


def list_prefix(uri: str) -> list[str]:
    """URIs of everything below ``uri``, sorted."""
    return sorted(found.uri for found in list_objects(uri))


def abort_uploads(uri: str, grace_seconds: float) -> int:
    """Abort unfinished uploads below ``uri`` that began more than ``grace_seconds`` ago; returns how many."""
    store, path, _ = _open(uri)
    return store.abort_uploads(path, grace_seconds)


def filesystem(uri: str) -> tuple[FileSystem, str]:
    """The pyarrow filesystem of a URI and the path in it, for readers that need ranges or columns."""
    store, path, _ = _open(uri)
    return store.filesystem(), path


def probe_conditional_put(root: str) -> bool:
    """Whether of several writers that race to create one object exactly one wins, tried on the store itself.

    Some stores ignore the condition, some keep it only one request after the other. Leaves nothing behind.
    """
    for _ in range(PROBE_ROUNDS):
        uri = join(root, f".probe-{uuid.uuid4().hex}")
        together = threading.Barrier(PROBE_WRITERS)

        def race(writer: int, uri: str = uri, together: threading.Barrier = together) -> bool:
            together.wait()
            return put_if_absent(uri, f"writer {writer}".encode())

        try:
            with ThreadPoolExecutor(PROBE_WRITERS) as pool:
                winners = sum(pool.map(race, range(PROBE_WRITERS)))
            if winners != 1 or put_if_absent(uri, b"latecomer"):
                return False
        finally:
            delete(uri)
    return _open(root)[0].conditional


def download_dir(uri: str, local: Path, *, replace: bool = True) -> Path:
    """Copy everything below ``uri`` into the folder ``local``, which appears complete or not at all. Without
    ``replace`` a folder that another process has put there meanwhile stays.

    Raises:
        UserError: there is nothing below ``uri``, or an object whose name leads out of the folder.
    """
    store, path, _ = _open(uri)
    names = sorted(found.uri[len(path) :].lstrip("/") for found in store.list(path))
    if not names:
        raise UserError(f"{uri}: no such folder, or nothing in it")
    if odd := next((name for name in names if ".." in name.split("/")), None):
        # Object stores take any name.
        raise UserError(f"{uri}: the name of {odd!r} leads out of its folder; nothing is copied. Delete it.")
    local.parent.mkdir(parents=True, exist_ok=True)
    building = local.parent / f".{local.name}.{uuid.uuid4().hex}.tmp"
    try:
        _each(names, lambda name: store.download(join(path, name), building / name))
        if replace and local.exists():
            shutil.rmtree(local)
        try:
            building.rename(local)
        except OSError:
            if replace or not local.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return local


def upload_dir(local: Path, uri: str) -> None:
    """Copy the files of a folder to ``uri``. Each file appears whole; a marker for the folder is the caller's
    to write afterwards (a checkpoint's ``done.json``)."""
    if not local.is_dir():
        raise UserError(f"{local}: no such folder")
    store, path, _ = _open(uri)
    refuse_lost(uri)
    names = sorted(str(file.relative_to(local)) for file in local.rglob("*") if file.is_file())
    _each(names, lambda name: store.upload(local / name, join(path, name)))


def _each(names: Iterable[str], work: Callable[[str], None]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, names))
