"""ServiceCIDRs: ready when they are made, held while an address of theirs is in use.

Source: pkg/controller/servicecidrs, as facts.
"""

import ipaddress
import time
from collections.abc import Iterable

from portway.client.protocol import Client
from portway.controllers.base import Controller
from portway.controllers.collections import Caches, Writer
from portway.controllers.queue import Key
from portway.kube import objects
from portway.kube.objects import Object

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
READY_MESSAGE = "Kubernetes Service CIDR is ready"
IN_USE_MESSAGE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
)
GRACE = 10.0
"""Seconds from a deletion to the last address that a server which hasn't heard of it may have taken."""


def networks_of(service_cidr: Object) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The ranges of a ServiceCIDR."""
    return [ipaddress.ip_network(cidr) for cidr in service_cidr["spec"].get("cidrs") or ()]


def is_needed(service_cidr: Object, others: Iterable[Object], addresses: Iterable[str]) -> bool:
    """Whether an address is in use that would be in no range without this one. `others` without those being deleted."""
    own = networks_of(service_cidr)
    rest = [network for other in others for network in networks_of(other)]
    for address in map(ipaddress.ip_address, addresses):
        if any(address in network for network in own) and not any(address in network for network in rest):
            return True
    return False


class ServiceCidrController(Controller):
    """Keeps the finalizer and the condition Ready of every ServiceCIDR."""

    name = "service-cidr-controller"
    needs = ("servicecidrs", "ipaddresses")
    grace = GRACE

    def __init__(self, client: Client, caches: Caches) -> None:
        super().__init__(client, caches)
        self._writer = Writer(client, caches, "servicecidrs")
        caches.servicecidrs.listen(lambda *_: self._look_again())
        caches.ipaddresses.listen(lambda *_: self._look_again(deleting=True))

    def _look_again(self, *, deleting: bool = False) -> None:
        """There are few of them, and each may be what another waits for."""
        for one in self.caches.servicecidrs.values():
            if objects.deleting(one) or not deleting:
                self.queue.add(objects.key(one))

    async def sync(self, key: Key) -> None:
        found = self.caches.servicecidrs.get(key)
        if found is None:
            return
        finalizers = found["metadata"].get("finalizers") or []
        if objects.deleting(found):
            await self._let_go(key, found, finalizers)
        elif FINALIZER not in finalizers:
            await self._write(found, [*finalizers, FINALIZER])
        else:
            await self._say(found, "True", "", READY_MESSAGE)

    async def _let_go(self, key: Key, found: Object, finalizers: list[str]) -> None:
        others = [one for one in self.caches.servicecidrs.values() if not objects.deleting(one)]
        addresses = [name for name, allocated in self.caches.ipaddresses.values() if allocated]
        if is_needed(found, others, addresses):
            await self._say(found, "False", "Terminating", IN_USE_MESSAGE)
            return
        left = self.grace - (time.time() - objects.from_rfc3339(found["metadata"]["deletionTimestamp"]))
        if left > 0:
            self.queue.retry(key, left)
        elif FINALIZER in finalizers:
            await self._write(found, [one for one in finalizers if one != FINALIZER])

    async def _say(self, found: Object, status: str, reason: str, message: str) -> None:
        """Writes the condition, if it says another thing now."""
        conditions = (found.get("status") or {}).get("conditions") or []
        said = {"type": "Ready", "status": status, "reason": reason, "message": message}
        if any(said.items() <= one.items() for one in conditions):
            return
        rest = [one for one in conditions if one.get("type") != "Ready"]
        changed = said | {"lastTransitionTime": objects.now_rfc3339()}
        await self._writer.update_status({**_whole(found), "status": {"conditions": [*rest, changed]}})

    async def _write(self, found: Object, finalizers: list[str]) -> None:
        await self._writer.update({**_whole(found), "metadata": found["metadata"] | {"finalizers": finalizers}})


def _whole(found: Object) -> Object:
    """An object from a list doesn't say what it is."""
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"} | found
