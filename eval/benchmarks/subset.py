"""The seeded rule of "lite" subsets: the rows with the smallest hash of their id, or of their group.

Hashes do not depend on order, a larger limit contains the smaller, and what is judged together stays together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Grouped(Protocol):
    """Anything with an id and a group, "" where it belongs to none."""

    @property
    def id(self) -> str: ...

    @property
    def group(self) -> str: ...


G = TypeVar("G", bound=Grouped)


def lite_order(record_id: str) -> str:
    """Sort key of an id."""
    return hashlib.sha256(f"lite-1:{record_id}".encode()).hexdigest()


def smallest(rows: Iterable[G], limit: int) -> list[G]:
    """The ``limit`` first rows by the rule; the last group may be cut."""
    return sorted(rows, key=lambda row: (lite_order(row.group or row.id), lite_order(row.id)))[:limit]
