"""What all handlers share: settings, store, cache, registry, router, and the lookups that strategies use.

One `Server` per process. `app` makes it, starts and stops it; handlers get it with each request.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from portway.apiserver.allocator import Allocator, address_range
from portway.apiserver.cache import Cache
from portway.apiserver.claims import CLAIMS, StoredClaims
from portway.apiserver.config import ApiServerConfig
from portway.apiserver.entries import Change, Entry, prefix_of
from portway.apiserver.kinds.base import OWN_NAME, Context, Kind, Services, VirtualResource
from portway.apiserver.kinds.namespaces import FINALIZER, NAMESPACE
from portway.apiserver.masterendpoints import MasterEndpoints
from portway.apiserver.namespaceconditions import conditions
from portway.apiserver.namespaces import Left, Reaper
from portway.apiserver.registry import Preconditions, Registry
from portway.apiserver.repair import Repair
from portway.apiserver.routing import Router, VirtualKey
from portway.kube.errors import Conflict, NotFound
from portway.kube.identity import MASTERS, User
from portway.kube.objects import Object, deleting, now_rfc3339
from portway.kube.rbac import KINDS as RBAC_KINDS
from portway.kube.rbac import RBAC
from portway.storage import Store

SYSTEM = User(OWN_NAME, groups=(MASTERS, "system:authenticated"))
"""Who the server itself is when it writes."""
MANAGER = "kube-apiserver"
"""As what it owns the fields that it writes; upstream's server calls itself so."""


class Server:
    """The running API server, without its HTTP."""

    def __init__(
        self,
        store: Store,
        config: ApiServerConfig,
        kinds: Sequence[Kind],
        virtual: Mapping[VirtualKey, VirtualResource],
    ) -> None:
        self.store = store
        self.config = config
        self.kinds = tuple(kinds)
        self.virtual = dict(virtual)
        self.router = Router(kinds, virtual)
        self.rbac = RBAC()
        self.cache = Cache(store, config.watch_history, self._changed)
        self._stored = {(kind.group, kind.plural): kind for kind in kinds if kind.store_plural is None}
        self._heeded = {kind.prefix: kind.kind for kind in kinds if kind.kind in (*RBAC_KINDS, "Namespace")}
        self.registry = Registry(store, self.cache, self._stored)
        self.claims = claims = StoredClaims(store, self.cache, self.registry, self, self.own_context)
        families = tuple(address_range(cidr).family for cidr in config.service_cidrs)
        self.allocator = Allocator(families, config.service_node_port_range, claims)
        self.repair = Repair(claims, self.allocator, self)
        self.doors = MasterEndpoints(store, self.cache, self.registry, config, self.own_context)
        self.services = Services(config, self.rbac, self.allocator, self, self.kinds)
        self.reaper = Reaper(self.cache, self.kinds, _Acts(self))
        self.ready = False
        self.stopping = False
        self._streams: set[asyncio.Event] = set()

    def _changed(self, change: Change) -> None:
        """Goes by the key, so that kinds that are nothing to the server itself need not be decoded."""
        entry = change.entry
        kind = self._heeded.get(prefix_of(entry.key))
        if kind in RBAC_KINDS:
            self.rbac.set(kind, entry.namespace, entry.name, None if change.type == "DELETED" else entry.obj)
        elif kind == "Namespace":
            if change.type == "DELETED":
                self.reaper.ended(entry.name)
            elif deleting(entry.obj):
                self.reaper.schedule(entry.obj)
        elif entry.key.startswith(CLAIMS):
            self.repair.changed(change)
        if change.type == "ADDED":
            self.reaper.arrived(entry)

    def find(self, group: str, plural: str, namespace: str, name: str) -> Object | None:
        """See `kinds.base.Lookup`."""
        kind = self._stored.get((group, plural))
        entry = kind and self.cache.shelf(kind.prefix).get(kind.key(namespace, name))
        return entry.obj if entry else None

    def objects(self, group: str, plural: str, namespace: str = "") -> Iterable[Object]:
        """See `kinds.base.Lookup`."""
        kind = self._stored.get((group, plural))
        if kind is None:
            return ()
        prefix = f"{kind.prefix}{namespace}/" if namespace else kind.prefix
        return [entry.obj for entry in self.cache.shelf(kind.prefix).scan(prefix)]

    def kind_of(self, obj: Object) -> Kind:
        """Returns the kind of an object; raises KeyError."""
        wanted = (obj["apiVersion"], obj["kind"])
        return {(kind.api_version, kind.kind): kind for kind in self.kinds}[wanted]

    def context(
        self,
        user: User,
        verb: str,
        namespace: str,
        name: str,
        subresource: str = "",
        *,
        dry_run: bool = False,
        manager: str = "",
    ) -> Context:
        """Returns the context of one request."""
        return Context(user, verb, namespace, name, subresource, dry_run, now_rfc3339(), self.services, manager)

    def own_context(self, verb: str, namespace: str, name: str, subresource: str = "") -> Context:
        """Returns the context of something that the server does of itself."""
        return self.context(SYSTEM, verb, namespace, name, subresource, manager=MANAGER)

    def stream_opened(self, wake: asyncio.Event) -> None:
        """Has `wake` set when the server stops, until `stream_closed`."""
        self._streams.add(wake)

    def stream_closed(self, wake: asyncio.Event) -> None:
        """Ends `stream_opened`."""
        self._streams.discard(wake)

    def drain(self) -> None:
        """Ends all watches and says not ready; other requests are still answered."""
        self.stopping = True
        for wake in self._streams:
            wake.set()


class _Acts:
    """What the reaper does, as the server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def delete(self, kind: Kind, entry: Entry) -> None:
        ctx = self._server.own_context("delete", entry.namespace, entry.name)
        with suppress(NotFound, Conflict):
            await self._server.registry.delete(kind, ctx, Preconditions(uid=entry.obj["metadata"]["uid"]))

    async def release(self, namespace: str, uid: str) -> None:
        def released(obj: Object) -> None:
            spec = obj.setdefault("spec", {})
            spec["finalizers"] = [name for name in spec.get("finalizers") or () if name != FINALIZER]

        await self._update(namespace, uid, "finalize", released)

    async def report(self, namespace: str, uid: str, left: Left, failures: list[str]) -> None:
        def reported(obj: Object) -> None:
            status = obj.setdefault("status", {})
            status["conditions"] = conditions(left, failures, status.get("conditions") or (), now_rfc3339())

        await self._update(namespace, uid, "status", reported)

    async def _update(self, namespace: str, uid: str, subresource: str, change: Callable[[Object], None]) -> None:
        async def changed(obj: Object) -> Object:
            new = copy.deepcopy(obj)
            change(new)
            new["metadata"]["uid"] = uid
            return new

        ctx = self._server.own_context("update", "", namespace, subresource)
        with suppress(NotFound, Conflict):
            await self._server.registry.update(NAMESPACE, changed, ctx)
