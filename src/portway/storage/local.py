"""Reads and watches over a keyspace in this process: what the stores have in common.

Writes differ and are left to `memory.py`, `sqlite.py` and `etcd.py`; they call `_publish` for each change once it is
safe.
"""

from __future__ import annotations

from portway.storage.errors import StoreClosed
from portway.storage.keyspace import Keyspace
from portway.storage.protocol import KeyValue, Page, Watch
from portway.storage.watches import Watches
from portway.storage.writes import Change


class LocalStore:
    """The reading half of a `Store`."""

    def __init__(self, keyspace: Keyspace, watch_buffer: int) -> None:
        self._keyspace = keyspace
        self._watches = Watches(lambda: self._keyspace.revision, watch_buffer)
        self._closed = False

    def current_revision(self) -> int:
        """See `Store.current_revision`."""
        return self._now().revision

    async def latest_revision(self) -> int:
        """See `Store.latest_revision`: nobody else writes here."""
        return self._now().revision

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        return self._now().get(key)

    async def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """See `Store.list`."""
        return self._now().page(prefix, revision, limit, after)

    def watch(self, prefix: str, after_revision: int) -> Watch:
        """See `Store.watch`."""
        replay = self._now().events_after(prefix, after_revision)
        return self._watches.open(prefix, replay)

    def _now(self) -> Keyspace:
        """The keyspace, up to date."""
        if self._closed:
            raise StoreClosed
        return self._keyspace

    def _publish(self, change: Change) -> None:
        """Make a change visible to readers and watchers."""
        self._keyspace.apply(change)
        self._watches.publish(change.event)
