"""Kubernetes objects → records. Pure; tolerant of every field that may be absent or null.

The objects come from an API server that has validated them, so a missing field means "default", never an error.
"""

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from portway.client.records import (
    KUBELET_PORT,
    NOT_EXPOSED,
    Endpoint,
    EndpointMap,
    Exposure,
    Node,
    Pod,
    Service,
    ServiceAccount,
    ServicePort,
)
from portway.kube.objects import Object, from_rfc3339

ANNOTATION_PREFIX = "portway.dev/"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
ZONE_LABEL = "topology.kubernetes.io/zone"
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
PORTS_ERROR = "portway.dev/PortsError"
"""The condition on a Service's status that says which of its ports aren't served; after upstream's
LoadBalancerPortsError.
"""
AFFINITY_SECONDS = 10800

PodLookup = Callable[[str, str], Pod | None]

_NOTHING: Mapping[str, str] = MappingProxyType({})


@lru_cache(maxsize=2048)
def _shared(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """The one copy of a tuple that repeats: the pods of one workload all declare the same ports."""
    return value


def service(obj: Object) -> Service:
    """A v1 Service."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    return Service(
        namespace=sys.intern(metadata.get("namespace", "")),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        type=sys.intern(spec.get("type") or "ClusterIP"),
        ports=tuple(map(_service_port, spec.get("ports") or ())),
        cluster_ip=spec.get("clusterIP") or "",
        external_name=spec.get("externalName") or "",
        annotations=_own_annotations(metadata),
        publish_not_ready=bool(spec.get("publishNotReadyAddresses")),
        session_affinity=sys.intern(spec.get("sessionAffinity") or "None"),
        exposure=_exposure(metadata, spec, obj.get("status") or {}),
    )


def _exposure(metadata: Object, spec: Object, status: Object) -> Exposure:
    addresses = tuple(ip for ip in spec.get("clusterIPs") or (spec.get("clusterIP"),) if ip and ip != "None")
    if not addresses:
        return NOT_EXPOSED
    balanced = spec.get("type") == "LoadBalancer"
    ingress = (status.get("loadBalancer") or {}).get("ingress") or () if balanced else ()
    conditions = status.get("conditions") or ()
    return Exposure(
        cluster_ips=addresses,
        load_balancer_ips=tuple(e["ip"] for e in ingress if e.get("ip") and e.get("ipMode") in (None, "VIP")),
        external_ips=tuple(spec.get("externalIPs") or ()),
        source_ranges=_source_ranges(metadata, spec) if balanced else (),
        external_policy=sys.intern(spec.get("externalTrafficPolicy") or "Cluster"),
        internal_policy=sys.intern(spec.get("internalTrafficPolicy") or "Cluster"),
        affinity_seconds=_affinity_seconds(spec),
        health_check_node_port=spec.get("healthCheckNodePort") or 0,
        problem=next((c.get("message") or "?" for c in conditions if c.get("type") == PORTS_ERROR), ""),
    )


def _source_ranges(metadata: Object, spec: Object) -> tuple[str, ...]:
    """The field, else the older annotation of the same meaning (servicehelpers.GetLoadBalancerSourceRanges)."""
    ranges = spec.get("loadBalancerSourceRanges")
    if not ranges:
        ranges = ((metadata.get("annotations") or {}).get(SOURCE_RANGES) or "").split(",")
    return tuple(text.strip() for text in ranges if text.strip())


def _affinity_seconds(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return client.get("timeoutSeconds") or AFFINITY_SECONDS


def _service_port(port: Object) -> ServicePort:
    target = port.get("targetPort") or port["port"]
    return ServicePort(
        name=sys.intern(port.get("name") or ""),
        number=port["port"],
        protocol=sys.intern(port.get("protocol") or "TCP"),
        target_port=sys.intern(target) if isinstance(target, str) else target,
        app_protocol=sys.intern(port.get("appProtocol") or ""),
        node_port=port.get("nodePort") or 0,
    )


def _own_annotations(metadata: Object) -> Mapping[str, str]:
    annotations = metadata.get("annotations") or {}
    own = {key: value for key, value in annotations.items() if key.startswith(ANNOTATION_PREFIX)}
    return MappingProxyType(own) if own else _NOTHING


def slice_service(obj: Object) -> str:
    """Name of the service that an EndpointSlice belongs to; "" when it says none."""
    labels = obj["metadata"].get("labels") or {}
    return str(labels.get(SERVICE_NAME_LABEL, ""))


def slice_endpoints(obj: Object, pod_of: PodLookup) -> EndpointMap:
    """The endpoints of one discovery.k8s.io/v1 EndpointSlice, by port name.

    A port without a number ("all ports") and slices of host names (addressType FQDN) give nothing, as in kube-proxy.
    Strings that the pod's record already has are taken from there: with 50,000 endpoints that is megabytes.
    """
    ports = [(sys.intern(p.get("name") or ""), p["port"]) for p in obj.get("ports") or () if p.get("port")]
    if obj.get("addressType") == "FQDN":
        return {name: () for name, _ in ports}
    endpoints = obj.get("endpoints") or ()
    found: dict[str, list[Endpoint]] = {name: [] for name, _ in ports}
    for endpoint in endpoints:
        if endpoint.get("addresses"):
            _add(found, ports, endpoint, pod_of)
    return {name: tuple(entries) for name, entries in found.items()}


def _add(found: dict[str, list[Endpoint]], ports: list[tuple[str, int]], endpoint: Object, pod_of: PodLookup) -> None:
    """One endpoint of a slice under each of the slice's ports. All of `addresses` are one peer: take the first."""
    address: str = endpoint["addresses"][0]
    pod, pod_namespace = _pod_reference(endpoint.get("targetRef"))
    known = pod_of(pod_namespace, pod) if pod else None
    if known is not None:
        pod = known.name
        address = next((ip for ip in known.ips if ip == address), address)
    ready, serving, terminating = _conditions(endpoint.get("conditions") or {})
    node = sys.intern(endpoint.get("nodeName") or "")
    zones, nodes = _hints(endpoint.get("hints") or {})
    for name, port in ports:
        found[name].append(Endpoint(address, port, ready, serving, terminating, pod, pod_namespace, node, zones, nodes))


def _hints(hints: Object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    zones, nodes = hints.get("forZones") or (), hints.get("forNodes") or ()
    return _shared(tuple(hint["name"] for hint in zones)), _shared(tuple(hint["name"] for hint in nodes))


def _conditions(conditions: Object) -> tuple[bool, bool, bool]:
    """(ready, serving, terminating); unknown means ready, serving as ready, and not terminating, as the API says."""
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    return ready, ready if serving is None else bool(serving), bool(conditions.get("terminating"))


def _pod_reference(reference: Object | None) -> tuple[str, str]:
    """(pod's name, its namespace); ("", "") when the reference is to something else, or to nothing."""
    if not reference or reference.get("kind") not in ("Pod", "", None):
        return "", ""
    return reference.get("name") or "", sys.intern(reference.get("namespace") or "")


def pod(obj: Object) -> Pod:
    """A v1 Pod."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    return Pod(
        namespace=sys.intern(metadata.get("namespace", "")),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        ips=_pod_ips(status),
        ports=_shared(
            tuple(
                (sys.intern(port.get("name") or ""), port["containerPort"])
                for container in spec.get("containers") or ()
                for port in container.get("ports") or ()
            )
        ),
        phase=sys.intern(status.get("phase") or ""),
        deleting=bool(metadata.get("deletionTimestamp")),
        service_account=sys.intern(spec.get("serviceAccountName") or ""),
        deletion_time=_deletion_time(metadata),
    )


def _pod_ips(status: Object) -> tuple[str, ...]:
    ips = tuple(entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip"))
    if ips:
        return ips
    return (status["podIP"],) if status.get("podIP") else ()


def _deletion_time(metadata: Object) -> float:
    text = metadata.get("deletionTimestamp")
    return from_rfc3339(text) if text else 0.0


def node(obj: Object) -> Node:
    """A v1 Node. The port's key is `Port`, capitalised, in the API."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    kubelet = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    return Node(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        addresses=tuple((sys.intern(entry["type"]), entry["address"]) for entry in status.get("addresses") or ()),
        kubelet_port=kubelet.get("Port") or KUBELET_PORT,
        zone=(metadata.get("labels") or {}).get(ZONE_LABEL) or "",
    )


def service_account(obj: Object) -> ServiceAccount:
    """A v1 ServiceAccount."""
    metadata = obj["metadata"]
    return ServiceAccount(
        namespace=sys.intern(metadata.get("namespace", "")),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        deletion_time=_deletion_time(metadata),
    )
