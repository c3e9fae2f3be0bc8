"""EndpointSlices: the addresses behind a Service, in slices of one address family.

Source: pkg/apis/discovery/{v1/defaults.go,validation}, pkg/printers/internalversion, as facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Column, Context, Kind, Strategy
from portway.apiserver.kinds.servicerules import PROTOCOLS
from portway.kube import names
from portway.kube.errors import Cause, duplicate, invalid_value, not_supported, required, too_many
from portway.kube.objects import Object

_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ADDRESSES, _MAX_PORTS, _MAX_ENDPOINTS, _MAX_HINTS = 100, 20_000, 1000, 8
_SHOWN = 3


class EndpointSliceStrategy(Strategy):
    """What is particular to EndpointSlices."""

    def defaults(self, obj: Object) -> None:
        """Ports have a name, maybe empty, and are TCP; conditions are always there, lists too."""
        for endpoint in obj.setdefault("endpoints", []):
            endpoint.setdefault("conditions", {})
        for port in obj.setdefault("ports", []):
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules for the slice."""
        return common.first(_causes(obj, common.door_cidrs(obj, ctx)))

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """The same; the family may not change."""
        causes = _causes(new, common.door_cidrs(new, ctx))
        return common.first(causes, common.unchanged("addressType", new.get("addressType"), old.get("addressType")))

    def generation(self, new: Object, old: Object) -> bool:
        """A new generation is one with other endpoints or ports."""
        return any(new.get(part) != old.get(part) for part in ("endpoints", "ports"))


def _causes(obj: Object, cluster_cidrs: tuple[str, ...]) -> Iterator[Cause]:
    kind = obj.get("addressType", "")
    if not kind:
        yield required("addressType")
    elif kind not in _TYPES:
        yield not_supported("addressType", kind, _TYPES)
    endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        yield too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)
        return
    for field, endpoint in common.each(endpoints, "endpoints"):
        yield from _endpoint(field, endpoint, kind, cluster_cidrs)
    if len(ports) > _MAX_PORTS:
        yield too_many("ports", len(ports), _MAX_PORTS)
        return
    seen: set[str] = set()
    for field, port in common.each(ports, "ports"):
        yield from _port(field, port, seen)


def _endpoint(field: str, endpoint: dict[str, Any], kind: str, cluster_cidrs: tuple[str, ...]) -> Iterator[Cause]:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        yield required(f"{field}.addresses", "must contain at least 1 address")
    elif len(addresses) > _MAX_ADDRESSES:
        yield too_many(f"{field}.addresses", len(addresses), _MAX_ADDRESSES)
    for where, address in common.each(addresses, f"{field}.addresses"):
        yield from _address(where, address, kind, cluster_cidrs)
    if endpoint.get("nodeName") is not None:
        yield from common.subdomain(f"{field}.nodeName", endpoint["nodeName"])
    if endpoint.get("hostname") is not None:
        yield from common.label(f"{field}.hostname", endpoint["hostname"])
    for sort in ("forZones", "forNodes"):
        hints = common.items(endpoint, "hints", sort)
        if len(hints) > _MAX_HINTS:
            yield too_many(f"{field}.hints.{sort}", len(hints), _MAX_HINTS)
        for where, hint in common.each(hints, f"{field}.hints.{sort}"):
            yield from common.bad(f"{where}.name", hint.get("name", ""), names.is_label_value(hint.get("name", "")))


def _address(field: str, address: str, kind: str, cluster_cidrs: tuple[str, ...]) -> Iterator[Cause]:
    if kind == "FQDN":
        yield from common.subdomain(field, address)
        return
    parsed = common.address_of(address)
    if kind in ("IPv4", "IPv6") and (parsed is None or f"IPv{parsed.version}" != kind):
        yield invalid_value(field, address, f"must be a valid {kind} address")
        return
    yield from common.routable(field, address, cluster_cidrs)


def _port(field: str, port: dict[str, Any], seen: set[str]) -> Iterator[Cause]:
    name = port.get("name", "")
    if name:
        yield from common.label(f"{field}.name", name)
    if name in seen:
        yield duplicate(f"{field}.name", name)
    seen.add(name)
    protocol = port.get("protocol", "")
    if not protocol:
        yield required(f"{field}.protocol")
    elif protocol not in PROTOCOLS:
        yield not_supported(f"{field}.protocol", protocol, PROTOCOLS)
    if port.get("port") is not None:
        yield from common.port_number(f"{field}.port", port["port"])
    if port.get("appProtocol") is not None:
        yield from common.bad(f"{field}.appProtocol", port["appProtocol"], names.is_qualified_name(port["appProtocol"]))


def _cells(obj: Object, _now: float) -> Iterable[Any]:
    numbers = [str(port["port"]) if port.get("port") else "*" for port in obj.get("ports") or ()]
    addresses = [address for endpoint in obj.get("endpoints") or () for address in endpoint.get("addresses") or ()]
    return obj.get("addressType", ""), _some(numbers), _some(addresses)


def _some(values: list[str]) -> str:
    shown = ",".join(values[:_SHOWN]) or "<unset>"
    return f"{shown} + {len(values) - _SHOWN} more..." if len(values) > _SHOWN else shown


ENDPOINT_SLICE = Kind(
    group="discovery.k8s.io",
    version="v1",
    kind="EndpointSlice",
    plural="endpointslices",
    singular="endpointslice",
    namespaced=True,
    has_generation=True,
    strategy=EndpointSliceStrategy(),
    columns=common.columns(
        _cells,
        Column("AddressType", description="IPv4, IPv6 or FQDN."),
        Column("Ports", description="The ports of every endpoint."),
        Column("Endpoints", description="The addresses."),
    ),
)
