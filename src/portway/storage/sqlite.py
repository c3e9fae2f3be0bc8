"""A store in one SQLite file: what it acknowledged survives `kill -9` and power cuts.

Reads come from memory (`local.py`): all that is retained is held as Python objects, loaded at opening, and the file is
written but never read while the store is open. With 20,000 keys of 1 KB a `get` takes about 1 µs this way and 12 µs
through a reader connection, a list of 500 keys 80 µs and 750 µs; and a reader connection either stops the event loop
when a page is not cached, or costs 60 µs more for a hop into a thread. The price is memory: the values and about 400
bytes a key. `docs/design/storage.md` has the command that measures this.

Writes go to the writer's thread (`writer.py`) and become visible to readers and watchers of this process when they come
back, on the medium, in revision order. One event loop uses a store at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from portway.storage.errors import StoreClosed, StoreUnavailable
from portway.storage.journal import Journal, unneeded_rows
from portway.storage.keyspace import Keyspace
from portway.storage.local import LocalStore
from portway.storage.protocol import KeyValue
from portway.storage.watches import DEFAULT_BUFFER
from portway.storage.writer import Close, Compact, Job, Outcome, Writer
from portway.storage.writes import Change, Create, Delete, Update, Write


class SqliteStore(LocalStore):
    """A `Store` in a file. Made by `open`; must be closed."""

    def __init__(self, journal: Journal, keyspace: Keyspace, garbage: list[int], watch_buffer: int) -> None:
        super().__init__(keyspace, watch_buffer)
        self._committed: deque[Outcome] = deque()
        self._writer = Writer(journal, keyspace, self._deliver)
        self._closing: asyncio.Future[Change | None] | None = None
        self._writer.sweep(garbage)
        self._writer.start()

    @classmethod
    def open(cls, path: str | PathLike[str], *, max_bytes: int = 0, watch_buffer: int = DEFAULT_BUFFER) -> SqliteStore:
        """Open the file, or make it in an existing directory, and check all of it; blocks while it does.

        `max_bytes` limits the file's size (0: no limit), `watch_buffer` the live events a watch may leave unread.
        Raises `StoreUnavailable` (no access, or in use), `CorruptDatabase`, `NewerSchema`, `StoreFull`; each says the
        way out in one line, and the file's contents are left as they were.
        """
        journal = Journal.open(Path(path), max_bytes)
        try:
            loaded = journal.load()
        except BaseException:
            journal.close()
            raise
        return cls(journal, loaded.keyspace, loaded.garbage, watch_buffer)

    @staticmethod
    def adopt(path: str | PathLike[str], revision: int, items: Iterable[KeyValue]) -> None:
        """Make a new file that holds another store's state at a revision, with its revisions and no history.

        Raises as `open` does.
        """
        journal = Journal.open(Path(path))
        try:
            journal.adopt(revision, items)
        finally:
            journal.close()

    async def create(self, key: str, value: bytes) -> int:
        """See `Store.create`."""
        return (await self._write(Create(key, value))).event.revision

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        """See `Store.update`."""
        return (await self._write(Update(key, value, expected_revision))).event.revision

    async def delete(self, key: str, expected_revision: int = 0) -> KeyValue:
        """See `Store.delete`."""
        return (await self._write(Delete(key, expected_revision))).event.kv

    async def compact(self, revision: int) -> None:
        """See `Store.compact`."""
        if revision > self._now().compacted:
            await self._submit(Compact(revision))

    async def compact_in_turn(self, revision: int) -> None:
        """See `Store.compact_in_turn`: it is always our turn."""
        await self.compact(revision)

    def failure(self) -> StoreUnavailable | None:
        """See `Store.failure`."""
        return self._writer.broken.result() if self._writer.broken.done() else None

    async def failed(self) -> StoreUnavailable:
        """See `Store.failed`."""
        return await asyncio.shield(asyncio.wrap_future(self._writer.broken))

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closing is None:
            self._closing = self._submit(Close())
            self._closed = True
        try:
            await asyncio.shield(self._closing)
        finally:
            self._watches.close()
        self._writer.join()

    async def _write(self, write: Write) -> Change:
        change = await self._submit(write)
        if change is None:
            raise TypeError("a granted write makes a change")
        return change

    def _submit(self, request: Write | Compact | Close) -> asyncio.Future[Change | None]:
        if self._closed:
            raise StoreClosed
        loop = asyncio.get_running_loop()
        job = Job(request, loop.create_future(), loop)
        self._writer.submit(job)
        return job.future

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """On the writer's thread: hand over. If the loop is gone, the next one that uses the store settles."""
        self._committed.extend(outcomes)
        try:
            outcomes[0].job.loop.call_soon_threadsafe(self._settle)
        except RuntimeError:
            pass

    def _now(self) -> Keyspace:
        self._settle()
        return super()._now()

    def _settle(self) -> None:
        """Make what has been committed visible, and tell those who wait."""
        while self._committed:
            outcome = self._committed.popleft()
            if outcome.change is not None:
                self._publish(outcome.change)
            elif outcome.error is None and isinstance(outcome.job.request, Compact):
                self._writer.sweep(unneeded_rows(self._keyspace.compact(outcome.job.request.revision)))
            if not outcome.job.future.done():
                self._resolve(outcome)

    @staticmethod
    def _resolve(outcome: Outcome) -> None:
        if outcome.error is not None:
            outcome.job.future.set_exception(outcome.error)
        else:
            outcome.job.future.set_result(outcome.change)
