"""Who follows which prefix: one bounded buffer per watch, filled in revision order as writes become visible.

A watch starts with the retained events its consumer asked for and gets the live ones behind them in the same step, so
there is neither gap nor repeat between the two. Buffers hold references to events that history keeps anyway. A consumer
that leaves more than its share unread is cut off with `WatchLagged`; writers never wait for it.

`local.py` opens watches and publishes to them. Event loop only, no threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from portway.storage.errors import StorageError, StoreClosed, WatchLagged
from portway.storage.protocol import Event

DEFAULT_BUFFER = 16_384
"""Live events a watch may leave unread: some seconds of writes at full speed."""

_BREATH = 256
"""A consumer that never has to wait still gives way to the others after this many events."""


class LocalWatch:
    """A `Watch` on a keyspace in this process."""

    def __init__(self, prefix: str, replay: Iterable[Event], buffer: int, watches: Watches) -> None:
        self._prefix = prefix
        self._pending = deque(replay)
        self._room = len(self._pending) + buffer
        self._watches = watches
        self._wake = asyncio.Event()
        self._end: StorageError | None = None
        self._closed = False
        self._synced = 0
        self._streak = 0

    def __aiter__(self) -> LocalWatch:
        return self

    async def __anext__(self) -> Event:
        self._streak += 1
        if self._streak >= _BREATH:
            self._streak = 0
            await asyncio.sleep(0)
        while not self._pending:
            if self._end is not None:
                raise self._end
            if self._closed:
                raise StopAsyncIteration
            self._streak = 0
            self._wake.clear()
            await self._wake.wait()
        return self._pending.popleft()

    def synced_revision(self) -> int:
        """See `Watch.synced_revision`."""
        if self._pending:
            return self._pending[0].revision - 1
        return self._synced if self._closed else self._watches.revision()

    def close(self) -> None:
        """See `Watch.close`."""
        self._finish(None)

    def offer(self, event: Event) -> None:
        """Take in a live event if it is under the prefix; without room for it, end."""
        if not event.kv.key.startswith(self._prefix):
            return
        if len(self._pending) >= self._room:
            self.cut_off()
        else:
            self._pending.append(event)
            self._wake.set()

    def cut_off(self) -> None:
        """End with `WatchLagged`: the events that come next are not to be had here."""
        self._finish(WatchLagged(self.synced_revision()))

    def end(self, error: StorageError) -> None:
        """Stop with an error, which the consumer meets at its next step; what is still buffered is dropped."""
        self._finish(error)

    def _finish(self, error: StorageError | None) -> None:
        if self._closed:
            return
        self._synced = self.synced_revision()
        self._closed = True
        self._end = error
        self._pending.clear()
        self._watches.forget(self)
        self._wake.set()


class Watches:
    """The open watches of one store."""

    def __init__(self, revision: Callable[[], int], buffer: int) -> None:
        """`revision` tells the store's current revision, `buffer` how many live events a watch may leave unread."""
        if buffer < 1:
            raise ValueError("a watch needs room for one event at least")
        self.revision = revision
        self._buffer = buffer
        self._open: dict[LocalWatch, None] = {}

    def open(self, prefix: str, replay: Iterable[Event]) -> LocalWatch:
        """A watch that starts with the events of `replay` and goes on with those published from now on."""
        watch = LocalWatch(prefix, replay, self._buffer, self)
        self._open[watch] = None
        return watch

    def publish(self, event: Event) -> None:
        """Tell everyone. Called once per write, in revision order, after it is safe on its medium."""
        for watch in list(self._open):
            watch.offer(event)

    def forget(self, watch: LocalWatch) -> None:
        """The watch wants no more events."""
        self._open.pop(watch, None)

    def cut_off(self) -> None:
        """End all watches with `WatchLagged`, each where it is."""
        for watch in list(self._open):
            watch.cut_off()

    def close(self) -> None:
        """End all watches with `StoreClosed`."""
        for watch in list(self._open):
            watch.end(StoreClosed())
