"""What a Service holds while it lives: cluster addresses, node ports; taken on create, kept or changed on update.

`allocate` reserves what is new and writes it into the service; nothing is given back before the service is stored.
The ranges themselves are `portway.apiserver.allocator`'s.
Source: pkg/registry/core/service/storage/alloc.go and registry/core/service/strategy.go, as facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from portway.apiserver.allocator import AllocationError, Allocator, addresses_of, ports_of
from portway.apiserver.kinds.servicerules import headless, needs_health_check_port
from portway.kube.errors import Cause, InternalError, invalid, invalid_value
from portway.kube.objects import Object

_SINGLE, _REQUIRE = "SingleStack", "RequireDualStack"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}


@dataclass(slots=True)
class Reservation:
    """What one write reserved (`taken_*`) and what it will release (`dropped_*`)."""

    allocator: Allocator
    taken_addresses: set[str] = field(default_factory=set)
    taken_ports: set[int] = field(default_factory=set)
    dropped_addresses: set[str] = field(default_factory=set)
    dropped_ports: set[int] = field(default_factory=set)

    def commit(self) -> None:
        """The service was stored: what its old version alone held is released."""
        self.allocator.give_back(self.dropped_addresses, self.dropped_ports)

    def revert(self) -> None:
        """The service was not stored: what was reserved for it is released."""
        self.allocator.give_back(self.taken_addresses, self.taken_ports)


def allocate(new: Object, old: Object | None, allocator: Allocator) -> Reservation:
    """Reserves what `new` needs beyond what `old` holds and writes it into `new`; raises a StatusError.

    On an error nothing stays reserved.
    """
    made = Reservation(allocator)
    try:
        _families(new, allocator)
        _addresses(new, old, made)
        _node_ports(new, old, made)
        _health_check_port(new, old, made)
    except Exception:
        made.revert()
        raise
    if old is not None:
        made.dropped_addresses = addresses_of(old) - addresses_of(new)
        made.dropped_ports = ports_of(old) - ports_of(new)
    return made


def _refuse(service: Object, causes: Iterable[Cause]) -> None:
    if found := list(causes):
        raise invalid("Service", service["metadata"].get("name", ""), found)


def _families(service: Object, allocator: Allocator) -> None:
    """Fills in ipFamilyPolicy and ipFamilies from what is given and what the cluster has."""
    spec = service["spec"]
    if spec["type"] == "ExternalName":
        return
    free = headless(spec) and not spec.get("selector")
    policy = spec.setdefault("ipFamilyPolicy", _REQUIRE if free else _SINGLE)
    _refuse(service, _family_causes(spec, policy))
    _infer_families(service, allocator)
    families = spec.setdefault("ipFamilies", [allocator.default_family])
    if not free:
        _refuse(service, _configured_causes(families, policy, allocator))
    # Headless services without a selector may claim families that the cluster doesn't have: their endpoints are
    # somebody else's.
    if policy != _SINGLE and len(families) == 1 and (free or len(allocator.addresses) == 2):
        families.append(_OTHER[families[0]])


def _family_causes(spec: dict[str, Any], policy: str) -> Iterable[Cause]:
    for name, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if policy == _SINGLE and len(spec.get(name) or ()) == 2:
            text = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            yield invalid_value("spec.ipFamilyPolicy", policy, text)


def _infer_families(service: Object, allocator: Allocator) -> None:
    spec = service["spec"]
    listed = spec.get("clusterIPs") or []
    for i, address in enumerate(listed):
        if address == "None" or i < len(spec.get("ipFamilies") or ()):
            continue
        try:
            family = allocator.range_of(address).family
        except AllocationError as error:
            _refuse(service, [invalid_value(f"spec.clusterIPs[{i}]", listed, str(error))])
        else:
            spec.setdefault("ipFamilies", []).append(family)


def _configured_causes(families: list[str], policy: str, allocator: Allocator) -> Iterable[Cause]:
    if policy == _REQUIRE and len(allocator.addresses) < 2:
        text = "this cluster is not configured for dual-stack services"
        yield invalid_value("spec.ipFamilyPolicy", policy, text)
    for i, family in enumerate(families):
        if family not in allocator.addresses:
            yield invalid_value(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")


def _addresses(service: Object, old: Object | None, made: Reservation) -> None:
    """Takes an address a family: the given one, or any."""
    spec = service["spec"]
    if spec["type"] == "ExternalName" or headless(spec):
        return
    given, held = list(spec.get("clusterIPs") or ()), addresses_of(old or {})
    addresses = []
    for i, family in enumerate(spec["ipFamilies"]):
        wanted = given[i] if i < len(given) else ""
        address = wanted if wanted in held else _address(service, family, wanted, given, made)
        addresses.append(address)
        made.taken_addresses |= {address} - held
    spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses


def _address(service: Object, family: str, wanted: str, given: list[str], made: Reservation) -> str:
    pool = made.allocator.addresses[family]
    try:
        if not wanted:
            return pool.next()
        pool.take(wanted)
    except AllocationError as error:
        if not wanted:
            raise InternalError(f"Internal error occurred: failed to allocate a serviceIP: {error}") from error
        text = f"failed to allocate IP {wanted}: {error}"
        raise invalid(
            "Service", service["metadata"].get("name", ""), [invalid_value("spec.clusterIPs", given, text)]
        ) from error
    return wanted


def _node_ports(service: Object, old: Object | None, made: Reservation) -> None:
    """Takes a node port for each port that has none or asks for one.

    Ports with the same number (of different protocols) share a node port: the one that either asks for, or any.
    """
    spec = service["spec"]
    wanting = spec["type"] == "NodePort" or (
        spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
    )
    if spec["type"] not in ("NodePort", "LoadBalancer"):
        return
    held, ports = ports_of(old or {}), spec.get("ports") or []
    asked = {port["port"]: port["nodePort"] for port in reversed(ports) if port.get("nodePort")}
    by_number: dict[int, int] = {}
    for i, port in enumerate(ports):
        wanted = port.get("nodePort") or asked.get(port["port"], 0)
        if not wanted and not wanting:
            continue
        number = wanted or by_number.get(port["port"], 0)
        if not number or number not in held | made.taken_ports:
            number = _node_port(service, f"spec.ports[{i}].nodePort", number, made)
        port["nodePort"] = by_number[port["port"]] = number


def _node_port(service: Object, where: str, wanted: int, made: Reservation) -> int:
    """Takes one port, any if `wanted` is 0."""
    try:
        if wanted:
            made.allocator.ports.take(wanted)
        number = wanted or made.allocator.ports.next()
    except AllocationError as error:
        if not wanted:
            raise InternalError(f"Internal error occurred: failed to allocate a nodePort: {error}") from error
        name = service["metadata"].get("name", "")
        raise invalid("Service", name, [invalid_value(where, wanted, str(error))]) from error
    made.taken_ports.add(number)
    return number


def _health_check_port(service: Object, old: Object | None, made: Reservation) -> None:
    spec = service["spec"]
    if not needs_health_check_port(spec):
        return
    wanted = spec.get("healthCheckNodePort", 0)
    if not wanted or wanted not in ports_of(old or {}):
        spec["healthCheckNodePort"] = _node_port(service, "spec.healthCheckNodePort", wanted, made)
