"""The changes of a collection as they happen: a stream of JSON lines, or of protobuf frames.

A watcher is a cursor in the log of the kind, or of the namespace or object that it is about. One that the log has moved
past (too slow, or too old a start) is told so with an ERROR of 410, and lists afresh. Source: KEP-3157 for the initial
events, KEP-956 for bookmarks.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import replace

from portway.apiserver import render, table
from portway.apiserver.cache import Shelf
from portway.apiserver.entries import Change, Entry
from portway.apiserver.feed import Feed
from portway.apiserver.handlers.common import offer, representation
from portway.apiserver.handlers.selection import Selection
from portway.apiserver.http import Request, Stream
from portway.apiserver.negotiation import Representation
from portway.apiserver.options import ListOptions, list_options
from portway.apiserver.routing import Route
from portway.apiserver.server import Server
from portway.kube.errors import Expired

_BATCH = 500
"""Changes that are rendered before other tasks may run."""


async def watch(server: Server, request: Request, route: Route) -> Stream:
    """Answers with the stream; what is wrong with the request is refused before it begins."""
    options = list_options(request.params, watch=True)
    wanted = representation(request, offer(route.kind, stream=True))
    include = table.include_of(request.params.get("includeObject", ""))
    selection = Selection(route, options)
    known = options.resource_version
    await (server.cache.current() if known is None else server.cache.not_older(known))
    return Stream(_Watcher(server, request, selection, options, wanted, include).chunks(), wanted.stream_type)


class _Watcher:
    """One watch while it lasts."""

    def __init__(
        self,
        server: Server,
        request: Request,
        selection: Selection,
        options: ListOptions,
        wanted: Representation,
        include: str,
    ) -> None:
        self._server = server
        self._request = request
        self._selection = selection
        self._options = options
        # Events are never indented, and shared by all watchers that want the same.
        self._wanted = replace(wanted, pretty=False)
        self._include = include
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._gone = False
        self._first = True
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + _lifetime(options.timeout, server.config.min_request_timeout)
        self._next_bookmark = self._clock() + server.config.bookmark_seconds

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yields chunks of whole events until the time is up, the client is gone or the server stops."""
        shelf, scope = self._server.cache.shelf(self._selection.kind.prefix), self._selection.scope
        feed = shelf.feed(scope)
        feed.follow(self._wake)
        self._server.stream_opened(self._wake)
        departure = asyncio.create_task(self._request.disconnected(), name="watch: client's departure")
        departure.add_done_callback(self._leave)
        try:
            async for chunk in self._events(shelf, feed):
                yield chunk
        finally:
            departure.cancel()
            if self._timer is not None:
                self._timer.cancel()
            feed.unfollow(self._wake)
            shelf.release(scope)
            self._server.stream_closed(self._wake)

    def _leave(self, _: asyncio.Task[None]) -> None:
        self._gone = True
        self._wake.set()

    async def _events(self, shelf: Shelf, feed: Feed) -> AsyncGenerator[bytes, None]:
        from_now = bool(self._options.initial_events) or not self._options.resource_version
        cursor = feed.cursor(self._server.cache.revision if from_now else self._options.resource_version or 0)
        if from_now:
            async for chunk in self._initial(list(shelf.scan(self._selection.prefix)), self._server.cache.revision):
                yield chunk
        while cursor is not None and not self._over():
            self._wake.clear()
            changes = feed.read(cursor, _BATCH)
            if changes is None:
                cursor = None
            elif changes:
                events = self._chunk(feed, cursor, changes)
                cursor += len(changes)
                if events:
                    yield events
                if len(changes) == _BATCH:
                    await asyncio.sleep(0)
            else:
                if self._bookmark_due():
                    yield self._bookmark()
                await self._sleep()
        if cursor is None:
            yield render.error(self._too_old(feed).status(), self._wanted)
        elif self._options.bookmarks and feed.read(cursor, 1) == []:
            yield self._bookmark()

    async def _initial(self, entries: list[Entry], revision: int) -> AsyncGenerator[bytes, None]:
        """What there is now, as if it had just been added; the bookmark behind it says that this was all."""
        if self._options.initial_events is False:
            return
        for start in range(0, len(entries), _BATCH):
            batch = [self._added(e) for e in entries[start : start + _BATCH] if self._selection.matches(e)]
            if batch:
                yield b"".join(batch)
        if self._options.bookmarks:
            yield render.bookmark(self._selection.kind, revision, self._wanted, initial=True)

    def _added(self, entry: Entry) -> bytes:
        first, self._first = self._first, False
        return render.shown(self._selection.kind, "ADDED", entry, self._wanted, self._include, first=first)

    def _chunk(self, feed: Feed, cursor: int, changes: list[Change]) -> bytes:
        """The events of the changes behind a cursor; made once for all watchers there that want the same."""
        want = (self._selection.identity, self._wanted, self._include, self._first)
        events = feed.chunk((cursor, len(changes), *want), lambda: self._render(changes))
        self._first = self._first and not events
        return events

    def _render(self, changes: list[Change]) -> bytes:
        events: list[bytes] = []
        for change in changes:
            if type_ := self._selection.type_of(change):
                first = self._first and not events
                events.append(
                    render.event(self._selection.kind, change, type_, self._wanted, self._include, first=first)
                )
        return b"".join(events)

    def _over(self) -> bool:
        return self._gone or self._server.stopping or self._clock() >= self._deadline

    def _bookmark_due(self) -> bool:
        return self._options.bookmarks and self._clock() >= self._next_bookmark

    def _bookmark(self) -> bytes:
        """Only to be made when every change has been read: it speaks of the revision that memory is at."""
        self._next_bookmark = self._clock() + self._server.config.bookmark_seconds
        return render.bookmark(self._selection.kind, self._server.cache.revision, self._wanted, initial=False)

    async def _sleep(self) -> None:
        """Waits for a change, the client's departure, the server's end, or the next thing to do by the clock."""
        if self._timer is None:
            until = min(self._deadline, self._next_bookmark) if self._options.bookmarks else self._deadline
            self._timer = asyncio.get_running_loop().call_at(until, self._ring)
        await self._wake.wait()

    def _ring(self) -> None:
        self._timer = None
        self._wake.set()

    def _too_old(self, feed: Feed) -> Expired:
        return Expired(f"too old resource version: {self._options.resource_version or 0} ({feed.since})")


def _lifetime(wanted: int, least: int) -> float:
    """Seconds that a watch lasts; spread where the client didn't say, so that not all come back at once."""
    return wanted or least * (1 + random.random())
