"""The legacy Endpoints object of a service: its pods' addresses grouped by the ports they have in common. Pure."""

from collections.abc import Iterable

import orjson

from portway.controllers.desired import HEADLESS, is_headless
from portway.controllers.pods import PodFacts, families, find_port, own_hostname, target_ref
from portway.kube import objects
from portway.kube.objects import Object

MAX_ADDRESSES = 1000
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
ENDPOINTS_BY = "endpoint-controller"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def endpoints(service: Object, pods: Iterable[PodFacts], old: Object | None) -> Object:
    """The Endpoints that a service with these pods should have. `old`, what there is now, keeps its other metadata."""
    members = [pod for pod in pods if _belongs(service, pod)]
    addresses = sorted(((_address(service, pod), pod) for pod in members), key=lambda pair: pair[0]["ip"])
    chosen, truncated = _within_capacity(service, addresses)
    metadata = dict((old or {}).get("metadata") or {})
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != OVER_CAPACITY}
    if truncated:
        annotations[OVER_CAPACITY] = "truncated"
    changed = max((pod.ready_since for pod in members), default="")
    if changed:
        annotations[TRIGGER_TIME] = changed
    labels = {key: value for key, value in objects.labels(service).items() if key != HEADLESS}
    labels |= ({HEADLESS: ""} if is_headless(service) else {}) | {MANAGED_BY: ENDPOINTS_BY}
    metadata |= {"namespace": objects.namespace(service), "name": objects.name(service), "labels": labels}
    if annotations or metadata.get("annotations"):
        metadata["annotations"] = annotations
    subsets = _subsets(service, chosen)
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata} | ({"subsets": subsets} if subsets else {})


def differ(old: Object, new: Object) -> bool:
    """Whether Endpoints have to be written. When the last change was is no reason of its own."""
    sides = [
        (
            one.get("subsets") or [],
            objects.labels(one),
            {key: value for key, value in objects.annotations(one).items() if key != TRIGGER_TIME},
        )
        for one in (old, new)
    ]
    return sides[0] != sides[1]


def _belongs(service: Object, pod: PodFacts) -> bool:
    if pod.finished or families(service)[0] not in pod.addresses:
        return False
    return not pod.terminating or bool((service.get("spec") or {}).get("publishNotReadyAddresses"))


def _address(service: Object, pod: PodFacts) -> Object:
    address: Object = {"ip": pod.addresses[families(service)[0]]}
    optional = {"hostname": own_hostname(pod, service), "nodeName": pod.node}
    return address | {key: value for key, value in optional.items() if value} | {"targetRef": target_ref(pod)}


def _is_ready(service: Object, pod: PodFacts) -> bool:
    return pod.ready or bool((service.get("spec") or {}).get("publishNotReadyAddresses"))


Addresses = list[tuple[Object, PodFacts]]


def _within_capacity(service: Object, addresses: Addresses) -> tuple[Addresses, bool]:
    """At most as many addresses as an Endpoints object may have, the ready ones before the others."""
    if len(addresses) <= MAX_ADDRESSES:
        return addresses, False
    ready_first = sorted(addresses, key=lambda pair: not _is_ready(service, pair[1]))
    return ready_first[:MAX_ADDRESSES], True


def _subsets(service: Object, addresses: Addresses) -> list[Object]:
    """One subset for each set of ports, ready and other addresses apart; sorted, so that equal content is equal."""
    grouped: dict[bytes, Object] = {}
    for address, pod in addresses:
        ports = _ports(service, pod)
        if ports is None:
            continue
        subset = grouped.setdefault(orjson.dumps(ports), {})
        subset.setdefault("addresses" if _is_ready(service, pod) else "notReadyAddresses", []).append(address)
        if ports:
            subset["ports"] = ports
    return [grouped[key] for key in sorted(grouped)]


def _ports(service: Object, pod: PodFacts) -> list[Object] | None:
    """The service's ports on this pod; None when it has ports and the pod has none of them."""
    wanted = (service.get("spec") or {}).get("ports") or []
    found = []
    for port in wanted:
        number = find_port(pod, port)
        if number is not None:
            entry = {"name": port["name"]} if port.get("name") else {}
            entry |= {"port": number, "protocol": port.get("protocol") or "TCP"}
            found.append(entry | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {}))
    return None if wanted and not found else found
