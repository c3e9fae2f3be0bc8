"""Which endpoints of which service may be dialled.

Whoever may write a service's EndpointSlices says where this machine connects to. So what only this machine reaches is
no endpoint: loopback, but for the pods on it, nor is the door, to which such a client would be this machine; nor what
leads back here. The one exception is the service whose endpoints are the doors: TCP of default/kubernetes may go to the
door's own TLS listener, on loopback too; not to its plain one, nor to any other port there.
"""

from collections.abc import Iterable
from functools import lru_cache

from portway.gateway.l4.addresses import Addresses, as_dialled
from portway.gateway.l4.listeners import KUBERNETES, Key, Listeners
from portway.gateway.l4.wants import EVERYWHERE, version
from portway.gateway.upstream.addresses import AddressPolicy

Place = tuple[str, int]
"""(address, port)"""
_literal = lru_cache(maxsize=1 << 10)(AddressPolicy.lenient().allows)
"""Whether a text is one address."""


class EndpointPolicy:
    """Decides for one process."""

    def __init__(
        self,
        cluster_cidrs: tuple[str, ...],
        door: Iterable[Place],
        api_door: Place | None,
        addresses: Addresses,
        listeners: Listeners,
    ) -> None:
        """`door`: where the door listens; `api_door`: which of these is its TLS listener, None for none."""
        self._permitted = lru_cache(maxsize=1 << 16)(AddressPolicy(cluster_cidrs).allows)
        self._door = frozenset(door)
        self._ports = frozenset(port for _, port in self._door)
        self._api_door = api_door
        self._addresses, self._listeners = addresses, listeners

    def allows(self, key: Key, protocol: str, address: str, port: int) -> bool:
        """Whether a service's traffic of a protocol may go to a literal address and port."""
        if port in self._ports and _literal(address):
            doors = [door for door in self._door if self._leads_to(door, address, port)]
            if doors:
                return key == KUBERNETES and protocol == "TCP" and doors == [self._api_door]
        return self._permitted(address) and not self._listeners.leads_here(address, port)

    def _leads_to(self, door: Place, address: str, port: int) -> bool:
        """Whether a connection to there is one to this listener of the door."""
        host, number = door
        if port != number:
            return False
        if host in EVERYWHERE:
            return version(as_dialled(address)) in _families(host) and self._addresses.here(address)
        return as_dialled(address) == as_dialled(host)


def _families(everywhere: str) -> tuple[int, ...]:
    """What a listener on such an address answers: `::` is for IPv4 too, unless the machine's settings say otherwise."""
    return (4, 6) if version(everywhere) == 6 else (4,)
