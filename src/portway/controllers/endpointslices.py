"""EndpointSlices: of services that select pods, and mirrored from hand-made Endpoints of services that don't."""

from portway.client.protocol import Client
from portway.controllers import desired, mirror
from portway.controllers.base import Controller
from portway.controllers.collections import Caches, Writer
from portway.controllers.pods import PodFacts, selector, selects, selects_pods
from portway.controllers.queue import Key, WorkQueue
from portway.controllers.slicing import Plan, plan
from portway.kube import objects
from portway.kube.objects import Object


def selected_pods(caches: Caches, service: Object) -> list[PodFacts]:
    """The pods that a service selects."""
    namespace = objects.namespace(service)
    # The rarest label of the selector has the fewest pods to look through.
    label = min(selector(service).items(), key=lambda pair: caches.pods.count((namespace, *pair)))
    return [pod for pod in caches.pods.under((namespace, *label)) if selects(service, pod)]


def follow_pods(caches: Caches, queue: WorkQueue) -> None:
    """Have the services worked on that select a pod which came, changed or went."""

    def changed(_: Key, before: PodFacts | None, after: PodFacts | None) -> None:
        if before == after:
            return
        for pod in filter(None, (before, after)):
            for label in pod.labels.items():
                for service in caches.services.under((pod.namespace, *label)):
                    if selects(service, pod):
                        queue.add(objects.key(service))

    caches.pods.listen(changed)


def follow_slices(caches: Caches, queue: WorkQueue, manager: str) -> None:
    """Have the service worked on whose slices of one manager came, changed or went, whoever did it."""

    def changed(_: Key, before: Object | None, after: Object | None) -> None:
        for one in filter(None, (before, after)):
            service = objects.labels(one).get(desired.SERVICE_NAME)
            if service and managed_by(one, manager):
                queue.add((objects.namespace(one), service))

    caches.endpointslices.listen(changed)


def managed_by(one: Object, manager: str) -> bool:
    return objects.labels(one).get(desired.MANAGED_BY) == manager


class EndpointSliceController(Controller):
    """Slices of services that select pods."""

    name = "endpointslice-controller"
    needs = ("services", "pods", "nodes", "endpointslices")

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._writer = Writer(client, caches, "endpointslices")
        self._zones: dict[str, str] = {}
        caches.services.listen(lambda key, *_: self.queue.add(key))
        caches.nodes.listen(self._node_changed)
        follow_pods(caches, self.queue)
        follow_slices(caches, self.queue, desired.SLICES_BY)

    async def sync(self, key: Key) -> None:
        existing = [one for one in self.caches.endpointslices.under(key) if managed_by(one, desired.SLICES_BY)]
        service = self.caches.services.get(key)
        if service is None or not selector(service):
            await carry_out(self._writer, Plan(delete=existing))
            return
        pods = selected_pods(self.caches, service)
        wishes = desired.wishes(service, pods, self._zones)
        await carry_out(self._writer, plan(existing, wishes, desired.template(service, pods)), service)

    def _node_changed(self, key: Key, before: str | None, after: str | None) -> None:
        """A node's zone is written into the endpoints on it. It hardly ever changes, so all services are looked at."""
        self._zones[key[1]] = after or ""
        if (before or "") != (after or ""):
            for service in self.caches.services.keys():  # noqa: SIM118 (no dictionary)
                self.queue.add(service)


class EndpointSliceMirroringController(Controller):
    """Slices of services that don't select pods, from the Endpoints that somebody made for them."""

    name = "endpointslice-mirroring-controller"
    needs = ("services", "endpoints", "endpointslices")

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._writer = Writer(client, caches, "endpointslices")
        caches.services.listen(lambda key, *_: self.queue.add(key))
        caches.endpoints.listen(lambda key, *_: self.queue.add(key))
        follow_slices(caches, self.queue, mirror.MIRRORED_BY)

    async def sync(self, key: Key) -> None:
        existing = [one for one in self.caches.endpointslices.under(key) if managed_by(one, mirror.MIRRORED_BY)]
        service, endpoints = self.caches.services.get(key), self.caches.endpoints.get(key)
        if service is None or selects_pods(service) or endpoints is None or not mirror.is_mirrored(endpoints):
            await carry_out(self._writer, Plan(delete=existing))
            return
        todo = plan(existing, mirror.wishes(endpoints), mirror.template(endpoints))
        await carry_out(self._writer, todo, endpoints)


async def carry_out(writer: Writer, todo: Plan, owner: Object | None = None) -> None:
    """Write a plan, in the order in which nobody sees a gap.

    An owner that is being deleted gets nothing new: it may be waiting for the end of what it has, and would for ever.
    """
    for one in [] if owner and objects.deleting(owner) else todo.create:
        await writer.create(one)
    for one in todo.update:
        await writer.update(one)
    for one in todo.delete:
        await writer.delete(one)
