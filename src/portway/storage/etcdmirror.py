"""What an etcd holds below our prefix, followed in memory: reads and watches of the etcd store.

One watch stream feeds the keyspace that `local.py` reads from. When the connection is lost it goes on after the last
revision that arrived, from the next member; when etcd has forgotten what came after that, everything is loaded anew and
open watches are cut off with `WatchLagged`, each knowing where it was. A consistent read first asks a quorum for the
revision of the last write, and waits until the stream has brought it: etcd's own progress requests won't do, because
before 3.4.25 and 3.5.8 their answers overtake events.

`etcd.py` adds the writes.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from contextlib import aclosing

from portway.storage.coalesced import Coalesced
from portway.storage.errors import MediumFailed, StoreUnavailable
from portway.storage.etcdclient import PATIENCE, EtcdClient
from portway.storage.etcdlayout import Layout
from portway.storage.etcdload import HistoryGoneError, StrangerError, change_of, changes, last_write, load
from portway.storage.keyspace import Keyspace
from portway.storage.local import LocalStore
from portway.storage.protocol import KeyValue, Page

_PAUSE = 0.2
_UNKNOWN_SECONDS = 0.5
"""How long to wait for revisions that may be others' before everything is loaded anew."""
_log = logging.getLogger(__name__)


class EtcdMirror(LocalStore):
    """The reading half of the etcd store."""

    def __init__(self, client: EtcdClient, layout: Layout, keyspace: Keyspace, watch_buffer: int) -> None:
        super().__init__(keyspace, watch_buffer)
        self._client = client
        self._layout = layout
        self._trouble: StoreUnavailable | None = None
        self._replaced: asyncio.Future[StoreUnavailable] = asyncio.get_running_loop().create_future()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = 0
        self._last_write = Coalesced(lambda: last_write(client, layout))
        self._reloading = asyncio.Lock()
        self._following = self._followed()

    async def latest_revision(self) -> int:
        """See `Store.latest_revision`. Raises `StoreUnavailable` when no quorum can be asked."""
        self._now()
        return await self._synchronise()

    async def _synchronise(self) -> int:
        """`latest_revision`, also while closing."""
        known = self._keyspace.revision
        written, now = await self._last_write()
        if now < known:
            raise self._back_in_time(now, known)
        if written:
            await self._reach(written)
        else:
            await self._reach_anyhow(now)
        self._advance(now)
        return written or now

    async def get(self, key: str) -> KeyValue | None:
        """See `Store.get`."""
        await self.latest_revision()
        return await super().get(key)

    async def list(self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "") -> Page:
        """See `Store.list`."""
        if not 0 < revision <= self._now().revision:
            await self.latest_revision()
        return await super().list(prefix, revision=revision, limit=limit, after=after)

    def failure(self) -> StoreUnavailable | None:
        """See `Store.failure`: etcd is out of reach. It ends by itself."""
        return self._replaced.result() if self._replaced.done() else self._trouble

    async def failed(self) -> StoreUnavailable:
        """See `Store.failed`: only when etcd's history was replaced by an older one, or can't be followed."""
        return await asyncio.shield(self._replaced)

    def _back_in_time(self, now: int, known: int) -> StoreUnavailable:
        error = MediumFailed(
            f"etcd at {self._client.address} is at revision {now} and was at {known}: it was restored from a backup"
        )
        if not self._replaced.done():
            self._replaced.set_result(error)
        return error

    # Following

    def _followed(self) -> asyncio.Task[None]:
        task = asyncio.create_task(self._follow(), name="follow etcd")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, following: asyncio.Task[None]) -> None:
        """A store that sees no more changes is of no use: who waits for `failed` opens it anew."""
        error = None if following.cancelled() else following.exception()
        if error is not None and not self._replaced.done():
            _log.error("etcd at %s can't be followed", self._client.address, exc_info=error)
            self._replaced.set_result(MediumFailed(f"etcd at {self._client.address} can't be followed: {error}"))

    async def _follow(self) -> None:
        while True:
            try:
                await self._take_in()
            except StoreUnavailable as error:
                if self._trouble is None:
                    _log.warning("%s", error)
                self._trouble = error
                await asyncio.sleep(_PAUSE)
            except HistoryGoneError:
                await self._skip_or_reload()
            except StrangerError as error:
                _log.warning("etcd at %s: %s; reading everything anew", self._client.address, error)
                await self._try_reload()

    async def _take_in(self) -> None:
        async with aclosing(changes(self._client, self._layout, self._keyspace.revision)) as batches:
            async for batch in batches:
                if self._trouble is not None:
                    _log.warning("etcd at %s answers again", self._client.address)
                    self._trouble = None
                for event in batch:
                    self._publish(change_of(self._layout, self._keyspace, event))
                self._release()

    async def _skip_or_reload(self) -> None:
        """History is gone behind the revision we are at: that is no loss if nothing of ours was in it."""
        try:
            written, now = await last_write(self._client, self._layout)
        except StoreUnavailable as error:
            self._trouble = error
            await asyncio.sleep(_PAUSE)
            return
        if 0 < written <= self._keyspace.revision:
            self._advance(now)
        else:
            await self._try_reload()

    async def _try_reload(self) -> None:
        try:
            await self._reload()
        except StoreUnavailable as error:
            self._trouble = error
            await asyncio.sleep(_PAUSE)

    async def _reload(self) -> None:
        """Replace the keyspace by what etcd has; who watches is cut off and may go on where it was, or list anew."""
        keyspace = await load(self._client, self._layout)
        if keyspace.revision < self._keyspace.revision:
            raise self._back_in_time(keyspace.revision, self._keyspace.revision)
        self._watches.cut_off()
        self._keyspace = keyspace
        self._release()

    # Waiting for a revision

    def _advance(self, revision: int) -> None:
        self._keyspace.advance(revision)
        self._release()

    async def _reach(self, revision: int, seconds: float = PATIENCE) -> None:
        """Wait until memory is at the revision; raises `StoreUnavailable` when it doesn't get there."""
        if self._keyspace.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets += 1
        heapq.heappush(self._waiting, (revision, self._tickets, future))
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            problem = self._trouble or StoreUnavailable(f"etcd at {self._client.address} does not tell of its changes")
            raise problem from None

    async def _reach_anyhow(self, revision: int) -> None:
        """Nobody knows which revisions are ours: wait for a moment, then follow anew from a fresh load."""
        try:
            await self._reach(revision, _UNKNOWN_SECONDS)
        except StoreUnavailable:
            async with self._reloading:
                if self._keyspace.revision >= revision:
                    return
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)
                try:
                    await self._reload()
                finally:
                    self._following = self._followed()

    def _release(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._keyspace.revision:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
