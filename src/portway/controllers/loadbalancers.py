"""Addresses for Services of type LoadBalancer, out of a pool; whoever listens on them reads the services' status.

Which addresses are taken is what the services' status says, so there is nothing to remember: a restart changes nothing,
and of two services that have got the same address (two controllers, a hand) the older one keeps it. A service that
names a loadBalancerClass is somebody else's. Without a pool they stay pending, as in a cluster without a provider.

Source: k8s.io/cloud-provider/controllers/service (finalizer, events), as facts.
"""

import ipaddress
from collections.abc import Callable
from typing import Any

from portway.client.protocol import Client
from portway.client.recorder import Recorder
from portway.controllers.addresspool import AddressPool
from portway.controllers.base import Controller
from portway.controllers.collections import Caches, Writer
from portway.controllers.pods import families, family
from portway.controllers.queue import Key
from portway.controllers.settings import ControllerSettings
from portway.kube import objects
from portway.kube.objects import Object

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"


class NoAddressError(Exception):
    """A service can't have an address now; the text says why."""


def is_wanted(service: Object) -> bool:
    """Whether a service asks us for addresses."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not objects.deleting(service)


def addresses_of(service: Object) -> list[str]:
    """The addresses that a service's status says it has; none when its type is another."""
    if (service.get("spec") or {}).get("type") != "LoadBalancer":
        return []
    points = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [canonical(point["ip"]) for point in points if point.get("ip")]


def canonical(address: str) -> str:
    """One spelling for each address, or two services could have one IPv6 address; what is no address stays."""
    return str(ipaddress.ip_address(address)) if family(address) else address


Taken = Callable[[str], bool]
"""Whether an address is another service's."""


def choose(service: Object, pool: AddressPool, taken: Taken) -> list[str]:
    """The addresses that a service should have, one a family, in the order of its families.

    What it has, it keeps while it may. Raises NoAddressError.
    """
    spec, held = service["spec"], addresses_of(service)
    wanted = canonical(spec.get("loadBalancerIP") or "")
    if wanted and (family(wanted) not in families(service)):
        raise NoAddressError(f"loadBalancerIP {wanted} is of none of the service's families")
    chosen = []
    for one in families(service):
        if pool.has_family(one):
            mine = wanted if family(wanted) == one else ""
            chosen.append(_one(one, mine, [ip for ip in held if family(ip) == one], pool, taken))
        elif spec.get("ipFamilyPolicy") == "RequireDualStack" or len(families(service)) == 1:
            raise NoAddressError(f"there are no {one} addresses for load balancers")
    return chosen


def _one(wanted_family: str, wanted: str, held: list[str], pool: AddressPool, taken: Taken) -> str:
    if wanted:
        if wanted not in pool:
            raise NoAddressError(f"loadBalancerIP {wanted} is not among the addresses for load balancers")
        if taken(wanted):
            raise NoAddressError(f"loadBalancerIP {wanted} is in use by another service")
        return wanted
    kept = next((ip for ip in held if ip in pool and not taken(ip)), None)
    found = kept or pool.first_free(wanted_family, taken)
    if found is None:
        raise NoAddressError(f"all {wanted_family} addresses for load balancers are in use")
    return found


class ServiceLoadBalancerController(Controller):
    """Gives addresses, and takes them back when the service changes its type or goes."""

    name = "service-lb-controller"
    needs = ("services",)

    def __init__(self, client: Client, caches: Caches, pool: AddressPool | None = None) -> None:
        super().__init__(client, caches)
        self._pool = pool or AddressPool()
        self._writer = Writer(client, caches, "services")
        self._recorder = Recorder(client, self.name)
        self._promised: dict[Key, list[str]] = {}
        """What is being written at this moment: the caches don't show it yet."""
        self._holders: dict[str, set[Key]] = {}
        """Who has an address, as the caches show it."""
        self._waiting: set[Key] = set()
        caches.services.listen(self._changed)

    @classmethod
    def made(cls, client: Client, caches: Caches, settings: ControllerSettings) -> "ServiceLoadBalancerController":
        return cls(client, caches, settings.balancers)

    def _changed(self, key: Key, before: Object | None, after: Object | None) -> None:
        """Who wants addresses is looked at; so is who waits when one comes free, and who has one that another gets."""
        old, new = set(addresses_of(before or {})), set(addresses_of(after or {}))
        for address in old - new:
            self._holders[address].discard(key)
            if not self._holders[address]:
                del self._holders[address]
        for address in new - old:
            holders = self._holders.setdefault(address, set())
            holders.add(key)
            self._look_at(holders)
        if old - new:
            self._look_at(self._waiting)
        if any(one is not None and (is_wanted(one) or _has_finalizer(one)) for one in (before, after)):
            self.queue.add(key)

    def _look_at(self, keys: set[Key]) -> None:
        for key in keys:
            self.queue.add(key)

    async def sync(self, key: Key) -> None:
        service = self.caches.services.get(key)
        self._waiting.discard(key)
        if service is None or (service.get("spec") or {}).get("loadBalancerClass"):
            return
        if not is_wanted(service):
            await self._give_back(service)
        elif self._pool:
            await self._ensure(key, service)

    async def _ensure(self, key: Key, service: Object) -> None:
        # The finalizer first: from then on the address can't be forgotten.
        if not _has_finalizer(service):
            await self._recorder.normal(_reference(service), "EnsuringLoadBalancer", "Ensuring load balancer")
            await self._write(service, finalizers=[*_finalizers(service), FINALIZER])
            return  # the change brings the service here again
        try:
            chosen = choose(service, self._pool, self._taken(key, service))
        except NoAddressError as error:
            self._waiting.add(key)
            await self._set_status(key, service, [])
            text = f"Error syncing load balancer: failed to ensure load balancer: {error}"
            await self._recorder.warning(_reference(service), "SyncLoadBalancerFailed", text)
            return
        if await self._set_status(key, service, chosen):
            await self._recorder.normal(_reference(service), "EnsuredLoadBalancer", "Ensured load balancer")

    def _taken(self, key: Key, service: Object) -> Taken:
        """What is another's. One that a younger service has as well is ours: it is the other that has to give."""

        def taken(address: str) -> bool:
            if any(address in addresses for other, addresses in self._promised.items() if other != key):
                return True
            others = (self.caches.services.get(one) for one in self._holders.get(address, set()) - {key})
            mine = address in addresses_of(service)
            return any(not (mine and is_wanted(other) and _age(other) > _age(service)) for other in others if other)

        return taken

    async def _set_status(self, key: Key, service: Object, addresses: list[str]) -> bool:
        """Writes the addresses into the status; whether there was anything to write."""
        if addresses_of(service) == addresses:
            return False
        balancer = {"ingress": [{"ip": address, "ipMode": "VIP"} for address in addresses]} if addresses else {}
        status = {**(service.get("status") or {}), "loadBalancer": balancer}
        self._promised[key] = addresses
        try:
            await self._writer.update_status({**_whole(service), "status": status})
        finally:
            del self._promised[key]
        return True

    async def _give_back(self, service: Object) -> None:
        """The API has cleared the status when the type changed; what remains is to let go."""
        if not _has_finalizer(service):
            return
        await self._recorder.normal(_reference(service), "DeletingLoadBalancer", "Deleting load balancer")
        await self._write(service, finalizers=[one for one in _finalizers(service) if one != FINALIZER])
        await self._recorder.normal(_reference(service), "DeletedLoadBalancer", "Deleted load balancer")

    async def _write(self, service: Object, finalizers: list[str]) -> None:
        await self._writer.update({**_whole(service), "metadata": service["metadata"] | {"finalizers": finalizers}})


def _finalizers(service: Object) -> list[str]:
    return service["metadata"].get("finalizers") or []


def _has_finalizer(service: Object) -> bool:
    return FINALIZER in _finalizers(service)


def _age(service: Object) -> tuple[str, str]:
    """What orders services by age, each at its own place."""
    return service["metadata"].get("creationTimestamp") or "", objects.uid(service)


def _whole(service: Object) -> Object:
    """An object from a list doesn't say what it is."""
    return {"apiVersion": "v1", "kind": "Service"} | service


def _reference(service: Object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": service["metadata"]}
