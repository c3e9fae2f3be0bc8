"""The ConfigMap `kube-root-ca.crt` of every namespace: what pods verify the API with.

Made where it is missing, repaired when somebody changes it. Source: pkg/controller/certificates/rootcacertpublisher.
"""

import asyncio

from portway.client.backoff import Backoff
from portway.client.informer import Informer
from portway.client.protocol import Client
from portway.controllers.base import Controller
from portway.controllers.cache import Cache
from portway.controllers.collections import Caches
from portway.controllers.queue import Key
from portway.controllers.settings import ControllerSettings
from portway.kube import objects
from portway.kube.errors import NotFound
from portway.kube.objects import Object

NAME = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
_WORDS = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCAPublisher(Controller):
    """Follows the ConfigMaps of that name by itself, and no others."""

    name = "root-ca-certificate-publisher-controller"
    needs = ("namespaces",)

    def __init__(self, client: Client, caches: Caches, root_ca: str) -> None:
        super().__init__(client, caches)
        self._data = {"ca.crt": root_ca}
        self._published: Cache[Object] = Cache(lambda obj: obj)
        self._informer = Informer(
            client,
            "/api/v1/configmaps",
            self._published.on_event,
            self._published.keys,
            field_selector=f"metadata.name={NAME}",
            backoff=Backoff(cap=2.0),
        )
        caches.namespaces.listen(lambda key, *_: self.queue.add((key[1], NAME)))
        self._published.listen(lambda key, *_: self.queue.add(key))

    @classmethod
    def made(cls, client: Client, caches: Caches, settings: ControllerSettings) -> "RootCAPublisher | None":
        return cls(client, caches, settings.root_ca) if settings.root_ca else None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run(), name=f"{self.name}: configmaps")
            await self._informer.synced.wait()
            await super().run()

    async def sync(self, key: Key) -> None:
        namespace = self.caches.namespaces.get(("", key[0]))
        if namespace is None or objects.deleting(namespace):
            return
        found = self._published.get(key)
        if found is None:
            metadata = {"namespace": key[0], "name": NAME, "annotations": {DESCRIPTION: _WORDS}}
            self._published.put(await self.client.create(self._collection(key), self._map(metadata)))
        elif found.get("data") != self._data or not objects.annotations(found).get(DESCRIPTION):
            annotations = {**objects.annotations(found), DESCRIPTION: _WORDS}
            await self._repair(key, {**found["metadata"], "annotations": annotations})

    async def _repair(self, key: Key, metadata: Object) -> None:
        try:
            self._published.put(await self.client.update(f"{self._collection(key)}/{NAME}", self._map(metadata)))
        except NotFound:
            # Deleted meanwhile; the watch will say so.
            return

    def _map(self, metadata: Object) -> Object:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": self._data}

    def _collection(self, key: Key) -> str:
        return f"/api/v1/namespaces/{key[0]}/configmaps"
