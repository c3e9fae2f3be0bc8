"""What a Service holds while it lives: cluster addresses, node ports; taken on create, kept or changed on update.

`allocate` takes what is new and writes it into the service; nothing is given back before the service is stored.
The ranges themselves are `portway.apiserver.allocator`'s.
Source: pkg/registry/core/service/storage/alloc.go and registry/core/service/strategy.go, as facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from portway.apiserver.allocator import (
    NONE,
    AllocationError,
    Allocator,
    Held,
    addresses_of,
    canonical,
    family_of,
    held_by,
    ports_of,
)
from portway.apiserver.kinds.servicerules import headless, needs_health_check_port
from portway.kube.errors import Cause, InternalError, Invalid, StatusError, invalid, invalid_value
from portway.kube.objects import Object

_SINGLE, _PREFER, _REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_OTHER = {"IPv4": "IPv6", "IPv6": "IPv4"}
_AT_ONCE = 16
"""What is taken for one service at the same time."""
_HEALTH = 0
"""The place of the port for health checks among a service's node ports."""

Spec = dict[str, Any]
_T = TypeVar("_T")


@dataclass(slots=True)
class Reservation:
    """What one write took (`taken`) and what its success will give back (`dropped`)."""

    allocator: Allocator
    service: Object
    """The service's metadata: in whose name it was taken."""
    dry_run: bool
    taken: set[Held] = field(default_factory=set)
    dropped: set[Held] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    """The node ports that the service asks for by number, or was offered: none of them is tried once more."""

    async def commit(self) -> None:
        """The service was stored: what its old version alone held is given back."""
        await self.allocator.release(self.dropped, self.service)

    async def revert(self) -> None:
        """The service was not stored: what was taken for it is given back."""
        await self.allocator.release(self.taken, self.service)


async def allocate(new: Object, old: Object | None, allocator: Allocator, *, dry_run: bool) -> Reservation:
    """Takes what `new` needs beyond what `old` holds and writes it into `new`; raises a StatusError.

    On such an error nothing stays taken, and a dry run takes nothing.
    """
    made = Reservation(allocator, new["metadata"], dry_run)
    _families(new, old, allocator)
    try:
        await _together([partial(_addresses, new, old, made), partial(_ports, new, old, made)])
    except StatusError:
        await made.revert()
        raise
    if old is not None:
        made.dropped = held_by(old) - held_by(new)
    if made.dry_run:
        made.taken, made.dropped = set(), set()
    return made


async def _together(taking: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """Takes several at once: each is a write that has to reach the medium, and those that come together share the wait.

    Not all at once: a list of the client's has no end, and where nothing is left the first to find out should be the
    last to look. The first error counts, as if they came in turn; before it one that leaves open what was taken.
    """
    taken: list[_T] = []
    for start in range(0, len(taking), _AT_ONCE):
        some = [take() for take in taking[start : start + _AT_ONCE]]
        found = await asyncio.gather(*some, return_exceptions=True)
        failed = [one for one in found if isinstance(one, BaseException)]
        for error in sorted(failed, key=lambda error: isinstance(error, StatusError)):
            raise error
        taken += [one for one in found if not isinstance(one, BaseException)]
    return taken


def _refuse(service: Object, causes: Iterable[Cause]) -> None:
    if found := list(causes):
        raise invalid("Service", service["metadata"].get("name", ""), found)


def _families(service: Object, old: Object | None, allocator: Allocator) -> None:
    """Fills in ipFamilyPolicy and ipFamilies from what is given and what the cluster has."""
    spec, before = service["spec"], (old or {}).get("spec") or {}
    if spec["type"] == "ExternalName" or _same_preference(spec, before):
        return
    free = headless(spec) and not spec.get("selector")
    policy = spec.setdefault("ipFamilyPolicy", _REQUIRE if free else _SINGLE)
    _refuse(service, [*_reduced_causes(spec, before), *_family_causes(spec, policy)])
    _refuse(service, _inferred(spec, allocator))
    families = spec.setdefault("ipFamilies", [allocator.families[0]])
    if not free:
        _refuse(service, _configured_causes(families, policy, allocator))
    # Headless services without a selector may claim families that the cluster doesn't have: their endpoints are
    # somebody else's.
    if policy != _SINGLE and len(families) == 1 and (free or len(allocator.families) == 2):
        families.append(_OTHER[families[0]])


def _same_preference(spec: Spec, before: Spec) -> bool:
    """Whether it goes on preferring two families with what it has: the cluster's own change is no reason to change."""
    same = ("type", "ipFamilyPolicy", "clusterIPs", "ipFamilies")
    return before.get("ipFamilyPolicy") == _PREFER and all(spec.get(key) == before.get(key) for key in same)


def _reduced_causes(spec: Spec, before: Spec) -> Iterable[Cause]:
    """Giving up the second family has to be said by the policy, unless the address itself goes (ExternalName)."""
    for name, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        if spec.get("ipFamilyPolicy") != _SINGLE and 0 < len(spec.get(name) or ()) < len(before.get(name) or ()):
            text = f"must be 'SingleStack' to release the secondary {what}"
            yield invalid_value("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), text)


def _family_causes(spec: Spec, policy: str) -> Iterable[Cause]:
    for name, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if policy == _SINGLE and len(spec.get(name) or ()) == 2:
            text = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            yield invalid_value("spec.ipFamilyPolicy", policy, text)


def _inferred(spec: Spec, allocator: Allocator) -> Iterable[Cause]:
    """Adds the families of given addresses to ipFamilies; yields a cause for each that the cluster doesn't have."""
    listed = spec.get("clusterIPs") or []
    for i, address in enumerate(listed):
        if address == NONE or i < len(spec.get("ipFamilies") or ()):
            continue
        family = family_of(address)
        if family in allocator.families:
            spec.setdefault("ipFamilies", []).append(family)
        else:
            yield invalid_value(f"spec.clusterIPs[{i}]", listed, f"{family} is not configured on this cluster")


def _configured_causes(families: list[str], policy: str, allocator: Allocator) -> Iterable[Cause]:
    if policy == _REQUIRE and len(allocator.families) < 2:
        text = "this cluster is not configured for dual-stack services"
        yield invalid_value("spec.ipFamilyPolicy", policy, text)
    for i, family in enumerate(families):
        if family not in allocator.families:
            yield invalid_value(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")


async def _addresses(service: Object, old: Object | None, made: Reservation) -> None:
    """Takes an address a family: the given one, or any."""
    spec = service["spec"]
    if spec["type"] == "ExternalName" or headless(spec):
        return
    given, held = list(spec.get("clusterIPs") or ()), addresses_of(old or {})
    addresses = (given + [""] * len(spec["ipFamilies"]))[: len(spec["ipFamilies"])]
    missing = [i for i, wanted in enumerate(addresses) if not wanted or canonical(wanted) not in held]
    found = await _together([partial(_address, service, spec["ipFamilies"][i], addresses[i], made) for i in missing])
    for i, address in zip(missing, found, strict=True):
        addresses[i] = address
    spec["clusterIP"], spec["clusterIPs"] = addresses[0], addresses


async def _address(service: Object, family: str, wanted: str, made: Reservation) -> str:
    """Takes one address, any if `wanted` is empty; returns it as it is to be written."""
    try:
        if not wanted:
            taken = await made.allocator.address(family, made.service, dry_run=made.dry_run)
            made.taken.add(taken)
            return taken
        await made.allocator.this_address(canonical(wanted), made.service, dry_run=made.dry_run)
    except AllocationError as error:
        if not wanted:
            raise InternalError(f"Internal error occurred: failed to allocate a serviceIP: {error}") from error
        text = f"failed to allocate IP {wanted}: {error}"
        raise _invalid(service, "spec.clusterIPs", service["spec"].get("clusterIPs"), text) from error
    made.taken.add(canonical(wanted))
    return wanted


def _invalid(service: Object, where: str, value: object, text: str) -> Invalid:
    return invalid("Service", service["metadata"].get("name", ""), [invalid_value(where, value, text)])


async def _ports(service: Object, old: Object | None, made: Reservation) -> None:
    """Takes a node port for each port that has none or asks for one, then the one for health checks.

    Ports with the same number (of different protocols) share a node port: the one that either asks for, or any.
    """
    spec = service["spec"]
    if spec["type"] not in ("NodePort", "LoadBalancer"):
        return
    wanting = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
    mine, ports = ports_of(old or {}), spec.get("ports") or []
    asked = {port["port"]: port["nodePort"] for port in reversed(ports) if port.get("nodePort")}
    wanted = [(i, port, port.get("nodePort") or asked.get(port["port"], 0)) for i, port in enumerate(ports)]
    wanted = [(i, port, number) for i, port, number in wanted if number or wanting]
    made.tried |= ports_of(service)
    taking: dict[int, Callable[[], Awaitable[int]]] = {}
    for i, port, number in wanted:
        if number not in mine and _slot(port, number) not in taking:
            taking[_slot(port, number)] = partial(_node_port, service, f"spec.ports[{i}].nodePort", number, made)
    health = spec.get("healthCheckNodePort", 0)
    if needs_health_check_port(spec) and (not health or health not in mine):
        taking[_HEALTH] = partial(_health_check_port, health, made)
    found = dict(zip(taking, await _together([*taking.values()]), strict=True))
    for _, port, number in wanted:
        port["nodePort"] = number or found[_slot(port, number)]
    if _HEALTH in found:
        spec["healthCheckNodePort"] = found[_HEALTH]


def _slot(port: Spec, number: int) -> int:
    """What tells the node ports of one service apart: the number that is asked for, or whose it is to be."""
    return number or -port["port"]


async def _node_port(service: Object, where: str, wanted: int, made: Reservation) -> int:
    """Takes one port, any if `wanted` is 0."""
    try:
        return await _take_port(wanted, made)
    except AllocationError as error:
        if not wanted:
            raise InternalError(f"Internal error occurred: failed to allocate a nodePort: {error}") from error
        raise _invalid(service, where, wanted, str(error)) from error


async def _health_check_port(wanted: int, made: Reservation) -> int:
    """The same; that even a wish which can't be fulfilled is an internal error is upstream's."""
    try:
        return await _take_port(wanted, made)
    except AllocationError as error:
        which = "requested HealthCheck NodePort" if wanted else "a HealthCheck NodePort"
        raise InternalError(f"Internal error occurred: failed to allocate {which} {wanted}: {error}") from error


async def _take_port(wanted: int, made: Reservation) -> int:
    if wanted:
        await made.allocator.this_port(wanted, made.service, dry_run=made.dry_run)
        number = wanted
    else:
        number = await made.allocator.port(made.service, dry_run=made.dry_run, tried=made.tried)
    made.taken.add(number)
    return number
