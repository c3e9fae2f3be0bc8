"""What endpoints are made of: the facts about pods and services that matter, and who selects whom. Pure."""

import ipaddress
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from portway.kube import objects
from portway.kube.objects import Object

Port = tuple[str, str]
"""(name, protocol)"""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod as endpoints need it."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    addresses: Mapping[str, str]
    """Its address by family, IPv4 or IPv6: a pod has at most one of each."""
    ports: Mapping[Port, int]
    """The numbers of named ones: of containers, and of init containers that keep running beside them."""
    node: str
    hostname: str
    subdomain: str
    finished: bool
    ready: bool
    ready_since: str
    """When readiness last changed, as the API writes times; "" when it never did."""
    terminating: bool


def pod_facts(obj: Object) -> PodFacts:
    """A v1 Pod's facts."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ips = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")] or [status.get("podIP") or ""]
    ready: Object = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    return PodFacts(
        namespace=objects.namespace(obj),
        name=objects.name(obj),
        uid=objects.uid(obj),
        labels={sys.intern(key): sys.intern(value) for key, value in objects.labels(obj).items()},
        addresses={kind: ip for ip in reversed(ips) if (kind := family(ip))},
        ports=_named_ports(spec),
        node=sys.intern(spec.get("nodeName") or ""),
        hostname=spec.get("hostname") or "",
        subdomain=spec.get("subdomain") or "",
        finished=status.get("phase") in ("Succeeded", "Failed"),
        ready=ready.get("status") == "True",
        ready_since=ready.get("lastTransitionTime") or "",
        terminating=objects.deleting(obj),
    )


def _named_ports(spec: Object) -> Mapping[Port, int]:
    """The first of each name and protocol."""
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    found: dict[Port, int] = {}
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name"):
                found.setdefault((port["name"], port.get("protocol") or "TCP"), port["containerPort"])
    return found


def pod_indexes(pod: PodFacts) -> Iterable[Hashable]:
    """A pod is found by its namespace and by each of its labels."""
    yield pod.namespace
    for label in pod.labels.items():
        yield pod.namespace, *label


def selector(service: Object) -> Mapping[str, str]:
    """A service's selector; empty when its endpoints are somebody else's business (none, or an ExternalName)."""
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def selects_pods(service: Object) -> bool:
    """Whether a service has a selector, be it one that its type makes nothing of."""
    return bool((service.get("spec") or {}).get("selector"))


def service_indexes(service: Object) -> Iterable[Hashable]:
    """A service that selects is found by one pair of its selector: the pods it wants all have it among their labels."""
    chosen = selector(service)
    if chosen:
        yield objects.namespace(service), *min(chosen.items())


def selects(service: Object, pod: PodFacts) -> bool:
    chosen = selector(service)
    return bool(chosen) and chosen.items() <= pod.labels.items()


def find_port(pod: PodFacts, port: Object) -> int | None:
    """The number that a service's port means on a pod; None when the pod has no port by that name and protocol."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    return pod.ports.get((target, port.get("protocol") or "TCP"))


def families(service: Object) -> tuple[str, ...]:
    """The address types of a service: IPv4, IPv6 or both, its primary one first."""
    spec = service.get("spec") or {}
    if spec.get("ipFamilies"):
        return tuple(spec["ipFamilies"])
    return (family(spec.get("clusterIP") or "") or "IPv4",)


def family(address: str) -> str:
    """IPv4 or IPv6; "" for what is no address."""
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def target_ref(pod: PodFacts) -> Object:
    return {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}


def own_hostname(pod: PodFacts, service: Object) -> str:
    """The name under which a pod is found below its headless service; "" when it has none there."""
    return pod.hostname if pod.subdomain == objects.name(service) else ""
