"""Cluster addresses and node ports: handed out once, kept unique, given back.

The allocator holds what is taken in memory. What is taken follows from the stored services alone: `restore` is called
for each of them when the server starts, so that a restart changes nothing. All methods are synchronous and are called
on the server's event loop only, between two awaits; so they need no lock.

When to allocate and what a service needs is `portway.apiserver.kinds.services`' to say.
Source: pkg/registry/core/service/{ipallocator,portallocator} (bands, texts), KEP-3070 and KEP-3668.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Mapping
from typing import Any

IPv4, IPv6 = "IPv4", "IPv6"
NONE = "None"

_MAX_HOSTS = 1 << 64
"""Addresses of one range that can be used; a larger IPv6 range is used in its first part only."""


class AllocationError(Exception):
    """Nothing is left, or the wanted one can't be had; the text is upstream's."""


class NumberRange:
    """Hands out the numbers low..high, each once.

    The first `reserved` of them are picked last, which leaves them to those who ask for one by number.
    """

    def __init__(self, low: int, high: int, reserved: int) -> None:
        self.low, self.high = low, high
        self._upper = min(low + reserved, high + 1)
        self._taken: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return self.low <= number <= self.high

    def taken(self, number: int) -> bool:
        """Whether the number is handed out."""
        return number in self._taken

    def take(self, number: int) -> bool:
        """Takes a number of the range; False when it was taken before."""
        if number in self._taken:
            return False
        self._taken.add(number)
        return True

    def give_back(self, number: int) -> None:
        """Makes a number available again; one that isn't taken stays so."""
        self._taken.discard(number)

    def next(self) -> int:
        """Takes a free number, at random from the upper part first; raises AllocationError when there is none."""
        for low, high in ((self._upper, self.high), (self.low, self._upper - 1)):
            number = self._free_in(low, high)
            if number is not None:
                self._taken.add(number)
                return number
        raise AllocationError("range is full")

    def _free_in(self, low: int, high: int) -> int | None:
        """The first free number from a random place on, going round."""
        size = high - low + 1
        if size <= 0:
            return None
        start = random.randrange(size)
        # At most `taken + 1` steps: among that many numbers one is free, or the part has fewer numbers and is full.
        for step in range(min(size, len(self._taken) + 1)):
            number = low + (start + step) % size
            if number not in self._taken:
                return number
        return None


class AddressRange:
    """Hands out the addresses of a network: not its own address and, with IPv4, not its broadcast address."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.family = IPv4 if self.network.version == 4 else IPv6
        base = int(self.network.network_address)
        size = min(self.network.num_addresses, _MAX_HOSTS)
        last = base + size - (2 if self.network.version == 4 else 1)
        self._numbers = NumberRange(base + 1, last, min(max(16, size // 16), 256))

    def take(self, text: str) -> None:
        """Takes one address; raises AllocationError."""
        address = ipaddress.ip_address(text)
        if address.version != self.network.version or int(address) not in self._numbers:
            raise AllocationError(
                f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {self.network}"
            )
        if not self._numbers.take(int(address)):
            raise AllocationError("provided IP is already allocated")

    def next(self) -> str:
        """Takes a free address; raises AllocationError."""
        number = self._numbers.next()
        return str(ipaddress.IPv4Address(number) if self.family == IPv4 else ipaddress.IPv6Address(number))

    def give_back(self, text: str) -> None:
        """Makes an address available again."""
        self._numbers.give_back(int(ipaddress.ip_address(text)))


class PortRange:
    """Hands out node ports."""

    def __init__(self, low: int, high: int) -> None:
        self._numbers = NumberRange(low, high, min(max(16, (high - low + 1) // 32), 128))

    def take(self, port: int) -> None:
        """Takes one port; raises AllocationError."""
        if port not in self._numbers:
            raise AllocationError(
                "provided port is not in the valid range. "
                f"The range of valid ports is {self._numbers.low}-{self._numbers.high}"
            )
        if not self._numbers.take(port):
            raise AllocationError("provided port is already allocated")

    def next(self) -> int:
        """Takes a free port; raises AllocationError."""
        return self._numbers.next()

    def give_back(self, port: int) -> None:
        """Makes a port available again."""
        self._numbers.give_back(port)


def addresses_of(service: Mapping[str, Any]) -> set[str]:
    """Returns the cluster addresses that a service holds."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return set()
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return {address for address in listed if address and address != NONE}


def ports_of(service: Mapping[str, Any]) -> set[int]:
    """Returns the node ports that a service holds, the one for health checks included."""
    spec = service.get("spec") or {}
    held = {port.get("nodePort") for port in spec.get("ports") or ()} | {spec.get("healthCheckNodePort")}
    return {port for port in held if port}


class Allocator:
    """What is taken in one cluster: one range of addresses a family, one of node ports."""

    def __init__(self, cluster_ip_range: str, node_port_range: tuple[int, int]) -> None:
        """`cluster_ip_range` is a CIDR, or two of different families with a comma; the first is the default family."""
        ranges = [AddressRange(cidr.strip()) for cidr in cluster_ip_range.split(",")]
        self.addresses: Mapping[str, AddressRange] = {found.family: found for found in ranges}
        self.default_family = ranges[0].family
        self.ports = PortRange(*node_port_range)

    def restore(self, services: Iterable[Mapping[str, Any]]) -> list[str]:
        """Marks what stored services hold as taken; returns a line for each that can't be: taken twice, or outside.

        Such a service keeps what it has, as upstream's repair loop leaves it.
        """
        problems = []
        for service in services:
            where = f"{service['metadata'].get('namespace', '')}/{service['metadata'].get('name', '')}"
            held: list[str | int] = [*sorted(addresses_of(service)), *sorted(ports_of(service))]
            for one in held:
                try:
                    self._hold(one)
                except (AllocationError, ValueError) as error:
                    problems.append(f"service {where}: {one}: {error}")
        return problems

    def _hold(self, one: str | int) -> None:
        if isinstance(one, str):
            self.range_of(one).take(one)
        else:
            self.ports.take(one)

    def range_of(self, text: str) -> AddressRange:
        """Returns the range of an address's family; raises AllocationError when the cluster has none."""
        family = IPv4 if ipaddress.ip_address(text).version == 4 else IPv6
        found = self.addresses.get(family)
        if found is None:
            raise AllocationError(f"{family} is not configured on this cluster")
        return found

    def give_back(self, addresses: Iterable[str], ports: Iterable[int]) -> None:
        """Makes addresses and ports available again."""
        for text in addresses:
            try:
                self.range_of(text).give_back(text)
            except (AllocationError, ValueError):
                continue  # an address of a former range: there is nothing to give it back to
        for port in ports:
            self.ports.give_back(port)
