"""The kinds that controllers read and write: where they are in the API, what is kept of each, how they are written."""

from collections.abc import Hashable, Iterable
from typing import Any

from portway.client.protocol import Client
from portway.controllers.cache import Cache
from portway.controllers.desired import SERVICE_NAME
from portway.controllers.pods import PodFacts, pod_facts, pod_indexes, service_indexes
from portway.kube import objects
from portway.kube.errors import NotFound
from portway.kube.objects import Object

Key = tuple[str, str]
ADDRESS_BY, ADDRESSES_BY = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
ZONE = "topology.kubernetes.io/zone"


def _whole(obj: Object) -> Object:
    """Without what nobody reads: managedFields are often the larger half of an object."""
    obj["metadata"].pop("managedFields", None)
    return obj


def _zone(node: Object) -> str:
    return str(objects.labels(node).get(ZONE, ""))


def _address(obj: Object) -> tuple[str, bool]:
    return objects.name(obj), objects.labels(obj).get(ADDRESS_BY) == ADDRESSES_BY


def _slice_indexes(one: Object) -> Iterable[Hashable]:
    """A slice is found by the key of its service."""
    service = objects.labels(one).get(SERVICE_NAME)
    if service:
        yield objects.namespace(one), service


class Caches:
    """What the controllers know; one cache a kind, shared. The attributes are named by the kinds' plurals."""

    def __init__(self) -> None:
        self.services: Cache[Object] = Cache(_whole, service_indexes)
        self.pods: Cache[PodFacts] = Cache(pod_facts, pod_indexes)
        self.nodes: Cache[str] = Cache(_zone)
        """Only each node's zone, "" when it says none."""
        self.endpoints: Cache[Object] = Cache(_whole)
        self.endpointslices: Cache[Object] = Cache(_whole, _slice_indexes)
        self.namespaces: Cache[Object] = Cache(_whole)
        self.serviceaccounts: Cache[Object] = Cache(_whole)
        self.certificatesigningrequests: Cache[Object] = Cache(_whole)
        self.clusterroles: Cache[Object] = Cache(_whole)
        self.servicecidrs: Cache[Object] = Cache(_whole)
        self.ingresses: Cache[Object] = Cache(_whole)
        self.ingressclasses: Cache[Object] = Cache(_whole)
        self.ipaddresses: Cache[tuple[str, bool]] = Cache(_address)
        """Each address, and whether an allocator took it for a service."""


GROUPS = {
    "services": "/api/v1",
    "pods": "/api/v1",
    "nodes": "/api/v1",
    "endpoints": "/api/v1",
    "namespaces": "/api/v1",
    "serviceaccounts": "/api/v1",
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "certificatesigningrequests": "/apis/certificates.k8s.io/v1",
    "clusterroles": "/apis/rbac.authorization.k8s.io/v1",
    "servicecidrs": "/apis/networking.k8s.io/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
    "ingressclasses": "/apis/networking.k8s.io/v1",
    "ipaddresses": "/apis/networking.k8s.io/v1",
}
"""Where the collections are, by plural."""


class Writer:
    """Writes one kind, and puts the answers into its cache at once. Raises what the client raises."""

    def __init__(self, client: Client, caches: Caches, plural: str) -> None:
        self._client, self._plural = client, plural
        self._cache: Cache[Any] = getattr(caches, plural)

    async def create(self, obj: Object) -> None:
        self._cache.put(await self._client.create(self._collection(obj), obj))

    async def update(self, obj: Object) -> None:
        """Replace an object; its resourceVersion must still be the stored one, else Conflict."""
        await self._put(self._path(obj), obj)

    async def update_status(self, obj: Object) -> None:
        """Replace an object's status, in the same way."""
        await self._put(f"{self._path(obj)}/status", obj)

    async def _put(self, path: str, obj: Object) -> None:
        try:
            stored = await self._client.update(path, obj)
            # Who takes the last finalizer off what is being deleted gets its last state: it is gone.
            gone = objects.deleting(stored) and not stored["metadata"].get("finalizers")
            (self._cache.drop if gone else self._cache.put)(stored)
        except NotFound:
            self._cache.drop({"metadata": {"namespace": objects.namespace(obj), "name": objects.name(obj)}})
            raise

    async def delete(self, obj: Object) -> None:
        """Delete this very object, not a later one by its name. That it is gone already is fine."""
        try:
            await self._client.delete(self._path(obj), {"preconditions": {"uid": objects.uid(obj)}})
        except NotFound:
            pass
        self._cache.drop({"metadata": {"namespace": objects.namespace(obj), "name": objects.name(obj)}})

    def _collection(self, obj: Object) -> str:
        namespace = objects.namespace(obj)
        return f"{GROUPS[self._plural]}{f'/namespaces/{namespace}' if namespace else ''}/{self._plural}"

    def _path(self, obj: Object) -> str:
        return f"{self._collection(obj)}/{objects.name(obj)}"
