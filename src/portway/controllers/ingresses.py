"""What Ingresses are told about how the door serves them: its addresses in their status, and Events about what isn't.

Serving is the gateway's (`gateway.ingresses`); that both say the same is `kube.ingresses.plan`'s doing. Every change is
looked at as a whole, because an Ingress may get a host that another one gave up, and then each Ingress whose status is
to be another is written.
"""

from typing import Any

from portway.client.protocol import Client
from portway.client.recorder import Recorder
from portway.controllers.base import Controller
from portway.controllers.collections import Caches, Writer
from portway.controllers.queue import Key
from portway.controllers.settings import ControllerSettings
from portway.kube.ingresses import Plan, ingress, ingress_class, plan
from portway.kube.ingresshosts import IngressHosts
from portway.kube.objects import Object

ALL: Key = "", ""
"""The key that stands for looking at everything."""
DOORS: Key = "default", "kubernetes"
"""Whose endpoints the doors are."""


def points(endpoints: Object | None) -> list[Object]:
    """Where the doors are, as `status.loadBalancer.ingress` says it; `endpoints` are default/kubernetes'."""
    return [
        {"ip": address["ip"], "ports": [{"port": one["port"], "protocol": "TCP"} for one in subset.get("ports") or ()]}
        for subset in (endpoints or {}).get("subsets") or ()
        for address in subset.get("addresses") or ()
    ]


def points_of(one: Object) -> list[Object]:
    """What an Ingress's status says."""
    return ((one.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


class IngressController(Controller):
    """Keeps the status of our Ingresses. Of others' it takes back only what was said here."""

    name = "ingress-controller"
    needs = ("ingresses", "ingressclasses", "endpoints")

    def __init__(self, client: Client, caches: Caches, allowed: IngressHosts | None = None) -> None:
        super().__init__(client, caches)
        self._allowed = allowed or IngressHosts()
        self._writer = Writer(client, caches, "ingresses")
        self._recorder = Recorder(client, self.name)
        self._plan = Plan(frozenset(), (), frozenset(), {})
        self._serving: frozenset[Key] = frozenset()
        self._told: dict[Key, tuple[str, ...]] = {}
        caches.ingresses.listen(self._changed)
        caches.ingressclasses.listen(self._changed)
        caches.endpoints.listen(self._moved)

    @classmethod
    def made(cls, client: Client, caches: Caches, settings: ControllerSettings) -> "IngressController | None":
        return cls(client, caches, settings.ingress) if settings.ingress is not None else None

    def _changed(self, _key: Key, _before: Object | None, _after: Object | None) -> None:
        self.queue.add(ALL)

    def _moved(self, key: Key, _before: Object | None, _after: Object | None) -> None:
        if key == DOORS:
            self.queue.add(ALL)

    async def sync(self, key: Key) -> None:
        if key == ALL:
            self._look()
            return
        one = self.caches.ingresses.get(key)
        if one is None:
            return
        wanted = self._wanted(key, one)
        if wanted != points_of(one):
            balancer = {"ingress": wanted} if wanted else {}
            status = {**(one.get("status") or {}), "loadBalancer": balancer}
            await self._writer.update_status({**_reference(one), **one, "status": status})
        await self._tell(key, one)

    def _look(self) -> None:
        held = self.caches.ingresses
        classes = [ingress_class(one) for one in self.caches.ingressclasses.values()]
        self._plan = plan([ingress(one) for one in held.values()], classes, self._allowed)
        self._serving = frozenset(one.key for one, _ in self._plan.served)
        self._told = {key: texts for key, texts in self._told.items() if key in self._plan.problems}
        for key in held.keys():  # noqa: SIM118 - a cache is no dictionary
            one = held.get(key)
            unsaid = self._plan.problems.get(key, ()) != self._told.get(key, ())
            if one is not None and (unsaid or self._wanted(key, one) != points_of(one)):
                self.queue.add(key)

    def _wanted(self, key: Key, one: Object) -> list[Object]:
        """What the status is to say; an address only where something of it is served."""
        ours, said = points(self.caches.endpoints.get(DOORS)), points_of(one)
        if key in self._serving:
            return ours
        return [] if key in self._plan.ours or said == ours else said

    async def _tell(self, key: Key, one: Object) -> None:
        """Says once what is not served."""
        texts = self._plan.problems.get(key, ())
        before, self._told[key] = self._told.get(key, ()), texts
        for text in texts:
            if text not in before:
                await self._recorder.warning(_reference(one), "NotServed", text)


def _reference(one: Object) -> dict[str, Any]:
    """An object from a list doesn't say what it is."""
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": one["metadata"]}
