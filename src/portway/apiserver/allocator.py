"""Cluster addresses and node ports: which may be had, which are had, in whose name they are taken and given back.

What is taken is in the store and nowhere else, so that any number of API servers share it: `Claims` is how it is asked
and written. Here are the ranges and the order in which free ones are tried. When to allocate and what a service needs
is `portway.apiserver.kinds.serviceallocation`'s to say; what a crash leaves behind is `portway.apiserver.repair`'s.

Source: pkg/registry/core/service/{ipallocator,portallocator} (bands, texts), KEP-1880, KEP-3070 and KEP-3668.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

from portway.kube.objects import Object

IPv4, IPv6 = "IPv4", "IPv6"
NONE = "None"
RANGE_FULL = "range is full"

_MAX_HOSTS = 1 << 64
"""Addresses of one range that can be used; a larger IPv6 range is used in its first part only."""

Held = str | int
"""A cluster address, or a node port."""


class AllocationError(Exception):
    """Nothing is left, or the wanted one can't be had; the text is upstream's."""


class NumberRange:
    """The numbers low..high. The first `reserved` of them are tried last: for those who ask for one by number."""

    def __init__(self, low: int, high: int, reserved: int) -> None:
        self.low, self.high = low, high
        self._upper = min(low + reserved, high + 1)

    def __contains__(self, number: int) -> bool:
        return self.low <= number <= self.high

    def candidates(self, taken: Callable[[int], bool]) -> Iterator[int]:
        """Yields every number that isn't taken when its turn comes, from a random place of the upper part on."""
        for low, high in ((self._upper, self.high), (self.low, self._upper - 1)):
            size = high - low + 1
            start = random.randrange(size) if size > 0 else 0
            for step in range(size):
                number = low + (start + step) % size
                if not taken(number):
                    yield number


class AddressRange:
    """The addresses of a network: not its own address and, with IPv4, not its broadcast address."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.family = IPv4 if self.network.version == 4 else IPv6
        base = int(self.network.network_address)
        size = min(self.network.num_addresses, _MAX_HOSTS)
        last = base + size - (2 if self.network.version == 4 else 1)
        self._numbers = NumberRange(base + 1, last, min(max(16, size // 16), 256))

    @property
    def first(self) -> str:
        """The first address that can be used."""
        return self._text(self._numbers.low)

    def __contains__(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return parsed.version == self.network.version and int(parsed) in self._numbers

    def candidates(self, taken: Callable[[str], bool]) -> Iterator[str]:
        """Yields the addresses that aren't taken, in the order in which they are to be tried."""
        return map(self._text, self._numbers.candidates(lambda number: taken(self._text(number))))

    def _text(self, number: int) -> str:
        return str(ipaddress.IPv4Address(number) if self.family == IPv4 else ipaddress.IPv6Address(number))


@lru_cache(maxsize=64)
def address_range(cidr: str) -> AddressRange:
    """Returns the range of a CIDR; they have no state."""
    return AddressRange(cidr)


def port_range(low: int, high: int) -> NumberRange:
    """Returns the range of node ports with upstream's reserved part."""
    return NumberRange(low, high, min(max(16, (high - low + 1) // 32), 128))


def addresses_of(service: Mapping[str, Any]) -> set[str]:
    """Returns the cluster addresses that a service holds, in canonical form."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return set()
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return {canonical(address) for address in listed if address and address != NONE}


def canonical(address: str) -> str:
    """Returns an address in the one form that names its claim."""
    return str(ipaddress.ip_address(address))


def ports_of(service: Mapping[str, Any]) -> set[int]:
    """Returns the node ports that a service holds, the one for health checks included."""
    spec = service.get("spec") or {}
    held = {port.get("nodePort") for port in spec.get("ports") or ()} | {spec.get("healthCheckNodePort")}
    return {port for port in held if port}


def held_by(service: Mapping[str, Any]) -> set[Held]:
    """Returns everything that a service holds."""
    return {*addresses_of(service), *ports_of(service)}


def family_of(address: str) -> str:
    """Returns the family of an address that is known to be one."""
    return IPv4 if ipaddress.ip_address(address).version == 4 else IPv6


class Claims(Protocol):
    """What is taken, and by which service, as all API servers on one store see it."""

    def taken(self, what: Held) -> bool:
        """Whether it is known here to be taken. Another server may have taken it since: `claim` is what counts."""

    async def claim(self, what: Held, service: Object) -> bool:
        """Takes it in the name of a service (its metadata); False when somebody was faster."""

    async def release(self, held: Iterable[Held], service: Object) -> None:
        """Gives back those that are the service's; what can't be given back now is left to the repair."""

    def ranges(self) -> Iterable[str]:
        """Returns the CIDRs that addresses may be taken from now."""


class Allocator:
    """Takes addresses and ports for services. One per server."""

    def __init__(self, families: tuple[str, ...], node_port_range: tuple[int, int], claims: Claims) -> None:
        """`families` are those that the cluster is configured for, the default one first."""
        self.families = families
        self._ports = port_range(*node_port_range)
        self._claims = claims

    async def address(self, family: str, service: Object, *, dry_run: bool) -> str:
        """Takes any address of a family; raises AllocationError."""
        for pool in self._pools(family):
            for address in pool.candidates(self._claims.taken):
                if dry_run or await self._claims.claim(address, service):
                    return address
        raise AllocationError(RANGE_FULL)

    async def this_address(self, address: str, service: Object, *, dry_run: bool) -> None:
        """Takes the address that was asked for (in canonical form); raises AllocationError."""
        pools = self._pools(family_of(address))
        if not any(address in pool for pool in pools):
            ranges = ", ".join(str(pool.network) for pool in pools)
            raise AllocationError(
                f"the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges}"
            )
        if self._claims.taken(address) or not (dry_run or await self._claims.claim(address, service)):
            raise AllocationError("provided IP is already allocated")

    async def port(self, service: Object, *, dry_run: bool, tried: set[int] | None = None) -> int:
        """Takes any node port; raises AllocationError.

        None of `tried`, to which it adds what it tries: ports of one service, taken at the same time, share it.
        """
        tried = set() if tried is None else tried
        for port in self._ports.candidates(lambda port: port in tried or self._claims.taken(port)):
            tried.add(port)
            if dry_run or await self._claims.claim(port, service):
                return port
        raise AllocationError(RANGE_FULL)

    async def this_port(self, port: int, service: Object, *, dry_run: bool) -> None:
        """Takes the node port that was asked for; raises AllocationError."""
        if port not in self._ports:
            low, high = self._ports.low, self._ports.high
            raise AllocationError(f"provided port is not in the valid range. The range of valid ports is {low}-{high}")
        if self._claims.taken(port) or not (dry_run or await self._claims.claim(port, service)):
            raise AllocationError("provided port is already allocated")

    async def release(self, held: Iterable[Held], service: Object) -> None:
        """Gives back what a service held."""
        await self._claims.release(held, service)

    def in_range(self, what: Held) -> bool:
        """Whether it could be taken now, were it free."""
        if isinstance(what, int):
            return what in self._ports
        return any(what in pool for pool in self._pools(family_of(what)))

    def _pools(self, family: str) -> list[AddressRange]:
        return [pool for pool in map(address_range, self._claims.ranges()) if pool.family == family]
