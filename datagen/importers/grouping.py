"""Rows by what they are about, for sources of any size: a sort on disk by the hash of a key.

Rows go to files by the first byte of their key's hash, then each file is sorted on its own: memory is that of one
file, a 256th of the rows. Groups come out in the order of their hashes, whatever the order of the source, so a
shard is a fair sample of the whole, and the same source gives the same shards.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

DIGEST = 16


def digest(key: str) -> bytes:
    """16 bytes that stand for a key; with 10⁹ keys two agree with a chance of 10⁻²¹."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


class Buckets:
    """Items by key, on disk under ``folder``; items are bytes without a line break."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files: dict[int, BinaryIO] = {}
        self.items = 0

    def add(self, key: bytes, item: bytes) -> None:
        """Put an item under a digest."""
        file = self._files.get(key[0])
        if file is None:
            file = self._files[key[0]] = (self._folder / f"{key[0]:02x}").open("wb")
        file.write(b"%b%b\n" % (key.hex().encode(), item))
        self.items += 1

    def groups(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Digest and items of every group, items in the order in which they were added. Ends the writing."""
        for file in self._files.values():
            file.close()
        for number in sorted(self._files):
            path = self._folder / f"{number:02x}"
            with path.open("rb") as lines:
                rows = [(line[: 2 * DIGEST], line[2 * DIGEST : -1]) for line in lines]
            path.unlink()
            rows.sort(key=itemgetter(0))  # stable: the order of the source stays
            for key, members in groupby(rows, key=itemgetter(0)):
                yield bytes.fromhex(key.decode()), [item for _, item in members]


class Links:
    """Which keys belong together (union-find), on disk: pictures that share a conversation share a shard."""

    def __init__(self, path: Path, limit: int) -> None:
        self._limit = limit
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA cache_size=-65536")
        self._db.execute("CREATE TABLE link (key BLOB PRIMARY KEY, up BLOB, size INTEGER) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self.empty = True

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def find(self, key: bytes) -> bytes:
        """The one key that stands for all that are tied to ``key``."""
        while (up := self._row(key)[0]) != key:
            key = up
        return key

    def size(self, top: bytes) -> int:
        """How many keys are tied to one that stands for them."""
        return self._row(top)[1]

    def join(self, keys: list[bytes]) -> bool:
        """Tie keys together; False, and nothing done, where that would make a group of more than the limit."""
        tops = sorted({self.find(key) for key in keys})
        sizes = [self._row(top)[1] for top in tops]
        if sum(sizes) > self._limit:
            return False
        self.empty = False
        # The larger group's top stays on top: chains grow with the logarithm of the group only.
        best = max(zip(sizes, tops, strict=True))[1]
        for top in tops:
            self._db.execute(
                "INSERT OR REPLACE INTO link VALUES (?, ?, ?)", (top, best, sum(sizes) if top == best else 0)
            )
        return True

    def _row(self, key: bytes) -> tuple[bytes, int]:
        found = self._db.execute("SELECT up, size FROM link WHERE key = ?", (key,)).fetchone()
        return found or (key, 1)


class Seen:
    """A set of keys on disk."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, key: bytes) -> bool:
        """Whether the key is new."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
