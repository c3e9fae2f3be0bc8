"""Endpoints: the addresses behind a Service, as the proxy verb reads them.

Source: pkg/apis/core/validation (ValidateEndpoints), pkg/printers/internalversion, as facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.apiserver.kinds.servicerules import PROTOCOLS
from portway.kube import names
from portway.kube.errors import Cause, required
from portway.kube.objects import Object

_SHOWN = 3


class EndpointsStrategy(Strategy):
    """What is particular to Endpoints."""

    def defaults(self, obj: Object) -> None:
        """Ports are TCP."""
        for subset in obj.get("subsets") or ():
            for port in subset.get("ports") or ():
                port.setdefault("protocol", "TCP")

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules for subsets."""
        return common.first(_causes(obj, common.door_cidrs(obj, ctx)))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same; subsets that didn't change are as good as they were."""
        if new.get("subsets") == old.get("subsets"):
            return []
        return common.first(_causes(new, common.door_cidrs(new, ctx)))


def _causes(obj: Object, cluster_cidrs: tuple[str, ...]) -> Iterator[Cause]:
    for field, subset in common.each(obj.get("subsets"), "subsets"):
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield required(field, "must specify `addresses` or `notReadyAddresses`")
        for sort in ("addresses", "notReadyAddresses"):
            for where, address in common.each(subset.get(sort), f"{field}.{sort}"):
                yield from _address(where, address, cluster_cidrs)
        ports = subset.get("ports") or []
        for where, port in common.each(ports, f"{field}.ports"):
            yield from _port(where, port, named=len(ports) > 1)


def _address(field: str, address: dict[str, Any], cluster_cidrs: tuple[str, ...]) -> Iterator[Cause]:
    yield from common.routable(f"{field}.ip", address.get("ip", ""), cluster_cidrs)
    if address.get("hostname"):
        yield from common.label(f"{field}.hostname", address["hostname"])
    if address.get("nodeName") is not None:
        yield from common.subdomain(f"{field}.nodeName", address["nodeName"])


def _port(field: str, port: dict[str, Any], *, named: bool) -> Iterator[Cause]:
    name = port.get("name", "")
    if name:
        yield from common.label(f"{field}.name", name)
    elif named:
        yield required(f"{field}.name")
    yield from common.port_number(f"{field}.port", port.get("port", 0))
    yield from common.one_of(f"{field}.protocol", port.get("protocol", ""), PROTOCOLS)
    if port.get("appProtocol") is not None:
        yield from common.bad(f"{field}.appProtocol", port["appProtocol"], names.is_qualified_name(port["appProtocol"]))


def _cells(obj: Object, _now: float) -> Iterable[Any]:
    found = list(_ready(obj))
    shown = ",".join(found[:_SHOWN]) or "<none>"
    return (f"{shown} + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else shown,)


def _ready(obj: Object) -> Iterator[str]:
    for subset in obj.get("subsets") or ():
        addresses = [address.get("ip", "") for address in subset.get("addresses") or ()]
        if not subset.get("ports"):
            yield from addresses
        for port in subset.get("ports") or ():
            yield from (f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in addresses)


ENDPOINTS = Kind(
    group="",
    version="v1",
    kind="Endpoints",
    plural="endpoints",
    singular="endpoints",
    namespaced=True,
    short_names=("ep",),
    strategy=EndpointsStrategy(),
    deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    create_on_update=True,
    columns=common.columns(_cells, Column("Endpoints", description="Addresses and ports that are ready.")),
)
