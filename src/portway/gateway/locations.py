"""Locations that were found lately, ready to be used again: endpoint objects, trust, and the moment they stop being
true.

The router says where a target is; this keeps the answer until the view says that something it rests on has changed,
confirms misses with the API, fetches the CA bundles that services ask for and resolves the names that must be names.
"""

import asyncio
import socket
from typing import Final

from portway.client.api import ApiClient
from portway.client.view import ClusterView
from portway.gateway.routing import Location, Router
from portway.gateway.upstream import trust
from portway.gateway.upstream.addresses import AddressPolicy
from portway.gateway.upstream.endpoint import Endpoint
from portway.gateway.upstream.reach import Places, Reach
from portway.kube.errors import BadRequest, ServiceUnavailable, StatusError
from portway.kube.proxyurl import TargetId

KEPT: Final = 20000
"""Locations remembered in one worker."""
RESOLVED: Final = 10.0
"""Seconds that a resolved name, or the trust of a service, is used before it is looked up again."""
SETTLE: Final = 5
"""Times that a location which changes while it is being prepared is prepared anew."""
PODS_ASKED: Final = 16
"""Pods behind one service that are confirmed for one miss."""


class Located:
    """A location with its endpoints. `stale` once it must be found again; `through` when only the API server reaches
    it.
    """

    __slots__ = ("endpoints", "expires", "location", "stale", "through")

    def __init__(self, location: Location, endpoints: tuple[Endpoint, ...], expires: float) -> None:
        self.location = location
        self.endpoints = endpoints
        self.expires = expires
        self.stale = False
        self.through = not endpoints


class Unsure(Exception):  # noqa: N818 - a signal, not an error
    """It can't be said without asking; `problem` is what would be answered."""

    def __init__(self, problem: StatusError | None) -> None:
        super().__init__()
        self.problem = problem


class Locations:
    """The cache. Lives on one event loop."""

    def __init__(
        self,
        view: ClusterView,
        client: ApiClient,
        router: Router,
        policy: AddressPolicy,
        reach: Reach,
        kubelet_ca: str = "",
    ) -> None:
        """`kubelet_ca` is the PEM bundle that nodes' agents are verified with; empty = not at all, as upstream."""
        self._view = view
        self._client = client
        self._router = router
        self._policy = policy
        self._reach = reach
        self._unverified = trust.unverified()
        self._kubelet_ca = kubelet_ca
        self._known: dict[tuple[str, str, TargetId], Located] = {}
        self._watching: dict[tuple[str, str, str], set[Located]] = {}
        self._nodes: dict[str, trust.Trust] = {}
        self._trusted: dict[tuple[str, ...], tuple[float, trust.Trust]] = {}
        view.subscribe(self._changed)

    def named(self, namespace: str, name: str, port: str) -> TargetId:
        """See Router.named."""
        return self._router.named(namespace, name, port)

    def find(self, resource: str, namespace: str, target: TargetId, now: float) -> Located:
        """The location at once, or Unsure: then `ask` and try again. StatusErrors that asking can't mend are raised
        as such.
        """
        key = (resource, namespace, target)
        known = self._known.get(key)
        if known is not None and not known.stale and known.expires > now:
            return known
        try:
            location = self._router.locate(resource, namespace, target)
        except StatusError as problem:
            raise Unsure(problem) from None
        if location.host or (location.tls and location.service is not None and trust.reference(location.service)):
            raise Unsure(None)
        return self._keep(key, location, location.addresses, self._plain_trust(location), float("inf"))

    async def ask(self, resource: str, namespace: str, target: TargetId, now: float) -> Located:
        """The same with the API's word for it. Raises StatusError."""
        await self._confirm(resource, namespace, target.name)
        location = self._router.locate(resource, namespace, target)
        for _ in range(SETTLE):
            addresses, trusted, expires = await self._prepared(location, now)
            settled = self._router.locate(resource, namespace, target)
            if settled == location:
                break
            location = settled  # it changed while we asked, and nobody was watching for us yet
        else:
            raise ServiceUnavailable("the target changes faster than it can be found", retry_after=1)
        return self._keep((resource, namespace, target), location, addresses, trusted, expires)

    async def _prepared(
        self, location: Location, now: float
    ) -> tuple[tuple[tuple[str, int], ...], trust.Trust | None, float]:
        """Addresses, trust, and how long both are good for."""
        addresses = location.addresses
        expires = float("inf")
        if location.host:
            addresses = await self._resolve(location.host, location.port)
            expires = now + RESOLVED
        trusted = self._plain_trust(location)
        if location.tls and location.service is not None and trust.reference(location.service):
            trusted = await self._trust(location)
            expires = now + RESOLVED
        return addresses, trusted, expires

    async def _confirm(self, resource: str, namespace: str, name: str) -> None:
        view = self._view
        if resource == "pods":
            await view.confirm_pod(namespace, name)
        elif resource == "nodes":
            await view.confirm_node(name)
        elif await view.confirm_service(namespace, name) is not None:
            behind = view.endpoints(namespace, name) or {}
            pods = {a.pod for addresses in behind.values() for a in addresses if a.pod and a.pod_namespace == namespace}
            missing = [pod for pod in sorted(pods) if not (known := view.pod(namespace, pod)) or not known.ips]
            await asyncio.gather(*(view.confirm_pod(namespace, pod) for pod in missing[:PODS_ASKED]))

    def _plain_trust(self, location: Location) -> trust.Trust | None:
        """What needs no question: nothing without TLS, nobody in particular for pods, the operator's word for nodes."""
        if not location.tls:
            return None
        if not (location.kubelet and self._kubelet_ca):
            return self._unverified
        name = location.host or location.addresses[0][0]
        known = self._nodes.get(name)
        if known is None:
            if len(self._nodes) >= KEPT:
                self._nodes.clear()
            known = self._nodes[name] = trust.verified(self._kubelet_ca, name)
        return known

    async def _resolve(self, host: str, port: int) -> tuple[tuple[str, int], ...]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise BadRequest(f"lookup {host}: {error}") from error
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses:
            raise BadRequest("no addresses for hostname")
        if not all(self._policy.allows(a) for a in addresses):
            raise BadRequest("address not allowed")
        return tuple((a, port) for a in addresses)

    async def _trust(self, location: Location) -> trust.Trust:
        service = location.service
        wanted = trust.reference(service) if service is not None else None
        if service is None or wanted is None:
            return self._unverified
        plural, name, key = wanted
        expected = trust.server_name(service)
        cached = (service.namespace, plural, name, key, expected)
        now = asyncio.get_running_loop().time()
        known = self._trusted.get(cached)
        if known is not None and known[0] > now:
            return known[1]
        try:
            value = await self._client.get(f"/api/v1/namespaces/{service.namespace}/{plural}/{name}")
        except StatusError as error:
            raise ServiceUnavailable(
                f'the CA bundle for service "{service.name}" ({plural}/{name}) cannot be read: {error.message}'
            ) from error
        found = trust.from_object(plural, value, key, expected)
        if known is not None and known[1].bundle == found.bundle:
            found = known[1]  # a new context would be a new endpoint, without the connections of the old one
        if len(self._trusted) >= KEPT:
            self._trusted.clear()
        self._trusted[cached] = now + trust.REFRESH, found
        return found

    def _keep(
        self,
        key: tuple[str, str, TargetId],
        location: Location,
        addresses: tuple[tuple[str, int], ...],
        trusted: trust.Trust | None,
        expires: float,
    ) -> Located:
        endpoints = self._reach.endpoints(Places(key[1], addresses, location.pods, trusted))
        replaced = self._known.get(key)
        if replaced is not None:
            self._unwatch(replaced)  # it would be kept, and its endpoints and TLS contexts, until the service changes
        if len(self._known) >= KEPT:
            self._forget_all()
        located = self._known[key] = Located(location, endpoints, expires)
        for watched in location.watched:
            self._watching.setdefault(watched, set()).add(located)
        return located

    @property
    def reach(self) -> Reach:
        """The way that is used now."""
        return self._reach

    @reach.setter
    def reach(self, reach: Reach) -> None:
        if reach is not self._reach:
            self._reach = reach
            self._forget_all()

    def _forget_all(self) -> None:
        for located in self._known.values():
            located.stale = True
        self._known.clear()
        self._watching.clear()

    def _changed(self, plural: str, namespace: str, name: str) -> None:
        for located in self._watching.pop((plural, namespace, name), ()):
            located.stale = True
            self._unwatch(located)

    def _unwatch(self, located: Located) -> None:
        for watched in located.location.watched:
            others = self._watching.get(watched)
            if others is not None:
                others.discard(located)
                if not others:
                    del self._watching[watched]
