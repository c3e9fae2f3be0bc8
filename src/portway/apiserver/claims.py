"""Who holds which cluster address and node port, kept in the store: one key each, and a create decides.

An address is an IPAddress object, as upstream's. A node port is a key of its own beside the kinds, not a bit of one
bitmap as upstream's: servers that take different ports don't get into each other's way, and what a crash leaves behind
says whose it was. Nobody can read or write those through the API.

Who takes what is `allocator`'s; `repair` brings claims and services together again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import orjson

from portway.apiserver import metadata
from portway.apiserver.allocator import Claims, Held, family_of
from portway.apiserver.cache import Cache
from portway.apiserver.entries import Entry
from portway.apiserver.kinds.base import Context, Lookup
from portway.apiserver.kinds.serviceranges import IP_ADDRESS
from portway.apiserver.namespaces import held as held_by_finalizers
from portway.apiserver.registry import Preconditions, Registry, encode
from portway.kube.errors import Conflict, NotFound, StatusError
from portway.kube.objects import Object, deleting, now_rfc3339
from portway.storage import KeyExists, KeyMissing, RevisionMismatch, StorageError, Store

PORTS = "/registry/core/servicenodeports/"
"""The prefix of the claims on node ports."""
CLAIMS = (IP_ADDRESS.prefix, PORTS)
"""The prefixes of all claims."""
PORT = "ServiceNodePort"
"""The `kind` of the claims on node ports."""
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
_FAMILY = "ipaddress.kubernetes.io/ip-family"
_log = logging.getLogger(__name__)


def key_of(what: Held) -> str:
    """Returns the key of the claim on an address or a port."""
    return IP_ADDRESS.key("", what) if isinstance(what, str) else f"{PORTS}{what}"


def parent_of(claim: Object) -> tuple[str, str] | None:
    """Returns (namespace, name) of the service that holds what is claimed; None when no service does."""
    parent = (claim.get("spec") or {}).get("parentRef") or {}
    if parent.get("resource") != "services" or parent.get("group"):
        return None
    return parent.get("namespace", ""), parent.get("name", "")


def held_of(claim: Entry) -> Held:
    """Returns what a claim is on."""
    return int(claim.name) if claim.key.startswith(PORTS) else claim.name


def is_allocated(claim: Object) -> bool:
    """Whether an allocator made the claim, not a person."""
    labels = claim["metadata"].get("labels") or {}
    return claim["kind"] == PORT or labels.get(MANAGED_BY) == ALLOCATOR


def ready_ranges(service_cidrs: Iterable[Object]) -> list[str]:
    """Returns the CIDRs that addresses may be taken from, in the order of the ServiceCIDRs.

    One that says nothing of its readiness is ready: nobody may be there to say it.
    """
    return [
        cidr for one in service_cidrs if not deleting(one) and _is_ready(one) for cidr in one["spec"].get("cidrs") or ()
    ]


def _is_ready(service_cidr: Object) -> bool:
    conditions = (service_cidr.get("status") or {}).get("conditions") or ()
    return all(one.get("status") == "True" for one in conditions if one.get("type") == "Ready")


class StoredClaims(Claims):
    """The claims of all servers on one store."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        registry: Registry,
        lookup: Lookup,
        context: Callable[[str, str, str], Context],
    ) -> None:
        """`context(verb, namespace, name)` is that of something which the server does of itself."""
        self._store = store
        self._cache = cache
        self._registry = registry
        self._lookup = lookup
        self._context = context
        self._owners: list[Object] | None = None

    def taken(self, what: Held) -> bool:
        """See `Claims`."""
        return self.find(what) is not None

    def find(self, what: Held) -> Entry | None:
        """Returns the claim on an address or a port, as the cache has it."""
        prefix = IP_ADDRESS.prefix if isinstance(what, str) else PORTS
        return self._cache.shelf(prefix).get(key_of(what))

    def all(self) -> list[tuple[Held, Entry]]:
        """Returns every claim, and on what."""
        return [(held_of(entry), entry) for prefix in CLAIMS for entry in self._cache.shelf(prefix).scan()]

    async def seen(self) -> None:
        """Returns once `find` and `all` know of every write that was finished when this was called."""
        await self._cache.current()

    def ranges(self) -> list[str]:
        """See `Claims`."""
        return ready_ranges(self._lookup.objects("networking.k8s.io", "servicecidrs"))

    async def claim(self, what: Held, service: Object) -> bool:
        """See `Claims`."""
        parent = {"resource": "services", "namespace": service["namespace"], "name": service["name"]}
        try:
            value = self._address(what, parent) if isinstance(what, str) else _port(what, parent)
            await self._store.create(key_of(what), value)
        except KeyExists:
            return False
        return True

    def _address(self, address: str, parent: Mapping[str, str]) -> bytes:
        """An IPAddress as the registry stores it. Whose its fields are is worked out once: it is the same each time."""
        obj, ctx = _address(address, parent), self._context("create", "", address)
        metadata.prepare_create(obj, IP_ADDRESS, "", ctx.now)
        if self._owners is None:
            self._registry.ownership.created(IP_ADDRESS, obj, ctx)
            self._owners = obj["metadata"]["managedFields"]
        obj["metadata"]["managedFields"] = [{**owner, "time": ctx.now} for owner in self._owners]
        return encode(IP_ADDRESS, obj)

    async def release(self, held: Iterable[Held], service: Object) -> None:
        """See `Claims`."""
        await asyncio.gather(*(self._release(what, (service["namespace"], service["name"])) for what in held))

    async def _release(self, what: Held, owner: tuple[str, str]) -> None:
        try:
            found = await self._store.get(key_of(what))
            claim = found and Entry(found.key, found.value, found.mod_revision)
            if claim and parent_of(claim.obj) == owner:
                await self.drop(claim)
        except (StorageError, StatusError) as error:
            _log.warning("%s of service %s/%s could not be given back yet: %s", what, *owner, error)

    async def drop(self, claim: Entry) -> None:
        """Removes a claim, unless it has changed; one that finalizers hold goes when they let go."""
        if held_by_finalizers(IP_ADDRESS, claim.obj):
            wanted = Preconditions(uid=claim.obj["metadata"]["uid"])
            with suppress(NotFound, Conflict):
                await self._registry.delete(IP_ADDRESS, self._context("delete", "", claim.name), wanted)
            return
        with suppress(KeyMissing, RevisionMismatch):
            await self._store.delete(claim.key, claim.revision)


def _address(address: str, parent: Mapping[str, str]) -> Object:
    return {
        "apiVersion": IP_ADDRESS.api_version,
        "kind": IP_ADDRESS.kind,
        "metadata": {"name": address, "labels": {_FAMILY: family_of(address), MANAGED_BY: ALLOCATOR}},
        "spec": {"parentRef": dict(parent)},
    }


def _port(port: int, parent: Mapping[str, str]) -> bytes:
    made = {"name": str(port), "creationTimestamp": now_rfc3339()}
    return orjson.dumps({"kind": PORT, "metadata": made, "spec": {"parentRef": dict(parent)}})
