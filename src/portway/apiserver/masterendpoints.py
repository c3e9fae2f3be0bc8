"""The endpoints of default/kubernetes: where the doors of this cluster are, each added by its own API server.

A server that has its store for itself writes its own address. Servers that share one keep a lease each (a key beside
the kinds, renewed every ten seconds); who hasn't renewed within fifteen is dropped by whoever notices first. Time is
measured here, by when a renewal was seen, so that clocks need not agree. As upstream's lease reconciler:
pkg/controlplane/reconcilers/lease.go (intervals, ports, labels), as facts.

The addresses have no targetRef: the proxy verb refuses them, as upstream's does, and a door never proxies to itself.
"""

from __future__ import annotations

import copy
import ipaddress
import logging
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import takewhile

import orjson

from portway.apiserver.cache import Cache
from portway.apiserver.config import ApiServerConfig
from portway.apiserver.kinds.base import Context, Kind
from portway.apiserver.kinds.endpoints import ENDPOINTS
from portway.apiserver.kinds.endpointslices import ENDPOINT_SLICE
from portway.apiserver.registry import Preconditions, Registry
from portway.kube.errors import AlreadyExists, Conflict, NotFound, StatusError
from portway.kube.objects import Object, now_rfc3339
from portway.storage import KeyExists, KeyMissing, RevisionMismatch, StorageError, Store

LEASES = "/registry/core/masterleases/"
RENEW = 10.0
EXPIRE = 15.0
"""Seconds, as upstream's."""
_NAMESPACE, _NAME = "default", "kubernetes"
_log = logging.getLogger(__name__)

Door = tuple[str, int]
"""(address, port)"""


def own_door(config: ApiServerConfig) -> Door | None:
    """Returns where this server's door is; None when that is a name, or an address that only says "all of them"."""
    host, _, port = config.advertise_address.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    unfit = address.is_link_local or address.is_unspecified or address.is_multicast
    return None if unfit else (str(address), int(port))


def endpoints(doors: Iterable[Door]) -> Object:
    """Returns the Endpoints of these doors."""
    by_port: dict[int, list[str]] = {}
    for address, port in sorted(set(doors)):
        by_port.setdefault(port, []).append(address)
    subsets = [
        {"addresses": [{"ip": address} for address in addresses], "ports": [_port(port)]}
        for port, addresses in sorted(by_port.items())
    ]
    made: Object = {"kind": "Endpoints", "apiVersion": "v1", "metadata": _metadata(_NAME)}
    made["metadata"]["labels"] = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    return made | ({"subsets": subsets} if subsets else {})


def slices(doors: Iterable[Door]) -> list[Object]:
    """Returns the EndpointSlices of these doors: one for each family and port, the first of them by the usual name."""
    grouped: dict[tuple[int, int], list[str]] = {}
    for address, port in sorted(set(doors)):
        grouped.setdefault((ipaddress.ip_address(address).version, port), []).append(address)
    return [
        {
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": _metadata(_NAME if not i else f"{_NAME}-{version}-{port}")
            | {"labels": {"kubernetes.io/service-name": _NAME}},
            "addressType": f"IPv{version}",
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
            "ports": [_port(port)],
        }
        for i, ((version, port), addresses) in enumerate(sorted(grouped.items()))
    ]


def _port(number: int) -> Object:
    return {"name": "https", "port": number, "protocol": "TCP"}


def _metadata(name: str) -> dict[str, object]:
    return {"name": name, "namespace": _NAMESPACE}


class MasterEndpoints:
    """Keeps them. `once` is to be called every `RENEW` seconds, for a lease that isn't renewed runs out."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        registry: Registry,
        config: ApiServerConfig,
        context: Callable[[str, str, str], Context],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`context(verb, namespace, name)` is that of something which the server does of itself."""
        self._store = store
        self._cache = cache
        self._registry = registry
        self._shared = config.shared_store
        self._own = own_door(config)
        self._context = context
        self._now = now
        self._seen: dict[str, tuple[int, float]] = {}

    async def once(self) -> None:
        """Renews the own lease, drops those that have run out, and writes what follows from the rest."""
        try:
            if self._shared and self._own is not None:
                await self._renew(self._own)
            doors = await self._doors()
            if doors:
                await self._write(doors)
        except (StorageError, StatusError) as error:
            _log.warning("the endpoints of default/kubernetes could not be kept: %s", error)

    async def leave(self) -> None:
        """Takes the own door away, before the server ends; without others to speak for it stays, for the next start."""
        if self._shared and self._own is not None:
            with suppress(StorageError, StatusError):
                with suppress(KeyMissing):
                    await self._store.delete(_lease(self._own))
                await self._cache.current()
                if doors := await self._doors():
                    await self._write(doors)

    async def _renew(self, door: Door) -> None:
        key, spec = _lease(door), {"address": door[0], "port": door[1]}
        metadata = {"name": key.rpartition("/")[2], "renewed": now_rfc3339()}
        value = orjson.dumps({"kind": "MasterLease", "metadata": metadata, "spec": spec})
        try:
            revision = await self._store.create(key, value)
        except KeyExists as error:
            revision = await self._store.update(key, value, error.current.mod_revision)
        await self._cache.wait(revision)

    async def _doors(self) -> set[Door]:
        if not self._shared:
            return {self._own} if self._own else set()
        live = set()
        for entry in list(self._cache.shelf(LEASES).scan()):
            revision, since = self._seen.get(entry.key, (0, 0.0))
            if revision != entry.revision:
                since = self._now()
                self._seen[entry.key] = entry.revision, since
            if self._now() - since > EXPIRE:
                with suppress(KeyMissing, RevisionMismatch):
                    await self._store.delete(entry.key, entry.revision)
                self._seen.pop(entry.key, None)
            else:
                live.add((entry.obj["spec"]["address"], entry.obj["spec"]["port"]))
        return live

    async def _write(self, doors: set[Door]) -> None:
        wanted = slices(doors)
        await self._ensure(ENDPOINTS, endpoints(doors))
        for one in wanted:
            await self._ensure(ENDPOINT_SLICE, one)
        kept = {one["metadata"]["name"] for one in wanted}
        inside, first = (ENDPOINT_SLICE.key(_NAMESPACE, name) for name in ("", _NAME))
        behind = self._cache.shelf(ENDPOINT_SLICE.prefix).scan(inside, first)
        for entry in list(takewhile(lambda entry: entry.name.startswith(_NAME), behind)):
            if entry.name not in kept and _OWN.fullmatch(entry.name):
                with suppress(NotFound, Conflict):
                    ctx = self._context("delete", _NAMESPACE, entry.name)
                    await self._registry.delete(ENDPOINT_SLICE, ctx, Preconditions())

    async def _ensure(self, kind: Kind, wanted: Object) -> None:
        """Creates an object, or gives it the parts that it should have; its other metadata stays."""
        name = wanted["metadata"]["name"]
        found = self._cache.shelf(kind.prefix).get(kind.key(_NAMESPACE, name))

        async def change(old: Object) -> Object:
            new = copy.deepcopy(old) | {key: copy.deepcopy(wanted[key]) for key in wanted if key != "metadata"}
            for part in set(_PARTS) - set(wanted):
                new.pop(part, None)
            new["metadata"]["labels"] = {**(new["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]}
            return new

        with suppress(AlreadyExists, NotFound):  # another server was faster: the next look puts right what is left
            if found is None:
                await self._registry.create(kind, copy.deepcopy(wanted), self._context("create", _NAMESPACE, ""))
            elif found.obj.get("addressType") != wanted.get("addressType"):
                await self._registry.delete(kind, self._context("delete", _NAMESPACE, name), Preconditions())
                await self._registry.create(kind, copy.deepcopy(wanted), self._context("create", _NAMESPACE, ""))
            else:
                await self._registry.update(kind, change, self._context("update", _NAMESPACE, name))


_PARTS = ("subsets", "endpoints", "ports")


def _lease(door: Door) -> str:
    return f"{LEASES}{door[0]}:{door[1]}"


_OWN = re.compile(rf"{_NAME}(-[46]-\d+)?")
"""The names of our slices."""
