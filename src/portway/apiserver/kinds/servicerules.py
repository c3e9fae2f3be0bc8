"""What makes a Service valid: one function a concern, in the order in which upstream lists the causes.

Whether addresses and ports can be had is not decided here but when they are allocated.
Source: pkg/apis/core/validation (ValidateService, ValidateServiceUpdate), as facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.kube import names
from portway.kube.errors import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from portway.kube.objects import Object

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
PROTOCOLS = ("SCTP", "TCP", "UDP")
MAX_AFFINITY_SECONDS = 86400
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_KUBELET_PORT = 10250
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_TRAFFIC_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_NOT_EXTERNAL_NAME = "may not be set for ExternalName services"
_ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"

Spec = dict[str, Any]


def headless(spec: Spec) -> bool:
    """Whether the service asks for no cluster address."""
    return spec.get("clusterIP") == "None" or spec.get("clusterIPs", [])[:1] == ["None"]


def externally_accessible(spec: Spec) -> bool:
    """Whether traffic from outside the cluster reaches it, which is what externalTrafficPolicy is about."""
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check_port(spec: Spec) -> bool:
    """Whether a node port for health checks belongs to it."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def service_causes(service: Object) -> Iterator[Cause]:
    """Yields every fault of a defaulted service."""
    spec = service.get("spec") or {}
    if not spec.get("ports") and not headless(spec) and spec.get("type") != "ExternalName":
        yield required("spec.ports")
    yield from _by_type(spec)
    yield from _ports(spec)
    yield from common.allowed_labels("spec.selector", spec.get("selector") or {})
    yield from _session_affinity(spec)
    yield from address_causes(spec)
    for field, address in common.each(spec.get("externalIPs"), "spec.externalIPs"):
        yield from common.routable(field, address)
    yield from common.one_of("spec.type", spec.get("type", ""), TYPES)
    yield from _node_ports(spec)
    yield from _duplicate_ports(spec)
    yield from _load_balancer(service, spec)
    yield from _traffic(spec)


def _by_type(spec: Spec) -> Iterator[Cause]:
    kind = spec.get("type")
    if kind == "LoadBalancer":
        for field, port in common.each(spec.get("ports"), "spec.ports"):
            if port.get("port") == _KUBELET_PORT:
                text = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
                yield invalid_value(field, _KUBELET_PORT, text)
    if kind in ("LoadBalancer", "NodePort") and headless(spec):
        yield invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind == "ExternalName":
        yield from _external_name(spec)


def _external_name(spec: Spec) -> Iterator[Cause]:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field) or (field == "clusterIPs" and spec.get("clusterIP")):
            yield forbidden_field(f"spec.{field}", _NOT_EXTERNAL_NAME)
    name = spec.get("externalName", "").removesuffix(".")
    if name:
        yield from common.subdomain("spec.externalName", name)
    else:
        yield required("spec.externalName")


def _ports(spec: Spec) -> Iterator[Cause]:
    ports = spec.get("ports") or []
    seen: set[str] = set()
    for field, port in common.each(ports, "spec.ports"):
        yield from _port_name(f"{field}.name", port.get("name", ""), seen, needed=len(ports) > 1)
        yield from common.port_number(f"{field}.port", port.get("port", 0))
        yield from common.one_of(f"{field}.protocol", port.get("protocol", ""), PROTOCOLS)
        yield from common.port_or_name(f"{field}.targetPort", port.get("targetPort", 0))
        if "appProtocol" in port:
            value = port["appProtocol"]
            yield from common.bad(f"{field}.appProtocol", value, names.is_qualified_name(value))


def _port_name(field: str, name: str, seen: set[str], *, needed: bool) -> Iterator[Cause]:
    if not name:
        if needed:
            yield required(field)
        return
    yield from common.label(field, name)
    if name in seen:
        yield duplicate(field, name)
    seen.add(name)


def _session_affinity(spec: Spec) -> Iterator[Cause]:
    affinity = spec.get("sessionAffinity", "")
    yield from common.one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    if affinity == "None" and "sessionAffinityConfig" in spec:
        yield forbidden_field("spec.sessionAffinityConfig", "must not be set when session affinity is None")
    if affinity != "ClientIP":
        return
    where, found = "spec.sessionAffinityConfig", spec
    for step in ("sessionAffinityConfig", "clientIP", "timeoutSeconds"):
        where = where if step == "sessionAffinityConfig" else f"{where}.{step}"
        if step not in found:
            yield required(where, "when session affinity type is ClientIP")
            return
        found = found[step]
    if not 0 < found <= MAX_AFFINITY_SECONDS:  # type: ignore[operator]
        yield invalid_value(where, found, f"must be greater than 0 and less than {MAX_AFFINITY_SECONDS}")


def address_causes(spec: Spec) -> Iterator[Cause]:
    """Yields the faults of clusterIP(s), ipFamilies and ipFamilyPolicy, each by itself and together."""
    if spec.get("type") == "ExternalName":
        return
    addresses, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if (spec.get("clusterIP") or "") != (addresses[0] if addresses else "") and (addresses or "clusterIPs" in spec):
        yield invalid_value("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    if "ipFamilyPolicy" in spec:
        yield from common.one_of("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], _FAMILY_POLICIES)
    yield from _cluster_ips(addresses, families)
    yield from _ip_families(families)


def _cluster_ips(addresses: list[str], families: list[str]) -> Iterator[Cause]:
    if len(addresses) > 2:
        yield invalid_value("spec.clusterIPs", addresses, "may only hold up to 2 values")
    parsed = []
    for i, (field, text) in enumerate(common.each(addresses, "spec.clusterIPs")):
        if text == "None":
            if i or len(addresses) > 1:
                yield invalid_value(field, text, "may not be set to 'None' when more than one cluster IP is given")
            continue
        address = common.address_of(text)
        if address is None:
            yield invalid_value(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
            continue
        parsed.append(address.version)
        if i < len(families) and families[i] in _FAMILIES and families[i] != f"IPv{address.version}":
            yield invalid_value(field, text, f"expected an {families[i]} value as indicated by `ipFamilies[{i}]`")
    if len(parsed) == 2 and parsed[0] == parsed[1]:
        text = "may specify no more than one IP for each IP family"
        yield invalid_value("spec.clusterIPs", addresses, text)


def _ip_families(families: list[str]) -> Iterator[Cause]:
    if len(families) > 2:
        yield invalid_value("spec.ipFamilies", families, "may only hold up to 2 values")
    for i, (field, family) in enumerate(common.each(families, "spec.ipFamilies")):
        yield from common.one_of(field, family, _FAMILIES)
        if family in families[:i]:
            yield duplicate(field, family)


def _node_ports(spec: Spec) -> Iterator[Cause]:
    seen: set[tuple[str, int]] = set()
    for field, port in common.each(spec.get("ports"), "spec.ports"):
        number = port.get("nodePort", 0)
        if number and spec.get("type") == "ClusterIP":
            yield forbidden_field(f"{field}.nodePort", "may not be used when `type` is 'ClusterIP'")
        key = (port.get("protocol", ""), number)
        if number and key in seen:
            yield duplicate(f"{field}.nodePort", number)
        seen.add(key)


def _duplicate_ports(spec: Spec) -> Iterator[Cause]:
    """Upstream shows the key by which it compares: an otherwise empty port in the fields of its internal type."""
    seen: set[tuple[str, int]] = set()
    for field, port in common.each(spec.get("ports"), "spec.ports"):
        protocol, number = port.get("protocol", ""), port.get("port", 0)
        if (protocol, number) in seen:
            shown = {"Name": "", "Protocol": protocol, "AppProtocol": None, "Port": number}
            yield duplicate(field, {**shown, "TargetPort": 0, "NodePort": 0})
        seen.add((protocol, number))


def _load_balancer(service: Object, spec: Spec) -> Iterator[Cause]:
    balanced = spec.get("type") == "LoadBalancer"
    yield from _source_ranges(service, spec, balanced=balanced)
    if "allocateLoadBalancerNodePorts" in spec and not balanced:
        yield forbidden_field("spec.allocateLoadBalancerNodePorts", _ONLY_LOAD_BALANCER)
    if "loadBalancerClass" in spec:
        value = spec["loadBalancerClass"]
        if not balanced:
            yield forbidden_field("spec.loadBalancerClass", _ONLY_LOAD_BALANCER)
        else:
            yield from common.bad("spec.loadBalancerClass", value, names.is_qualified_name(value))


def _source_ranges(service: Object, spec: Spec, *, balanced: bool) -> Iterator[Cause]:
    listed = spec.get("loadBalancerSourceRanges")
    annotation = common.part(service, "metadata", "annotations").get(SOURCE_RANGES)
    if not listed and annotation is None:
        return
    field = "spec.LoadBalancerSourceRanges" if listed else f"metadata.annotations[{SOURCE_RANGES}]"
    if not balanced:
        yield forbidden_field(field, _ONLY_LOAD_BALANCER)
    ranges = listed or [text for text in (annotation or "").split(",") if text.strip()]
    if not all(common.is_cidr(text.strip()) for text in ranges):
        shown = f"[{' '.join(listed)}]" if listed else annotation
        yield invalid_value(field, shown, "must be a list of IP ranges. For example, 10.240.0.0/24,10.250.0.0/24 ")


def _traffic(spec: Spec) -> Iterator[Cause]:
    policy = spec.get("externalTrafficPolicy")
    if policy:
        if not externally_accessible(spec):
            yield invalid_value(
                "spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services"
            )
        if policy not in _TRAFFIC_POLICIES:
            yield not_supported("spec.externalTrafficPolicy", policy, _TRAFFIC_POLICIES)
    yield from _health_check_port(spec)
    internal = spec.get("internalTrafficPolicy")
    if internal is not None:
        yield from common.one_of("spec.internalTrafficPolicy", internal, _TRAFFIC_POLICIES)
    elif spec.get("type") in ("ClusterIP", "LoadBalancer", "NodePort"):
        yield required("spec.internalTrafficPolicy")
    if "trafficDistribution" in spec:
        yield from common.one_of("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTIONS)


def _health_check_port(spec: Spec) -> Iterator[Cause]:
    port = spec.get("healthCheckNodePort", 0)
    if port < 0:
        yield invalid_value("spec.healthCheckNodePort", port, "must be greater than or equal to 0")
    elif port and not needs_health_check_port(spec):
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield invalid_value("spec.healthCheckNodePort", port, text)


def update_causes(new: Object, old: Object) -> Iterator[Cause]:
    """Yields what may not change: the primary address and family, a load balancer's class and health check port."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" not in (after.get("type"), before.get("type")):
        yield from _kept("clusterIPs", "clusterIP", after, before)
        yield from _kept("ipFamilies", "ipFamily", after, before)
    if before.get("type") == after.get("type") == "LoadBalancer" and "loadBalancerClass" in before:
        yield from common.unchanged(
            "spec.loadBalancerClass",
            after.get("loadBalancerClass"),
            before["loadBalancerClass"],
            "may not change once set",
        )
    changed = after.get("healthCheckNodePort") != before.get("healthCheckNodePort")
    if changed and needs_health_check_port(before) and needs_health_check_port(after):
        yield forbidden_field("spec.healthCheckNodePort", common.IMMUTABLE)


def _kept(field: str, singular: str, after: Spec, before: Spec) -> Iterator[Cause]:
    new, old = after.get(field) or [], before.get(field) or []
    if old and not new:
        yield invalid_value(f"spec.{field}[0]", new, f"primary {singular} can not be unset")
    for i, (one, was) in enumerate(zip(new, old, strict=False)):
        if one != was:
            yield invalid_value(f"spec.{field}[{i}]", new, "may not change once set")


def status_causes(service: Object) -> Iterator[Cause]:
    """Yields the faults of a service's status."""
    balanced = common.part(service, "spec").get("type") == "LoadBalancer"
    ingress = common.items(service, "status", "loadBalancer", "ingress")
    if ingress and not balanced:
        yield forbidden_field("status.loadBalancer.ingress", "may only be used when `spec.type` is LoadBalancer")
    for field, point in common.each(ingress, "status.loadBalancer.ingress"):
        if point.get("ip"):
            yield from common.ip_address(f"{field}.ip", point["ip"])
        elif "ipMode" in point:
            yield forbidden_field(f"{field}.ipMode", "may not be specified when `ip` is not set")
        if "ipMode" in point and point.get("ip"):
            yield from common.one_of(f"{field}.ipMode", point["ipMode"], ("Proxy", "VIP"))
        if point.get("hostname"):
            yield from common.subdomain(f"{field}.hostname", point["hostname"])
            if common.address_of(point["hostname"]) is not None:
                yield invalid_value(f"{field}.hostname", point["hostname"], "must be a DNS name, not an IP address")
