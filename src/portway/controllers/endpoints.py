"""The legacy Endpoints of services that select pods."""

from portway.client.protocol import Client
from portway.controllers import subsets
from portway.controllers.base import Controller
from portway.controllers.collections import Caches, Writer
from portway.controllers.endpointslices import follow_pods, selected_pods
from portway.controllers.pods import selector
from portway.controllers.queue import Key
from portway.kube import objects


class EndpointsController(Controller):
    """Keeps Endpoints; those of services without a selector are their makers' and left alone."""

    name = "endpoints-controller"
    needs = ("services", "pods", "endpoints")

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._writer = Writer(client, caches, "endpoints")
        caches.services.listen(lambda key, *_: self.queue.add(key))
        caches.endpoints.listen(lambda key, *_: self.queue.add(key))
        follow_pods(caches, self.queue)

    async def sync(self, key: Key) -> None:
        service, old = self.caches.services.get(key), self.caches.endpoints.get(key)
        if service is None or (service.get("spec") or {}).get("type") == "ExternalName":
            # The API removes Endpoints with their service. What was written at that very moment is still there; what
            # somebody made by hand, perhaps before the service, is not ours to remove. A name elsewhere has none: those
            # of before would be shown for ever.
            if old is not None and objects.labels(old).get(subsets.MANAGED_BY) == subsets.ENDPOINTS_BY:
                await self._writer.delete(old)
        elif selector(service):
            new = subsets.endpoints(service, selected_pods(self.caches, service), old)
            if old is None:
                await self._writer.create(new)
            elif subsets.differ(old, new):
                await self._writer.update(new)
