"""Which endpoints a service should have: its pods' addresses and ports, as EndpointSlices say them. Pure.

How they are laid out over slices is `slicing`'s. Conditions, inclusion and ports are upstream's rules.
"""

from collections.abc import Iterable, Mapping

import orjson

from portway.controllers.pods import PodFacts, families, find_port, own_hostname, target_ref
from portway.controllers.slicing import Template, Wish
from portway.kube import objects
from portway.kube.objects import Object

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SLICES_BY = "endpointslice-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
HEADLESS = "service.kubernetes.io/headless"
RESERVED_LABELS = frozenset({SERVICE_NAME, MANAGED_BY, HEADLESS})
"""Labels that say something of the slice; a service's own labels by these names are not copied."""
SAME_ZONE = frozenset({"PreferClose", "PreferSameZone", "PreferSameNode"})
"""Values of a service's trafficDistribution that make for hints."""


def is_headless(service: Object) -> bool:
    spec = service.get("spec") or {}
    return spec.get("clusterIP") == "None" and spec.get("type") != "ExternalName"


def wishes(service: Object, pods: Iterable[PodFacts], zones: Mapping[str, str]) -> list[Wish]:
    """The endpoints of a service by address type and ports; one empty wish for an address type without any.

    `pods` are those that the service selects; `zones` gives the zone of a node by its name.
    """
    found: dict[tuple[str, bytes], Wish] = {}
    members = [pod for pod in sorted(pods, key=lambda pod: pod.name) if not pod.finished]
    for address_type in families(service):
        wished = False
        for pod in members:
            address = pod.addresses.get(address_type)
            if address is None:
                continue
            ports = _ports(service, pod)
            wish = found.setdefault((address_type, orjson.dumps(ports)), Wish(address_type, ports, []))
            wish.endpoints.append(_endpoint(service, pod, address, zones.get(pod.node, "")))
            wished = True
        if not wished:
            found[address_type, b""] = Wish(address_type, [], [])
    return list(found.values())


def template(service: Object, pods: Iterable[PodFacts]) -> Template:
    """What all slices of a service say alike."""
    name = objects.name(service)
    return Template(
        namespace=objects.namespace(service),
        prefix=f"{name}-",
        labels=_labels(service, SLICES_BY),
        owner=owner(service),
        trigger_time=max((pod.ready_since for pod in pods), default=""),
    )


def _labels(service: Object, manager: str) -> dict[str, str]:
    labels = {key: value for key, value in objects.labels(service).items() if key not in RESERVED_LABELS}
    if is_headless(service):
        labels[HEADLESS] = ""
    return labels | {SERVICE_NAME: objects.name(service), MANAGED_BY: manager}


def owner(service: Object) -> Object:
    """The reference to a service; objects in lists don't say their kind."""
    return objects.owner_reference({"apiVersion": "v1", "kind": "Service", "metadata": service["metadata"]})


def _ports(service: Object, pod: PodFacts) -> list[Object]:
    """The service's ports on this pod, those that it has."""
    found = []
    for port in (service.get("spec") or {}).get("ports") or ():
        number = find_port(pod, port)
        if number is not None:
            entry = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
            found.append(entry | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}))
    return found


def _endpoint(service: Object, pod: PodFacts, address: str, zone: str) -> Object:
    spec = service.get("spec") or {}
    ready = bool(spec.get("publishNotReadyAddresses")) or (pod.ready and not pod.terminating)
    endpoint: Object = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": pod.ready, "terminating": pod.terminating},
        "targetRef": target_ref(pod),
    }
    optional = {"hostname": own_hostname(pod, service), "nodeName": pod.node, "zone": zone}
    endpoint |= {key: value for key, value in optional.items() if value}
    hints = _hints(spec.get("trafficDistribution") or "", pod.node, zone) if ready else {}
    return endpoint | ({"hints": hints} if hints else {})


def _hints(distribution: str, node: str, zone: str) -> Object:
    hints: Object = {}
    if distribution in SAME_ZONE and zone:
        hints["forZones"] = [{"name": zone}]
    if distribution == "PreferSameNode" and node:
        hints["forNodes"] = [{"name": node}]
    return hints
