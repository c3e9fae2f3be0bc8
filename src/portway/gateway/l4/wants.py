"""A Service → where it is to be listened for, and what is allowed there. Pure.

As kube-proxy: headless services and ExternalName have nothing; an address of one family leads to endpoints of that
family; source ranges guard the load balancer's addresses only; node ports are served in the service's own families.
Source: pkg/proxy/serviceport.go (newBaseServiceInfo), pkg/proxy/util/utils.go (ShouldSkipService).
"""

import ipaddress
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from portway.client.records import Service, ServicePort

CLUSTER, NODE_PORT, LOAD_BALANCER, EXTERNAL = (
    "cluster address",
    "node port",
    "load balancer address",
    "external address",
)
HEALTH = "health check node port"
PROTOCOLS = ("TCP", "UDP")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - node ports are meant to be reached from everywhere
"""The addresses that stand for all of a family's."""


class Where(NamedTuple):
    """What only one can have."""

    protocol: str
    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.protocol}"


class Want(NamedTuple):
    """One listener that a service is to have."""

    where: Where
    kind: str
    port_name: str
    local_only: bool
    """Whether only endpoints of this node may answer (traffic policy Local)."""
    sources: tuple[str, ...]
    """CIDRs of clients that are let in; () = all."""


def wants(service: Service, node_addresses: Sequence[str]) -> tuple[Want, ...]:
    """Every listener of a service. `node_addresses`: where node ports are served, 0.0.0.0 and :: for everywhere.

    Each place is named once: an address that is external and the load balancer's alike counts as the first.
    """
    if service.type == "ExternalName" or not service.exposure.cluster_ips:
        return ()
    found: dict[Where, Want] = {}
    for want in _all(service, node_addresses):
        found.setdefault(want.where, want)
    return tuple(found.values())


def _all(service: Service, node_addresses: Sequence[str]) -> Iterator[Want]:
    exposure = service.exposure
    families = {version(address) for address in exposure.cluster_ips}
    nodes = [address for address in node_addresses if version(address) in families]
    inside, outside = exposure.internal_policy == "Local", exposure.external_policy == "Local"
    for port in service.ports:
        for address in exposure.cluster_ips:
            yield _want(port, address, port.number, CLUSTER, inside)
        for address in exposure.load_balancer_ips:
            if version(address) in families:
                yield _want(port, address, port.number, LOAD_BALANCER, outside, exposure.source_ranges)
        for address in exposure.external_ips:
            if version(address) in families:
                yield _want(port, address, port.number, EXTERNAL, outside)
        for address in nodes if port.node_port else ():
            yield _want(port, address, port.node_port, NODE_PORT, outside)
    for address in nodes if exposure.health_check_node_port else ():
        yield Want(Where("TCP", address, exposure.health_check_node_port), HEALTH, "", True, ())


def _want(
    port: ServicePort, address: str, number: int, kind: str, local_only: bool, sources: tuple[str, ...] = ()
) -> Want:
    return Want(Where(port.protocol, canonical(address), number), kind, port.name, local_only, sources)


def canonical(address: str) -> str:
    """As the kernel writes it: two spellings of an IPv6 address are one."""
    return str(ipaddress.ip_address(address)) if ":" in address else address


def version(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4
