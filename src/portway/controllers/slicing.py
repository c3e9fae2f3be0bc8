"""Endpoints into EndpointSlices with as few writes as possible. Pure: existing slices and wishes in, a plan out.

The rules are upstream's (spec of discovery.k8s.io/v1 and its controller): slices of one address type and one set of
ports, at most 100 endpoints each, slices reused before new ones are made, an empty one where there would be none.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from portway.kube.objects import Object

MAX_ENDPOINTS = 100
"""kube-controller-manager's --max-endpoints-per-slice default."""
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True, slots=True)
class Wish:
    """Endpoints that belong together: one address type, one set of ports. Addresses are unique within one."""

    address_type: str
    ports: list[Object]
    endpoints: list[Object]


@dataclass(frozen=True, slots=True)
class Template:
    """What every slice of one owner has in common."""

    namespace: str
    prefix: str
    """generateName"""
    labels: dict[str, str]
    owner: Object
    annotations: dict[str, str] = field(default_factory=dict)
    trigger_time: str = ""
    """When what led to this last changed; written along, never a reason to write."""


@dataclass(slots=True)
class Plan:
    """What to write. Creations and updates first: nobody should see a gap."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def plan(existing: Iterable[Object], wishes: Iterable[Wish], template: Template) -> Plan:
    """How to turn the existing slices into the wished ones. `existing` is not changed; updates are new objects."""
    groups: dict[bytes, list[Object]] = {}
    for one in existing:
        groups.setdefault(_group(one["addressType"], one.get("ports") or []), []).append(one)
    result = Plan()
    for wish in wishes:
        _fulfil(wish, groups.pop(_group(wish.address_type, wish.ports), []), template, result)
    for left in groups.values():
        result.delete += left
    _reuse(result)
    return result


def _fulfil(wish: Wish, existing: list[Object], template: Template, result: Plan) -> None:
    """One group: keep every endpoint where it is, drop the unwanted, fill what is open, make slices for the rest."""
    wanted: dict[Any, Object] = {}
    for endpoint in wish.endpoints:
        wanted.setdefault(_identity(endpoint), endpoint)
    slices = [(one, _kept(one, wanted)) for one in existing]
    # Slices that have to be written anyway are filled first; then the fullest, so that one write is enough.
    slices.sort(key=lambda pair: (pair[1] == _endpoints(pair[0]), -len(pair[1])))
    rest = list(wanted.values())
    for one, endpoints in slices:
        if endpoints != _endpoints(one) or _fits(rest, endpoints):
            taken = MAX_ENDPOINTS - len(endpoints)
            endpoints, rest = endpoints + rest[:taken], rest[taken:]
        _settle(one, wish, endpoints, template, result)
    chunks = [rest[start : start + MAX_ENDPOINTS] for start in range(0, len(rest), MAX_ENDPOINTS)]
    if not chunks and not wish.endpoints:
        chunks = [] if _one_survives(slices, result) else [[]]
    result.create += [_slice(wish, chunk, template) for chunk in chunks]


def _kept(one: Object, wanted: dict[Any, Object]) -> list[Object]:
    """The slice's endpoints that are still wanted, as they are wanted now; they are wanted no more elsewhere."""
    found = (wanted.pop(_identity(endpoint), None) for endpoint in _endpoints(one))
    return [endpoint for endpoint in found if endpoint is not None]


def _fits(rest: list[Object], endpoints: list[Object]) -> bool:
    """Whether an unchanged slice has room for all that is left: else a new slice is as good, and changes less."""
    return 0 < len(rest) <= MAX_ENDPOINTS - len(endpoints)


def _settle(one: Object, wish: Wish, endpoints: list[Object], template: Template, result: Plan) -> None:
    if not endpoints and wish.endpoints:
        result.delete.append(one)
        return
    new = _slice(wish, endpoints, template, one)
    if _differs(one, new):
        result.update.append(new)


def _one_survives(slices: list[tuple[Object, list[Object]]], result: Plan) -> bool:
    """With nothing wished for, the first slice stays as an empty one and the others go."""
    surplus = [one for one, _ in slices[1:]]
    names = {one["metadata"]["name"] for one in surplus}
    result.update = [new for new in result.update if new["metadata"]["name"] not in names]
    result.delete += surplus
    return bool(slices)


def _reuse(result: Plan) -> None:
    """A slice to be deleted becomes one to be created, when their address types agree (that field can't change)."""
    free: dict[str, deque[Object]] = {}
    for old in result.delete:
        free.setdefault(old["addressType"], deque()).append(old)
    wanted, result.create = result.create, []
    for new in wanted:
        if not free.get(new["addressType"]):
            result.create.append(new)
            continue
        old = free[new["addressType"]].popleft()
        metadata = {key: value for key, value in new["metadata"].items() if key != "generateName"}
        result.update.append(new | {"metadata": old["metadata"] | metadata})
    result.delete = [old for olds in free.values() for old in olds]


def _slice(wish: Wish, endpoints: list[Object], template: Template, old: Object | None = None) -> Object:
    annotations = dict(template.annotations)
    if template.trigger_time:
        annotations[TRIGGER_TIME] = template.trigger_time
    metadata = {
        "namespace": template.namespace,
        "labels": template.labels,
        "annotations": annotations,
        "ownerReferences": [template.owner],
    }
    if old is None:
        metadata["generateName"] = template.prefix
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": (old["metadata"] if old else {}) | metadata,
        "addressType": wish.address_type,
        "endpoints": endpoints,
        "ports": wish.ports,
    }


def _differs(old: Object, new: Object) -> bool:
    if _endpoints(old) != new["endpoints"]:
        return True
    for part in ("labels", "ownerReferences"):
        if (old["metadata"].get(part) or None) != (new["metadata"][part] or None):
            return True
    annotations = [{**(one["metadata"].get("annotations") or {}), TRIGGER_TIME: ""} for one in (old, new)]
    return annotations[0] != annotations[1]


def _endpoints(one: Object) -> list[Object]:
    return one.get("endpoints") or []


def _identity(endpoint: Object) -> Any:
    """What makes an endpoint the same one: address and what is behind it. A changed condition changes it in place."""
    return endpoint["addresses"][0], (endpoint.get("targetRef") or {}).get("uid")


def _group(address_type: str, ports: list[Object]) -> bytes:
    known = [(p.get("name") or "", p.get("protocol") or "TCP", p.get("port"), p.get("appProtocol")) for p in ports]
    return orjson.dumps([address_type, sorted(known, key=str)])
