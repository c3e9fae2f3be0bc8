"""The whole state in memory, as the store's watch tells it: what gets, lists and watches are answered from.

One watch over the whole registry keeps the one order of revisions. Each kind has a `Shelf`: its `entries` by key, and
its latest changes as a log that watchers follow (`feed`). Nothing is written here (`registry`), and nothing rendered.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from portway.apiserver.entries import Change, Entry, prefix_of
from portway.apiserver.feed import Feed
from portway.kube.errors import ServiceUnavailable, too_large_resource_version
from portway.storage import Compacted, Event, KeyValue, StorageError, Store, StoreUnavailable, Watch, WatchLagged

ROOT = "/registry/"
_PAGE = 500
_BEHIND_SLASH = chr(ord("/") + 1)
_WAIT = 3.0
"""Seconds to wait for a revision that isn't there yet, as upstream."""
_RETRY = 0.5
_log = logging.getLogger(__name__)


class Shelf:
    """The entries of one key prefix, in key order, and the latest changes to them, in revision order.

    `log` has all changes, `feed` also those of a part alone, so that nobody is woken by what happens elsewhere.
    """

    def __init__(self, prefix: str, history: int, since: int) -> None:
        """`since`: the revision that the entries to come are of, or were before the first change."""
        self.prefix = prefix
        self.revision = since
        """The revision of the latest change."""
        self.log = Feed(since)
        self._history = history
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._parts: dict[str, Feed] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, key: str) -> Entry | None:
        """Returns the entry of a key."""
        return self._entries.get(key)

    def scan(self, prefix: str = "", after: str = "", limit: int = 0) -> Iterator[Entry]:
        """Yields the entries under a prefix (it ends in "/"), in key order, behind the key `after`, at most `limit`
        if it isn't 0. Not across an await.
        """
        first, end = self._range(prefix, after)
        if limit:
            end = min(end, first + limit)
        return map(self._entries.__getitem__, self._keys[first:end])

    def count(self, prefix: str = "", after: str = "") -> int:
        """Returns how many `scan` would yield."""
        first, end = self._range(prefix, after)
        return end - first

    def _range(self, prefix: str, after: str) -> tuple[int, int]:
        prefix = prefix or self.prefix
        first = bisect_left(self._keys, max(prefix, after + "\0") if after else prefix)
        return first, bisect_left(self._keys, prefix[:-1] + _BEHIND_SLASH, first)

    def load(self, entry: Entry) -> None:
        """Takes an entry as it was found, not as a change; in key order."""
        self._entries[entry.key] = entry
        self._keys.append(entry.key)
        self.revision = max(self.revision, entry.revision)

    def apply(self, event: Event) -> Change | None:
        """Takes one event of the store; returns the change, None when it changes nothing."""
        key, previous = event.kv.key, self._entries.get(event.kv.key)
        if event.type == "DELETE":
            if previous is None:
                return None
            del self._entries[key]
            del self._keys[bisect_left(self._keys, key)]
            change = Change("DELETED", _entry(event.kv), previous)
        else:
            entry = _entry(event.kv)
            self._entries[key] = entry
            if previous is None:
                insort(self._keys, key)
            change = Change("MODIFIED" if previous else "ADDED", entry, previous)
        self._log(change)
        return change

    def _log(self, change: Change) -> None:
        self.revision = change.revision
        for feed in self._feeds(change.entry.key):
            feed.add(change)
        if len(self.log) > 2 * self._history:
            forgotten = self.log.revision(self._history - 1)
            for feed in (self.log, *self._parts.values()):
                feed.forget(forgotten)

    def _feeds(self, key: str) -> Iterator[Feed]:
        yield self.log
        if self._parts:
            for scope in (key, key[: key.rindex("/") + 1]):
                if scope in self._parts:
                    yield self._parts[scope]

    def feed(self, scope: str) -> Feed:
        """Returns the changes under a prefix: the shelf's, or that of one namespace; or the changes of one key.

        Whoever has ended following one gives it back (`release`).
        """
        if scope == self.prefix:
            return self.log
        if scope not in self._parts:
            changes = self.log.read(self.log.start) or ()
            self._parts[scope] = Feed(self.log.since, (one for one in changes if _within(one.entry.key, scope)))
        return self._parts[scope]

    def release(self, scope: str) -> None:
        """Drops a part's feed when nobody follows it any more."""
        if scope in self._parts and not self._parts[scope].followed:
            del self._parts[scope]

    def retire(self) -> None:
        """Ends the log: every cursor into it is lost, and whoever waits is woken to see that."""
        for feed in (self.log, *self._parts.values()):
            feed.retire()


def _within(key: str, scope: str) -> bool:
    return key.startswith(scope) if scope.endswith("/") else key == scope


class Cache:
    """All shelves, fed by one watch of the store. `run` is to be owned by a task; `load` comes first."""

    def __init__(self, store: Store, history: int, changed: Callable[[Change], None]) -> None:
        """`changed` is called for each change, before anybody who waits for its revision goes on."""
        self._store = store
        self._history = history
        self._changed = changed
        self._shelves: dict[str, Shelf] = {}
        self._watch: Watch | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = 0
        self.revision = 0
        self._loaded = 0
        self.alive = False

    def shelf(self, prefix: str) -> Shelf:
        """Returns the shelf of a kind's prefix ("/registry/core/pods/")."""
        shelf = self._shelves.get(prefix)
        if shelf is None:
            shelf = self._shelves[prefix] = Shelf(prefix, self._history, self._loaded)
        return shelf

    async def load(self) -> None:
        """Reads the whole state and begins to follow it. What watched an earlier state is cut."""
        page = await self._store.list(ROOT, limit=_PAGE)
        revision, found = page.revision, page.items
        while page.more:
            await asyncio.sleep(0)
            page = await self._store.list(ROOT, revision=revision, limit=_PAGE, after=page.items[-1].key)
            found += page.items
        self._watch = self._store.watch(ROOT, revision)
        # Nobody sees a part of it: from here on nothing is waited for.
        old, self._shelves = self._shelves, {}
        self.revision = self._loaded = revision
        for kv in found:
            entry = _entry(kv)
            self.shelf(prefix_of(kv.key)).load(entry)
            self._changed(Change("ADDED", entry, None))
        self.alive = True
        self._replace(old.values())
        self._release()

    def _replace(self, old: Iterable[Shelf]) -> None:
        for shelf in old:
            for entry in shelf.scan():
                if self.shelf(shelf.prefix).get(entry.key) is None:
                    self._changed(Change("DELETED", entry, entry))
            shelf.retire()

    async def run(self) -> None:
        """Follows the store until it is closed or the task is cancelled."""
        try:
            while self._watch is not None:
                try:
                    async for event in self._watch:
                        self._apply(event)
                    return
                except WatchLagged as lag:
                    await self._resume(lag.synced_revision)
        finally:
            self.alive = False
            self._fail()

    async def _resume(self, revision: int) -> None:
        while True:
            try:
                self._watch = self._store.watch(ROOT, revision)
            except Compacted:
                if not await self._loaded_anew():
                    await asyncio.sleep(_RETRY)
                    continue
            return

    async def _loaded_anew(self) -> bool:
        try:
            await self.load()
        except (Compacted, StoreUnavailable) as error:
            _log.warning("the state cannot be read anew yet: %s", error)
            return False
        return True

    def _apply(self, event: Event) -> None:
        change = self.shelf(prefix_of(event.kv.key)).apply(event)
        if change is not None:
            self._changed(change)
        self._progress()

    def _progress(self) -> None:
        """Knows of the revisions that brought nothing: where others share the store, there are such."""
        if self._watch is not None:
            self.revision = max(self.revision, self._watch.synced_revision())
        self._release()

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.revision:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def _fail(self) -> None:
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(ServiceUnavailable("the store is closed"))
        self._waiting.clear()

    async def current(self) -> int:
        """Returns once the cache shows every write that was finished when this was called, on whichever server.

        Returns the revision, which is also that of writes that are none of ours where others share the store.
        """
        try:
            await self.wait(await self._store.latest_revision())
        except StorageError as error:
            raise ServiceUnavailable(str(error)) from error
        self._progress()
        return self.revision

    async def recent(self) -> int:
        """Returns once the cache shows every write that this process knows of; the revision. Asks nobody."""
        try:
            self._progress()
            await self.wait(self._store.current_revision())
        except StorageError as error:
            raise ServiceUnavailable(str(error)) from error
        return self.revision

    async def not_older(self, revision: int) -> int:
        """Returns once the cache is at a revision that a client may have from another server; its own revision."""
        if revision > self.revision:
            await self.current()
        await self.wait(revision)
        return self.revision

    async def wait(self, revision: int) -> None:
        """Returns once the cache is at `revision`; raises Timeout (504) when it doesn't get there."""
        if revision <= self.revision:
            return
        if not self.alive:
            raise ServiceUnavailable("the store is closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets += 1
        heapq.heappush(self._waiting, (revision, self._tickets, future))
        try:
            async with asyncio.timeout(_WAIT):
                await future
        except TimeoutError:
            if revision <= self.revision:
                return
            raise too_large_resource_version(revision, self.revision) from None

    def close(self) -> None:
        """Ends the watch; `run` returns."""
        if self._watch is not None:
            self._watch.close()


def _entry(kv: KeyValue) -> Entry:
    return Entry(kv.key, kv.value, kv.mod_revision)
