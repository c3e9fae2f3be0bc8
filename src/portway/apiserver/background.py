"""What the server does besides answering: load, follow, bootstrap, empty namespaces, compact. Owns the tasks.

Start order: the state is loaded and followed first, then the objects that every cluster has are written (the range of
cluster addresses before the service that takes one), and only then is the server ready.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Coroutine
from typing import Any

from portway.apiserver.kinds.base import Bootstrap
from portway.apiserver.masterendpoints import RENEW
from portway.apiserver.server import Server
from portway.kube.errors import AlreadyExists, NotFound, StatusError
from portway.kube.objects import Object
from portway.storage import StorageError

_log = logging.getLogger(__name__)


class Background:
    """The tasks of one running server."""

    def __init__(self, server: Server, bootstrap: Bootstrap | None) -> None:
        self._server = server
        self._bootstrap = bootstrap
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when the server can answer; raises what the store raises."""
        server = self._server
        await server.cache.load()
        self._own(server.cache.run(), "follow the store")
        if self._bootstrap is not None:
            for wanted in self._bootstrap.desired(server.config):
                await self._ensure(self._bootstrap, wanted)
                if wanted["kind"] == "ServiceCIDR":
                    # Before the first address is taken: services of an older database hold some that nobody claimed.
                    await server.repair.once()
            await server.doors.once()
            self._own(self._keep(), "keep default/kubernetes")
        self._own(server.reaper.run(), "empty namespaces")
        self._own(server.repair.run(), "repair addresses and ports")
        if server.config.compaction_seconds:
            self._own(self._compact(), "compact the store")
        server.ready = True

    async def stop(self) -> None:
        """Ends the tasks."""
        self._server.ready = False
        await self._server.doors.leave()
        self._server.cache.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"apiserver: {name}")
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def _ensure(self, bootstrap: Bootstrap, wanted: Object) -> None:
        """Creates an object that must exist, or adds to it what it lacks."""
        server, kind = self._server, self._server.kind_of(wanted)
        namespace, name = wanted["metadata"].get("namespace", ""), wanted["metadata"]["name"]
        existing = server.find(kind.group, kind.plural, namespace, name)
        try:
            if existing is None:
                await server.registry.create(kind, wanted, server.own_context("create", namespace, ""))
                return
            changed = bootstrap.reconcile(existing, wanted)
            if changed is not None:

                async def replacement(_: Object) -> Object:
                    return copy.deepcopy(changed)

                await server.registry.update(kind, replacement, server.own_context("update", namespace, name))
        except (AlreadyExists, NotFound):
            # Somebody else was faster, or the namespace is being deleted: as good as done.
            return
        except StatusError as error:
            _log.warning("%s %s could not be made: %s", kind.kind, name, error)

    async def keep(self) -> None:
        """Sees to it that default/kubernetes and its endpoints are there, and says that this server's door is."""
        if self._bootstrap is None:
            return
        for wanted in self._bootstrap.desired(self._server.config):
            if wanted["kind"] == "Service":
                await self._ensure(self._bootstrap, wanted)
        await self._server.doors.once()

    async def _keep(self) -> None:
        """Somebody will delete all services of the namespace: as upstream's, this one comes back."""
        while True:
            await asyncio.sleep(RENEW)
            try:
                await self.keep()
            except StorageError as error:
                _log.warning("default/kubernetes could not be kept: %s", error)

    async def _compact(self) -> None:
        """Drops the store's history when it is older than one interval; of several servers on it, one does."""
        revision = self._server.store.current_revision()
        while True:
            await asyncio.sleep(self._server.config.compaction_seconds)
            try:
                await self._server.store.latest_revision()
                await self._server.store.compact_in_turn(revision)
            except StorageError as error:
                _log.warning("the store could not be compacted: %s", error)
            revision = self._server.store.current_revision()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s failed", task.get_name(), exc_info=error)
