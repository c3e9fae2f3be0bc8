"""ClusterView: what a gateway worker knows of the cluster, kept up to date by informers. Re-exports the records.

`state` holds it, `informer` follows each kind, `confirm` asks about single objects. Without `start` it is plain state
that `apply` feeds: tests and tools use it so. When the API goes away the view stays, says so (`connected`), and
catches up. Who may not read everything follows some namespaces, or learns (`forbidden`) that it must ask.
"""

import asyncio
import time
from collections.abc import Iterable
from functools import partial

from portway.client.backoff import Backoff
from portway.client.confirm import Confirmer
from portway.client.informer import Informer
from portway.client.protocol import ListWatcher
from portway.client.records import (
    Endpoint,
    EndpointMap,
    Node,
    Pod,
    Service,
    ServiceAccount,
    ServicePort,
)
from portway.client.state import ClusterState

__all__ = ["PATHS", "ClusterView", "Endpoint", "EndpointMap", "Node", "Pod", "Service", "ServiceAccount", "ServicePort"]

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_NETWORKING = "/apis/networking.k8s.io/v1"
ROUTED = ("services", "endpointslices", "pods")
"""What a door needs that neither identifies nor decides: where services are."""
PATHS = {
    "pods": "/api/v1/pods",
    "services": "/api/v1/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "nodes": "/api/v1/nodes",
    "namespaces": "/api/v1/namespaces",
    "serviceaccounts": "/api/v1/serviceaccounts",
    "ingresses": f"{_NETWORKING}/ingresses",
    "ingressclasses": f"{_NETWORKING}/ingressclasses",
    "roles": f"{_RBAC}/roles",
    "rolebindings": f"{_RBAC}/rolebindings",
    "clusterroles": f"{_RBAC}/clusterroles",
    "clusterrolebindings": f"{_RBAC}/clusterrolebindings",
}
"""The collections that a view follows, over all namespaces, by plural."""
CLUSTER_SCOPED = ("nodes", "namespaces", "ingressclasses", "clusterroles", "clusterrolebindings")

Collection = tuple[str, str]
"""(plural, namespace); "" for all namespaces, or for what has none."""

SECRET_SECONDS = 10.0
"""Secrets are not watched (their content is none of the door's business): a uid once asked for is believed so long."""


def collection_path(plural: str, namespace: str = "") -> str:
    """Where a followed kind is listed, in one namespace or in all."""
    root, _, _ = PATHS[plural].rpartition("/")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else PATHS[plural]


class ClusterView(ClusterState):
    """The door's picture of the cluster. One per worker, on its event loop."""

    def __init__(self, namespaces: tuple[str, ...] = (), kinds: Iterable[str] | None = None) -> None:
        """`kinds`: plurals of PATHS; None for all of them."""
        super().__init__()
        self.followed = namespaces
        """The namespaces to follow; () = all. Objects of others are known only where they were confirmed."""
        self._kinds = tuple(PATHS if kinds is None else kinds)
        self.task: asyncio.Task[None] | None = None
        """What follows the cluster while started. It ends by itself only through a bug: its owner should watch it."""
        self._informers: dict[Collection, Informer] = {}
        self._client: ListWatcher | None = None
        self._confirmer: Confirmer | None = None
        self._secrets: dict[tuple[str, str], tuple[str, float]] = {}

    @property
    def synced(self) -> bool:
        """Whether every kind that may be read has been listed once: before that, absence means nothing.

        Of what is `forbidden` absence never means anything; `confirm_*` may still find it.
        """
        return bool(self._informers) and all(informer.settled.is_set() for informer in self._informers.values())

    @property
    def forbidden(self) -> tuple[Collection, ...]:
        """What may not be read (403) or isn't served (404), as (plural, namespace or "" for all), sorted.

        It may become allowed later. What was known of it stays, unfollowed: whoever decides by roles and bindings must
        look here.
        """
        return tuple(sorted(key for key, informer in self._informers.items() if informer.forbidden))

    @property
    def connected(self) -> bool:
        """Whether the API answered the last time each kind was asked about. 403 is an answer, until it takes back what
        was allowed before.
        """
        return bool(self._informers) and all(
            informer.connected or (informer.forbidden and not informer.synced.is_set())
            for informer in self._informers.values()
        )

    @property
    def last_contact(self) -> float:
        """When the API was last heard, unix seconds; 0 = never. A quiet API speaks about once a minute."""
        return max((informer.last_contact for informer in self._informers.values()), default=0.0)

    async def start(self, client: ListWatcher, *, retry_cap: float = 30.0) -> None:
        """Begin to follow the cluster; returns at once, see `wait_synced`. The client stays the caller's to close.

        `retry_cap`: longest wait between attempts to reach the API, in seconds (2 is right for a local socket).
        """
        self._client = client
        self._informers = {
            (plural, namespace): Informer(
                client,
                collection_path(plural, namespace),
                partial(self.apply, plural),
                partial(self._keys_in, plural, namespace),
                backoff=Backoff(cap=retry_cap),
            )
            for plural in self._kinds
            for namespace in (("",) if plural in CLUSTER_SCOPED else self.followed or ("",))
        }
        self._confirmer = Confirmer(self, client, self.resource_version)
        self.task = asyncio.create_task(self._follow(), name="cluster view")

    async def stop(self) -> None:
        """Follow no longer. What is known stays."""
        if self._confirmer is not None:
            await self._confirmer.close()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.task = self._confirmer = self._client = None
        self._informers = {}

    async def wait_synced(self) -> None:
        """Until every kind has been listed once, or was forbidden."""
        for informer in self._informers.values():
            await informer.settled.wait()

    def resource_version(self, plural: str, namespace: str) -> str | None:
        """Up to where a kind is known in a namespace; "" while it is being listed, None where it isn't followed."""
        informer = self._informers.get((plural, "")) or self._informers.get((plural, namespace))
        return None if informer is None or informer.forbidden else informer.resource_version

    def _keys_in(self, plural: str, namespace: str) -> list[tuple[str, str]]:
        keys = self.keys(plural)
        return [key for key in keys if key[0] == namespace] if namespace else list(keys)

    async def _follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            for (plural, namespace), informer in self._informers.items():
                group.create_task(informer.run(), name=f"informer {plural} {namespace}".rstrip())

    # Asking the API. Without a client, or when it does not answer, these say what the view says.

    async def confirm_service(self, namespace: str, name: str) -> Service | None:
        """Ask about a service and its EndpointSlices; the view is right about both afterwards."""
        if self._confirmer is not None:
            await self._confirmer.service(namespace, name)
        return self.service(namespace, name)

    async def confirm_pod(self, namespace: str, name: str) -> Pod | None:
        await self._confirm("pods", namespace, name)
        return self.pod(namespace, name)

    async def confirm_node(self, name: str) -> Node | None:
        await self._confirm("nodes", "", name)
        return self.node(name)

    async def confirm_service_account(self, namespace: str, name: str) -> ServiceAccount | None:
        await self._confirm("serviceaccounts", namespace, name)
        return self.service_account(namespace, name)

    def secret_uid(self, namespace: str, name: str) -> str | None:
        """The uid of a Secret that `confirm_secret` found lately; None when that is not known."""
        uid, until = self._secrets.get((namespace, name), ("", 0.0))
        return uid if time.monotonic() < until else None

    async def confirm_secret(self, namespace: str, name: str) -> str | None:
        """Ask whether a Secret exists; its uid. Nothing of its content is kept."""
        self._secrets = {key: known for key, known in self._secrets.items() if time.monotonic() < known[1]}
        if self._confirmer is not None:
            uid = await self._confirmer.uid("secrets", namespace, name)
            if uid is not None:
                self._secrets[namespace, name] = uid, time.monotonic() + SECRET_SECONDS
        return self.secret_uid(namespace, name)

    async def _confirm(self, plural: str, namespace: str, name: str) -> None:
        if self._confirmer is not None:
            await self._confirmer.object(plural, namespace, name)
