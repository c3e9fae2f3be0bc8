"""The machine's addresses, and those of services: made the machine's when needed, and no longer at the end.

They are on an interface: a dummy one, as kube-proxy's kube-ipvs0, or on a kernel without that kind the loopback
interface. An IPv6 address is an address of it; an IPv4 one a route to it of its own in the local table, because the
kernel looks through all addresses of an interface for each new one. Both bear a mark (IFA_PROTO, the route's metric),
so that what a killed process left is known for ours by the next.
"""

import contextlib
import errno
import ipaddress
import logging
import socket
import zlib
from collections.abc import Iterable
from functools import lru_cache

from portway.gateway.l4.netlink import Netlink
from portway.gateway.l4.wants import version
from portway.gateway.upstream.addresses import AddressPolicy

LOOPBACK = "lo"
_MARKS = range(64, 256)
"""Values of IFA_PROTO that the kernel and routing daemons don't use."""

logger = logging.getLogger(__name__)


_FIT_FOR_SERVICES = AddressPolicy(("127.0.0.0/8", "::1/128"))
"""A laptop's load balancers may be on loopback."""


class AddressUnavailableError(Exception):
    """An address is not the machine's and can't be made so; says why. `every`: no address can be."""

    def __init__(self, words: str, *, every: bool) -> None:
        super().__init__(words)
        self.every = every


class Addresses:
    """Who is asked for an address before something is bound to it."""

    def __init__(self, interface: str, *, own: bool) -> None:
        """`interface`: where addresses of services go, "" = nowhere. `own`: it is made and removed as a whole."""
        self.local: set[str] = set()
        """The machine's addresses at the last look, ours among them."""
        self._name, self._own = interface, own
        name = zlib.crc32(interface.encode())
        self._mark, self._metric = _MARKS[name % len(_MARKS)], name or 1
        """Of IPv6 addresses, and of the routes of IPv4 ones."""
        self._netlink: Netlink | None = None
        self._index = 0
        self._held: dict[str, int] = {}
        self._leftover: set[str] = set()
        """Of an earlier process; in use again, or removed by `forget_leftover`."""
        self.unavailable = "no interface is used for addresses of services" if not interface else ""
        """Why no address can be added; "" while it can."""

    def open(self) -> None:
        """Makes or finds the interface. What can't be done is said in `unavailable`."""
        try:
            self._netlink = Netlink()
            if self._name:
                self._index = self._made()
        except OSError as error:
            self.unavailable = (
                f"adding addresses to interface {self._name} needs root (CAP_NET_ADMIN)"
                if error.errno in (errno.EPERM, errno.EACCES)
                else f"interface {self._name} cannot be used: {error.strerror}"
            )
        self._look()

    def _made(self) -> int:
        netlink = self._netlink
        try:
            return socket.if_nametoindex(self._name)
        except OSError:
            if netlink is None:
                raise
        try:
            netlink.create_dummy(self._name)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            logger.warning("this kernel has no dummy interfaces: addresses of services go on %s", LOOPBACK)
            self._name, self._own = LOOPBACK, False
        return socket.if_nametoindex(self._name)

    def changed(self) -> bool:
        """Whether the machine's own addresses are others than at the last look; they are looked at again if so."""
        return self._netlink is not None and self._netlink.changed(self._index) and self._look()

    def _look(self) -> bool:
        if self._netlink is None:
            return False
        found, routed = self._netlink.addresses(), self._netlink.local_routes()
        first, before = not self.local, self.local
        self.local = {held.address for held in (*found, *routed)}
        if first and self._index:
            here = [held for held in found if held.index == self._index and version(held.address) == 6]
            ours = [held for held in here if self._own or held.origin == self._mark]
            ours += [held for held in routed if held.origin == self._metric]
            self._leftover = {one.address for one in ours if not ipaddress.ip_address(one.address).is_link_local}
        return self.local != before

    def here(self, address: str) -> bool:
        """Whether what is sent to an address stays on this machine."""
        address = as_dialled(address)
        return address in self.local or ipaddress.ip_address(address).is_loopback

    def hold(self, address: str) -> None:
        """Makes sure that an address is the machine's; AddressUnavailableError. `release` it once for each call."""
        if address in self._held:
            self._held[address] += 1
            return
        if ipaddress.ip_address(address).is_loopback or (address in self.local and address not in self._leftover):
            return
        if self.unavailable or self._netlink is None:
            raise AddressUnavailableError(self.unavailable or "the kernel does not answer", every=True)
        if address not in self._leftover:
            self._add(self._netlink, address)
        self._leftover.discard(address)
        self._held[address] = 1

    def _add(self, netlink: Netlink, address: str) -> None:
        try:
            if version(address) == 4:
                netlink.add_local_route(self._index, address, self._metric)
            else:
                netlink.add_address(self._index, address, self._mark)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                self.unavailable = f"adding addresses to interface {self._name} needs root (CAP_NET_ADMIN)"
            raise AddressUnavailableError(
                self.unavailable or f"it cannot be added to interface {self._name}: {error.strerror}",
                every=bool(self.unavailable),
            ) from error
        self.local.add(address)

    def release(self, address: str) -> None:
        """It is needed once less."""
        if address in self._held:
            self._held[address] -= 1
            if not self._held[address]:
                self._remove(address)

    def forget_leftover(self) -> None:
        """What an earlier process left and nobody needed by now."""
        for address in [*self._leftover]:
            self._remove(address)

    def _remove(self, address: str) -> None:
        self._held.pop(address, None)
        self._leftover.discard(address)
        if self._netlink is not None:
            with contextlib.suppress(OSError):  # somebody else was faster
                if version(address) == 4:
                    self._netlink.delete_local_route(address, self._metric)
                else:
                    self._netlink.delete_address(self._index, address)
        self.local.discard(address)

    def close(self) -> None:
        """Leaves the machine as it was."""
        for address in [*self._held, *self._leftover]:
            self._remove(address)
        if self._netlink is not None:
            if self._own and self._index:
                with contextlib.suppress(OSError):
                    self._netlink.delete_link(self._index)
            self._netlink.close()
            self._netlink = None


@lru_cache(maxsize=1 << 16)
def as_dialled(text: str) -> str:
    """What the kernel makes of an endpoint's address: its own spelling, and IPv4 for IPv6 that stands for it."""
    if ":" not in text:
        return text
    address = ipaddress.IPv6Address(text)
    return str(address.ipv4_mapped or address)


def fit_for_service(address: str) -> bool:
    """Whether an address that is asked for from outside may be a service's.

    Not the one that stands for all, nor multicast, link-local and cloud metadata addresses: who took those would speak
    for the machine, or to it, in somebody else's name.
    """
    return _FIT_FOR_SERVICES.allows(address)


def within(addresses: Iterable[str], cidrs: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the machine's addresses that lie in one of the ranges, sorted; link-local ones never do."""
    networks = [ipaddress.ip_network(cidr) for cidr in cidrs]
    parsed = [address for address in map(ipaddress.ip_address, addresses) if not address.is_link_local]
    fitting = [a for a in parsed if any(a.version == n.version and a in n for n in networks)]
    return tuple(str(a) for a in sorted(fitting, key=lambda a: (a.version, int(a))))
