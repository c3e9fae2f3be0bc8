"""A store that forgets when the process ends: for tests, and clusters nobody will miss.

The reading half is `local.py`; a write here is decided and visible in one step of the event loop.
"""

from __future__ import annotations

import asyncio

from portway.storage.errors import StoreUnavailable
from portway.storage.keyspace import Keyspace
from portway.storage.local import LocalStore
from portway.storage.protocol import KeyValue
from portway.storage.watches import DEFAULT_BUFFER
from portway.storage.writes import Change, Create, Delete, Update, Write


class MemoryStore(LocalStore):
    """A `Store` in memory. Nothing here waits, so every call is atomic."""

    def __init__(self, *, watch_buffer: int = DEFAULT_BUFFER) -> None:
        """`watch_buffer`: how many live events a watch may leave unread before it is ended."""
        super().__init__(Keyspace(), watch_buffer)

    async def create(self, key: str, value: bytes) -> int:
        """See `Store.create`."""
        return self._write(Create(key, value)).event.revision

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        """See `Store.update`."""
        return self._write(Update(key, value, expected_revision)).event.revision

    async def delete(self, key: str, expected_revision: int = 0) -> KeyValue:
        """See `Store.delete`."""
        return self._write(Delete(key, expected_revision)).event.kv

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        self._now().compact(revision)

    async def compact_in_turn(self, revision: int) -> None:
        """See `Store.compact_in_turn`: it is always our turn."""
        await self.compact(revision)

    def failure(self) -> StoreUnavailable | None:
        """See `Store.failure`: memory doesn't fail."""
        return None

    async def failed(self) -> StoreUnavailable:
        """See `Store.failed`: it never returns."""
        never: asyncio.Future[StoreUnavailable] = asyncio.get_running_loop().create_future()
        return await never

    async def close(self) -> None:
        """See `Store.close`."""
        self._watches.close()
        self._closed = True

    def _write(self, write: Write) -> Change:
        keyspace = self._now()
        change = write.decide(keyspace.get(write.key), keyspace.revision + 1)
        self._publish(change)
        return change
