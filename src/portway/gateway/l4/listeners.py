"""Opens and closes listeners, each with its address; knows all that are ours, and says what is in the way of one."""

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence

from portway.gateway.l4 import udp
from portway.gateway.l4.addresses import Addresses, as_dialled, fit_for_service
from portway.gateway.l4.balance import Balancer
from portway.gateway.l4.flow import Traffic
from portway.gateway.l4.health import HealthListener
from portway.gateway.l4.sockets import listen
from portway.gateway.l4.tcp import TcpListener
from portway.gateway.l4.udp import UdpListener, UdpTraffic
from portway.gateway.l4.wants import (
    CLUSTER,
    EVERYWHERE,
    EXTERNAL,
    HEALTH,
    LOAD_BALANCER,
    PROTOCOLS,
    Want,
    Where,
    version,
)

Key = tuple[str, str]
"""(namespace, name) of a service"""
KUBERNETES: Key = "default", "kubernetes"
"""The service that is the API itself: its endpoints are the doors."""


class CannotListenError(Exception):
    """One line that says what is in the way."""


class DoorAnswers:
    """Instead of a listener, where the door itself listens, being on all addresses, and is who was wanted."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer

    def allow(self, sources: Sequence[str]) -> None:
        """Who may connect is the door's to say."""

    def close(self) -> None:
        """There is nothing to close."""


Listener = TcpListener | UdpListener | HealthListener | DoorAnswers


class Listeners:
    """Every listener of the process, by where it is."""

    def __init__(
        self,
        addresses: Addresses,
        tcp_traffic: Traffic,
        udp_traffic: UdpTraffic,
        loop: asyncio.AbstractEventLoop,
        door: Iterable[tuple[str, int]] = (),
        api_door: tuple[str, int] | None = None,
    ) -> None:
        """`door`: where the door listens, or will again; `api_door`: where with TLS, None for nowhere."""
        self.owners: dict[Where, Key] = {}
        self._door = [Where("TCP", address, port) for address, port in door]
        self._api_door = Where("TCP", *api_door) if api_door else None
        self._addresses, self._tcp, self._udp, self._loop = addresses, tcp_traffic, udp_traffic, loop

    def open(self, key: Key, want: Want, balancer: Balancer, health: Callable[[], bytes]) -> Listener:
        """A listener of a service; CannotListenError, AddressUnavailableError."""
        where = want.where
        if where.protocol not in PROTOCOLS:
            raise CannotListenError(f"{where.protocol} is not served by this machine's service proxy")
        owner = self.owners.get(where)
        if owner is not None:
            raise CannotListenError("service {}/{} has it".format(*owner))
        doors = [door for door in self._door if _collide(where, door)]
        if doors and (key != KUBERNETES or want.kind != CLUSTER or doors != [self._api_door]):
            raise CannotListenError("the door listens there")
        if want.kind in (EXTERNAL, LOAD_BALANCER) and not fit_for_service(where.address):
            raise CannotListenError("no service may have such an address")
        if where.address not in EVERYWHERE:
            self._addresses.hold(where.address)
        try:
            listener = DoorAnswers(balancer) if doors else self._bound(want, balancer, health)
        except OSError as error:
            self._release(where)
            raise CannotListenError(_words(where, error)) from error
        self.owners[where] = key
        return listener

    def _bound(self, want: Want, balancer: Balancer, health: Callable[[], bytes]) -> Listener:
        where = want.where
        if where.protocol == "UDP":
            return UdpListener(udp.bound(where.address, where.port), self._udp, balancer, want.sources)
        sock = listen(where.address, where.port)
        if want.kind == HEALTH:
            return HealthListener(sock, health, self._loop)
        return TcpListener(sock, self._tcp, balancer, want.sources)

    def close(self, where: Where, listener: Listener) -> None:
        """It is listened no more there."""
        listener.close()
        del self.owners[where]
        self._release(where)

    def _release(self, where: Where) -> None:
        if where.address not in EVERYWHERE:
            self._addresses.release(where.address)

    def leads_here(self, address: str, port: int) -> bool:
        """Whether a connection to there would come back to one of these: such an endpoint would go round for ever."""
        owners, address = self.owners, as_dialled(address)
        if ("TCP", address, port) in owners or ("UDP", address, port) in owners:
            return True
        everywhere = EVERYWHERE[version(address) == 6]
        if ("TCP", everywhere, port) not in owners and ("UDP", everywhere, port) not in owners:
            return False
        return self._addresses.here(address)


def _collide(one: Where, other: Where) -> bool:
    """Whether the kernel lets only one of them listen."""
    if (one.protocol, one.port, version(one.address)) != (other.protocol, other.port, version(other.address)):
        return False
    return one.address == other.address or one.address in EVERYWHERE or other.address in EVERYWHERE


def _words(where: Where, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 need root (CAP_NET_BIND_SERVICE)" if where.port < 1024 else "it is not permitted"
    if error.errno == errno.EADDRNOTAVAIL:
        return "it is not an address of this machine"
    if error.errno == errno.EAFNOSUPPORT:
        return "this machine has no IPv6"
    return error.strerror or str(error)
