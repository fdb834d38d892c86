"""WebDataset tars as a stream of samples: neighbouring members that share a name up to its first dot.

Nothing is ever written to disk, and a member's name is only ever used as an id: links, devices and names that lead
elsewhere are reported, not followed.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster import storage
from cluster.errors import UserError
from datagen.importers.rejects import BadRow
from datagen.importers.roots import MAX_BYTES, Root, clean_name

BUFFER = 1 << 20
MAX_MEMBERS = 1000
TAR_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, LookupError)


@dataclass
class Sample:
    """``parts`` by ending (``jpg``, ``json``, ``seg.png``), each its bytes, or None where they were not wanted.

    ``offset`` is where its first header lies in the tar; ``size`` adds up all parts; ``bad`` says what could not be
    taken, as (reason, detail).
    """

    key: str
    offset: int
    size: int = 0
    parts: dict[str, bytes | None] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)


class TarDamage(Exception):
    """The tar ends too early or is none, after the samples that were read; ``reason`` as in rejects."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def is_compressed(uri: str) -> bool:
    """Whether samples cannot be reached but from the beginning."""
    return not uri.endswith(".tar")


def samples(
    uri: str, *, offset: int = 0, wanted: Callable[[str], bool] = lambda ending: True
) -> Iterator[Sample]:
    """The samples of a tar from ``offset`` on; parts whose ending is not ``wanted`` are None, and locally not read.

    Raises:
        TarDamage: after the last whole sample.
        UserError: the file is missing or its store does not answer.
    """
    current: Sample | None = None
    try:
        with _tar(uri, offset) as (tar, base):
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it remembers every member
                if member.isdir():
                    continue
                key, ending = _split(member.name)
                if current is None or key != current.key:
                    if current is not None:
                        yield current
                    current = Sample(key=key, offset=base + member.offset)
                _add(tar, member, ending, current, wanted(ending))
    except TAR_DAMAGE as error:
        cut = "unexpected end" in str(error) or isinstance(error, EOFError)
        raise TarDamage("truncated" if cut else "corrupt", f"{type(error).__name__}: {error}") from error
    except OSError as error:
        raise UserError(f"{uri}: cannot be read ({error}). Check the path and your access to it.") from error
    if current is not None:
        yield current


def _add(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, sample: Sample, contents: bool) -> None:
    try:
        clean_name(member.name)
        if not member.isreg():
            raise BadRow("not_a_file", f"{member.name!r} is a link or device in the tar")
        if member.size > MAX_BYTES:
            raise BadRow(
                "too_many_bytes", f"{member.name!r} has {member.size:,} bytes, the limit is {MAX_BYTES:,}"
            )
        if ending in sample.parts:
            raise BadRow("duplicate_id", f"{member.name!r} is in the tar twice")
        if len(sample.parts) >= MAX_MEMBERS:
            raise BadRow("malformed", f"more than {MAX_MEMBERS} members of one sample")
    except BadRow as error:
        if len(sample.bad) < MAX_MEMBERS:
            sample.bad.append((error.reason, str(error)))
        return
    sample.size += member.size
    data = None
    if contents:
        file = tar.extractfile(member)
        data = file.read() if file else b""
        if len(data) != member.size:
            raise EOFError("unexpected end of data")
    sample.parts[ending] = data


def _split(name: str) -> tuple[str, str]:
    """``a/b.seg.png`` as ``("a/b", "seg.png")``, WebDataset's rule."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


@contextmanager
def _tar(uri: str, offset: int) -> Iterator[tuple[tarfile.TarFile, int]]:
    """The tar from ``offset`` on, and what to add to the offsets that it states."""
    root = Root(uri)
    if root.is_local and not is_compressed(uri):
        # By seeking: a pass over the headers costs no reading of what is between them.
        with open(root.path, "rb") as plain:
            plain.seek(offset)
            with tarfile.open(fileobj=plain, mode="r:") as tar:
                yield tar, 0
        return
    # From an object store a request for every member would cost more than the bytes between them.
    filesystem, path = storage.filesystem(uri)
    with filesystem.open_input_file(path) as remote:
        remote.seek(offset)
        with tarfile.open(fileobj=remote, mode="r|*", bufsize=BUFFER) as tar:
            yield tar, offset
