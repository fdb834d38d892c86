"""Shards side by side, or one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A lock of one event loop: many holders ``together``, or a single one ``alone``. Who waits to be alone goes before
    newcomers."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._together, self._alone, self._waiting = 0, False, 0

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Hold beside others."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._together += 1
        try:
            yield
        finally:
            async with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold when nobody else does."""
        async with self._changed:
            self._waiting += 1
            try:
                await self._changed.wait_for(lambda: not self._alone and not self._together)
            finally:
                self._waiting -= 1
                self._changed.notify_all()  # one that was cancelled holds nobody up
            self._alone = True
        try:
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()
