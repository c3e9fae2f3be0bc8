"""Services: defaults, what carries over on updates, and the Table.

Validation is in `servicerules`, addresses and ports in `serviceallocation`.
Source: pkg/apis/core/v1/defaults.go, pkg/registry/core/service, pkg/printers, as facts.
"""

# ruff: noqa: ARG002 - a strategy ignores what it doesn't need

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from portway.apiserver.allocator import held_by
from portway.apiserver.kinds import common
from portway.apiserver.kinds.base import Allocation, Column, Context, Kind, Reference, Strategy
from portway.apiserver.kinds.serviceallocation import allocate
from portway.apiserver.kinds.servicerules import (
    externally_accessible,
    needs_health_check_port,
    service_causes,
    status_causes,
    update_causes,
)
from portway.apiserver.kinds.servicewarnings import service_warnings
from portway.kube import names
from portway.kube.errors import Cause
from portway.kube.objects import Object

_AFFINITY_SECONDS = 10800
_WITH_ADDRESS = ("ClusterIP", "LoadBalancer", "NodePort")
_WITH_NODE_PORTS = ("LoadBalancer", "NodePort")

Spec = dict[str, Any]


class ServiceStrategy(Strategy):
    """What is particular to Services."""

    def name_errors(self, name: str) -> list[str]:
        """DNS-1123 labels; a leading digit is allowed since 1.36."""
        return names.is_dns1123_label(name)

    def defaults(self, obj: Object) -> None:
        """Fills in what doesn't depend on what is allocated."""
        spec = obj.setdefault("spec", {})
        spec.setdefault("sessionAffinity", "None")
        if spec["sessionAffinity"] == "None":
            spec.pop("sessionAffinityConfig", None)
        elif spec["sessionAffinity"] == "ClientIP":
            client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
            client.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
        spec.setdefault("type", "ClusterIP")
        for port in spec.get("ports") or ():
            port.setdefault("protocol", "TCP")
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port", 0)
        if externally_accessible(spec):
            spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] in _WITH_ADDRESS:
            spec.setdefault("internalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
        balancer = obj.setdefault("status", {}).setdefault("loadBalancer", {})
        for ingress in balancer.get("ingress") or () if spec["type"] == "LoadBalancer" else ():
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")

    def prepare_create(self, obj: Object, ctx: Context) -> None:
        """Drops the status, keeps clusterIP and clusterIPs in step."""
        obj["status"] = {"loadBalancer": {}}
        _sync_addresses(obj.setdefault("spec", {}), {})

    def validate_create(self, obj: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules for the whole service."""
        return common.first(service_causes(obj))

    def prepare_update(self, new: Object, old: Object, ctx: Context) -> None:
        """Carries over what was allocated; drops what another type doesn't have, unless the client changed it."""
        spec, before = new["spec"], old["spec"]
        if ctx.subresource == "status":
            return
        _sync_addresses(spec, before)
        _carry_over(spec, before)
        _downgrade(spec, before)
        _drop_by_type(spec, before)
        if spec.get("type") != "LoadBalancer":
            new["status"] = {**new.get("status", {}), "loadBalancer": {}}

    def validate_update(self, new: Object, old: Object, ctx: Context) -> list[Cause]:
        """Upstream's rules for a change."""
        if ctx.subresource == "status":
            return common.first(status_causes(new))
        return common.first(update_causes(new, old), service_causes(new))

    async def allocate(self, new: Object, old: Object | None, ctx: Context) -> Allocation | None:
        """Takes addresses and node ports, on every write but that of a status."""
        return None if ctx.subresource else await allocate(new, old, ctx.services.allocator, dry_run=ctx.dry_run)

    async def release(self, obj: Object, ctx: Context) -> None:
        """Gives all of them back."""
        await ctx.services.allocator.release(held_by(obj), obj["metadata"])

    def cascade(self, obj: Object) -> Sequence[Reference]:
        """The Endpoints of a service go with it."""
        return (Reference("", "endpoints", obj["metadata"]["namespace"], obj["metadata"]["name"]),)

    def warnings(self, obj: Object) -> list[str]:
        """Upstream's warnings, about addresses most of all."""
        return list(service_warnings(obj))


def _sync_addresses(spec: Spec, before: Spec) -> None:
    """Makes clusterIP and clusterIPs agree where the client gave or changed only one of them."""
    one, many = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    changed_one, changed_many = one != (before.get("clusterIP") or ""), many != (before.get("clusterIPs") or [])
    if changed_one and not changed_many:
        many = [one, *many[1:]] if one else []
    elif changed_many and not changed_one and not many:
        one = ""
    for key, value in (("clusterIP", one), ("clusterIPs", many)):
        if value:
            spec[key] = value
        else:
            spec.pop(key, None)


def _carry_over(spec: Spec, before: Spec) -> None:
    """A client that leaves allocated values out means the ones there are."""
    if spec.get("type") in _WITH_ADDRESS and before.get("type") in _WITH_ADDRESS:
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if not spec.get(key) and before.get(key):
                spec[key] = copy.deepcopy(before[key])  # `before` is what everybody reads
    if spec.get("type") in _WITH_NODE_PORTS and before.get("type") in _WITH_NODE_PORTS:
        used = {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
        known = {port.get("name", ""): port.get("nodePort", 0) for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            held = known.get(port.get("name", ""), 0)
            if held and not port.get("nodePort") and held not in used:
                port["nodePort"] = held
                used.add(held)
    if needs_health_check_port(spec) and needs_health_check_port(before) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before.get("healthCheckNodePort", 0)


def _downgrade(spec: Spec, before: Spec) -> None:
    """SingleStack is a clear wish to release the second family, when the lists were just sent back."""
    if spec.get("ipFamilyPolicy") == "SingleStack":
        for key in ("clusterIPs", "ipFamilies"):
            if len(spec.get(key) or ()) > 1 and spec[key] == before.get(key):
                spec[key] = spec[key][:1]


def _drop_by_type(spec: Spec, before: Spec) -> None:
    """What the old type had and the new one hasn't goes, if the client just sent it back."""
    for keys, has in _TYPED_FIELDS:
        if has(before) and not has(spec):
            for key in keys:
                if spec.get(key) == before.get(key):
                    spec.pop(key, None)
    if before.get("type") in _WITH_NODE_PORTS and spec.get("type") not in _WITH_NODE_PORTS:
        same = [p.get("nodePort") for p in spec.get("ports") or ()] == [
            p.get("nodePort") for p in before.get("ports") or ()
        ]
        for port in (spec.get("ports") or ()) if same else ():
            port.pop("nodePort", None)


def _is_balanced(spec: Spec) -> bool:
    return spec.get("type") == "LoadBalancer"


_TYPED_FIELDS: tuple[tuple[tuple[str, ...], Callable[[Spec], bool]], ...] = (
    (("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"), lambda spec: spec.get("type") in _WITH_ADDRESS),
    (("healthCheckNodePort",), needs_health_check_port),
    (("allocateLoadBalancerNodePorts", "loadBalancerClass"), _is_balanced),
    (("externalTrafficPolicy",), externally_accessible),
)


def _cells(obj: Object, _now: float) -> Iterable[Any]:
    spec = obj.get("spec") or {}
    cluster_ip = spec.get("clusterIP") or "<none>"
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    return spec.get("type", ""), cluster_ip, _external(obj, spec), _ports(spec), selector or "<none>"


def _external(obj: Object, spec: Spec) -> str:
    """The External-IP cell: names first what a load balancer gave."""
    kind, listed = spec.get("type"), list(spec.get("externalIPs") or ())
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind == "LoadBalancer":
        points = common.items(obj, "status", "loadBalancer", "ingress")
        given = [point.get("ip") or point.get("hostname", "") for point in points]
        return ",".join([*given, *listed]) or "<pending>"
    return ",".join(listed) or "<none>"


def _ports(spec: Spec) -> str:
    shown = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port['port']}{node}/{port.get('protocol', 'TCP')}")
    return ",".join(shown) or "<none>"


def _fields(obj: Object) -> Mapping[str, str]:
    spec = obj.get("spec") or {}
    return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}


_PROXY = ("create", "delete", "get", "patch", "update")

SERVICE = Kind(
    group="",
    version="v1",
    kind="Service",
    plural="services",
    singular="service",
    namespaced=True,
    short_names=("svc",),
    categories=("all",),
    has_status=True,
    strategy=ServiceStrategy(),
    returns_deleted=True,
    subresources=(("proxy", "ServiceProxyOptions", "", "", _PROXY),),
    selectable=("spec.clusterIP", "spec.type"),
    selectable_fields=_fields,
    columns=common.columns(
        _cells,
        Column("Type", description="How the service is reached: ClusterIP, NodePort, LoadBalancer or ExternalName."),
        Column("Cluster-IP", description="The virtual address inside the cluster."),
        Column("External-IP", description="Where the service is reached from outside."),
        Column("Port(s)", description="The ports with their node ports and protocols."),
        after=(common.wide("Selector", "The labels of the pods behind the service."),),
    ),
)
