"""The whole state in memory, decoded, as the store's watch tells it: what gets, lists and watches are answered from.

One watch over the whole registry keeps the one order of revisions. Each kind has a `Shelf`: its entries by key, and its
latest changes as a log that watchers follow (`feed`). Nothing is written here (`registry`), and nothing rendered but an
entry's own JSON and protobuf.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from portway.apiserver import protobufwriter, storedform
from portway.apiserver.feed import Feed
from portway.apiserver.kinds.base import Kind
from portway.kube.errors import ServiceUnavailable, too_large_resource_version
from portway.kube.objects import Object
from portway.storage import Compacted, Event, KeyValue, StorageError, Store, StoreUnavailable, Watch, WatchLagged

if TYPE_CHECKING:
    from portway.apiserver.tablejson import Cells

ROOT = "/registry/"
_PAGE = 500
_BEHIND_SLASH = chr(ord("/") + 1)
_WAIT = 3.0
"""Seconds to wait for a revision that isn't there yet, as upstream."""
_RETRY = 0.5
_log = logging.getLogger(__name__)


class Entry:
    """One stored object at one revision. It is decoded when somebody asks for it; most are only ever passed on."""

    __slots__ = ("_message", "_obj", "_stored", "cells", "key", "revision")

    def __init__(self, key: str, stored: bytes, revision: int) -> None:
        """`stored` is the object's JSON as the store has it, without a resourceVersion."""
        self.key = key
        self.revision = revision
        self._stored = stored
        self._obj: Object | None = None
        self._message: bytes | None = None
        self.cells: Cells | None = None
        """What `tablejson` keeps of the object's row in a Table."""

    @property
    def name(self) -> str:
        """The object's metadata.name."""
        return self.key.rpartition("/")[2]

    @property
    def namespace(self) -> str:
        """The object's metadata.namespace; "" for what has none."""
        return self.key[len(prefix_of(self.key)) :].rpartition("/")[0]

    @property
    def obj(self) -> Object:
        """The object. It is shared by all readers and never changed."""
        if self._obj is None:
            self._obj = self._decoded()
        return self._obj

    def _decoded(self) -> Object:
        obj: Object = orjson.loads(self._stored)
        obj["metadata"]["resourceVersion"] = str(self.revision)
        return obj

    def at(self, revision: int) -> Entry:
        """The same state, as of another revision."""
        return Entry(self.key, self._stored, revision)

    def mentions(self, text: bytes) -> bool:
        """Whether `text`, as `orjson` writes it, stands in the object's JSON."""
        return text in self._stored

    def view(self, kind: Kind) -> Object:
        """The object as `kind` shows it (another kind may share the storage)."""
        return kind.from_storage(self.obj) if kind.from_storage else self.obj

    def peek(self, kind: Kind) -> Object:
        """The same, for a look that need not be remembered: it isn't kept decoded for that."""
        obj = self._decoded() if self._obj is None else self._obj
        return kind.from_storage(obj) if kind.from_storage else obj

    def item(self, kind: Kind) -> tuple[bytes | memoryview, ...]:
        """The object's JSON as it stands in a list, without kind and apiVersion; in parts, to be joined."""
        found = None
        if not kind.from_storage:
            found = storedform.item(self._stored, kind.api_version, kind.kind, self.revision)
        return found or (_item(self.view(kind)),)

    def json(self, kind: Kind) -> bytes:
        """The object's JSON as it stands alone."""
        found = None
        if not kind.from_storage:
            found = storedform.whole(self._stored, kind.api_version, kind.kind, self.revision)
        return found or orjson.dumps({"kind": kind.kind, "apiVersion": kind.api_version} | self.view(kind))

    def metadata(self, kind: Kind) -> bytes:
        """The JSON of the object's metadata."""
        found = None
        if self._obj is None and not kind.from_storage:
            found = storedform.metadata(self._stored, kind.api_version, kind.kind, self.revision)
        return found or orjson.dumps(self.view(kind)["metadata"])

    def message(self, kind: Kind) -> bytes:
        """The object's protobuf as it stands in a list: without envelope. Made once."""
        if kind.from_storage:
            return _message(kind, kind.from_storage(self.obj))
        if self._message is None:
            # What is passed on as bytes from now on need not be kept decoded too.
            self._message = _message(kind, self._decoded() if self._obj is None else self._obj)
        return self._message

    def protobuf(self, kind: Kind) -> bytes:
        """The object's protobuf as it stands alone: in its envelope."""
        return protobufwriter.envelope(kind.api_version, kind.kind, self.message(kind))


class Change:
    """One step of one object. `entry` is the new state; of a deletion the last one, at the deletion's revision.

    `rendered` keeps what was made of it for watchers, by representation, so that each is made once.
    """

    __slots__ = ("entry", "previous", "rendered", "revision", "type")

    def __init__(self, type_: str, entry: Entry, previous: Entry | None) -> None:
        self.type = type_
        self.entry = entry
        self.previous = previous
        self.revision = entry.revision
        self.rendered: dict[tuple[Any, ...], bytes] = {}


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


def prefix_of(key: str) -> str:
    """Returns the prefix of the kind that a key is of: "/registry/core/pods/ns/name" → "/registry/core/pods/"."""
    return "/".join(key.split("/", 4)[:4]) + "/"


def _message(kind: Kind, obj: Object) -> bytes:
    return protobufwriter.write(protobufwriter.message_name(kind.api_version, kind.kind), obj)


def _item(obj: Object) -> bytes:
    return orjson.dumps({name: value for name, value in obj.items() if name not in ("kind", "apiVersion")})
