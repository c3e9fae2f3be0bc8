"""One loopback address per pod.

Linux answers on all of 127.0.0.0/8 without configuration, so each pod can have an address and its usual port, as in a
cluster. The node takes one /24 out of the cluster's range, chosen by a hash of what names the cluster (its data
directory): the same at each start, and another for another cluster on this machine. Where that /24 is in use after all,
the next one is tried.
"""

import errno
import hashlib
import ipaddress
import socket
from collections.abc import Callable, Sequence

_FIRST_POD = 2
"""The node itself is .1."""
_ATTEMPTS = 64


class NoAddressesError(Exception):
    """The range has no subnet left; the message is one line."""


def node_subnet(cluster_cidr: str, seed: str, attempt: int = 0) -> ipaddress.IPv4Network:
    """The /24 of `cluster_cidr` that `seed` names (the whole range when it is a /24 or smaller).

    Raises:
        NoAddressesError: for an IPv6 range: Linux has a single IPv6 loopback address.
    """
    cluster = ipaddress.ip_network(cluster_cidr)
    if not isinstance(cluster, ipaddress.IPv4Network):
        raise NoAddressesError(f"--cluster-cidr {cluster_cidr}: demo pods need an IPv4 range, such as 127.64.0.0/10")
    if cluster.prefixlen >= 24:
        return cluster
    count = 1 << (24 - cluster.prefixlen)
    digest = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")
    base = int(cluster.network_address) + ((digest + attempt) % count << 8)
    return ipaddress.IPv4Network((base, 24))


def node_address(subnet: ipaddress.IPv4Network) -> str:
    """The node's own address."""
    return str(subnet[1])


def pod_addresses(subnet: ipaddress.IPv4Network, count: int) -> tuple[str, ...]:
    """The first `count` pod addresses of a subnet."""
    if subnet.num_addresses < _FIRST_POD + count:
        raise NoAddressesError(f"{subnet} has no room for {count} pods; give a larger --cluster-cidr")
    return tuple(str(subnet[_FIRST_POD + index]) for index in range(count))


def choose(
    cluster_cidr: str, seed: str, ports: Sequence[int], is_free: Callable[[str, int], bool]
) -> tuple[ipaddress.IPv4Network, tuple[str, ...]]:
    """A subnet on which pods that listen on `ports`, one each, can all start, and their addresses in order."""
    for attempt in range(_ATTEMPTS):
        subnet = node_subnet(cluster_cidr, seed, attempt)
        addresses = pod_addresses(subnet, len(ports))
        if all(is_free(address, port) for address, port in zip(addresses, ports, strict=True)):
            return subnet, addresses
    raise NoAddressesError(f"no free addresses for pods in {cluster_cidr}; give another --cluster-cidr")


def is_free(address: str, port: int) -> bool:
    """Whether a pod could listen there now.

    Raises:
        NoAddressesError: the address isn't this machine's at all.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoAddressesError(
                    f"{address} is not an address of this machine; give a --cluster-cidr in 127.0.0.0/8"
                ) from None
            return False
    return True
