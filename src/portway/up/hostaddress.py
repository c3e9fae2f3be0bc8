"""Where the door of this machine is for others: what is advertised when nobody said it.

A door on one address is there. One on all addresses is told by that of the interface with the default route, as
kube-apiserver does. Nothing is sent and no name is looked up: /proc/net has the routes, rtnetlink the addresses.
Source: k8s.io/apimachinery/pkg/util/net/interface.go (ResolveBindAddress, ChooseHostInterface), as facts.
"""

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path

from portway.gateway.l4.netlink import Netlink
from portway.options import values

_UP, _REJECT = 0x1, 0x200
"""Flags of a route, linux/route.h."""
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def of_door(bind_address: str, services: int) -> str:
    """The address of a door that is bound to an address. `services`: the family that default/kubernetes has, 4 or 6.

    `::` is IPv4's too, so there that family comes first.
    """
    bound = ipaddress.ip_address(bind_address)
    if not bound.is_unspecified:
        return bind_address
    families = (4,) if bound.version == 4 else (services, 10 - services)
    found = (address for family in families for address in _on_default_route(family))
    return next(found, _LOOPBACK[families[0]])


def _on_default_route(family: int) -> list[str]:
    """The addresses of one family on the interfaces with a default route; those of the best route first."""
    if family == 4:
        interfaces = default_interfaces4(_read("/proc/net/route"))
    else:
        interfaces = default_interfaces6(_read("/proc/net/ipv6_route"))
    return [address for name in interfaces for address in fitting(_addresses(name), family)]


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except OSError:  # a kernel without this family
        return ""


def _addresses(interface: str) -> list[str]:
    try:
        index, netlink = socket.if_nametoindex(interface), Netlink()
    except OSError:
        return []
    try:
        return [held.address for held in netlink.addresses() if held.index == index]
    finally:
        netlink.close()


def fitting(addresses: Iterable[str], family: int) -> list[str]:
    """Those of a family that others can be told, in their order."""
    found = []
    for address in addresses:
        parsed = ipaddress.ip_address(address)
        if parsed.version == family and not parsed.is_loopback and _can_be_told(address):
            found.append(address)
    return found


def _can_be_told(address: str) -> bool:
    try:
        values.advertised_address(address)
    except ValueError:
        return False
    return True


def default_interfaces4(table: str) -> list[str]:
    """The interfaces with a default route in /proc/net/route, the lowest metric first."""
    found = []
    for line in table.splitlines()[1:]:
        name, destination, _gateway, flags, _, _, metric, mask = line.split()[:8]
        if int(destination, 16) == int(mask, 16) == 0 and _usable(int(flags, 16)):
            found.append((int(metric), name))
    return _by_metric(found)


def default_interfaces6(table: str) -> list[str]:
    """The same in /proc/net/ipv6_route."""
    found = []
    for line in table.splitlines():
        destination, length, _, _, _, metric, _, _, flags, name = line.split()
        if int(destination, 16) == int(length, 16) == 0 and _usable(int(flags, 16)):
            found.append((int(metric, 16), name))
    return _by_metric(found)


def _usable(flags: int) -> bool:
    return flags & (_UP | _REJECT) == _UP


def _by_metric(found: list[tuple[int, str]]) -> list[str]:
    return list(dict.fromkeys(name for _, name in sorted(found, key=lambda one: one[0])))
