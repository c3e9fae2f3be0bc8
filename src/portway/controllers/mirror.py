"""Hand-made Endpoints as EndpointSlices, so that whoever reads slices sees them too. Pure."""

from collections.abc import Iterator

import orjson

from portway.controllers.desired import MANAGED_BY, RESERVED_LABELS, SERVICE_NAME
from portway.controllers.pods import family
from portway.controllers.slicing import TRIGGER_TIME, Template, Wish
from portway.kube import objects
from portway.kube.objects import Object

MIRRORED_BY = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_PER_SUBSET = 1000
"""kube-controller-manager's --mirroring-max-endpoints-per-subset default."""


def is_mirrored(endpoints: Object) -> bool:
    """Whether Endpoints are to be mirrored: not those that say no, nor those that are a leader election's lock."""
    return objects.labels(endpoints).get(SKIP) != "true" and LEADER not in objects.annotations(endpoints)


def template(endpoints: Object) -> Template:
    """What all slices made from Endpoints say alike; the Endpoints own them."""
    name = objects.name(endpoints)
    labels = {key: value for key, value in objects.labels(endpoints).items() if key not in RESERVED_LABELS}
    kept = objects.annotations(endpoints).items()
    return Template(
        namespace=objects.namespace(endpoints),
        prefix=f"{name}-",
        labels=labels | {SERVICE_NAME: name, MANAGED_BY: MIRRORED_BY},
        owner=objects.owner_reference({"apiVersion": "v1", "kind": "Endpoints", "metadata": endpoints["metadata"]}),
        annotations={key: value for key, value in kept if key not in (APPLIED, TRIGGER_TIME)},
    )


def wishes(endpoints: Object) -> list[Wish]:
    """The endpoints of each subset by address type; one empty wish when there are none at all.

    Subsets with the same ports are one wish. What is no address is left out, and so is what is beyond 1000 a subset.
    """
    found: dict[tuple[str, bytes], Wish] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [_port(port) for port in subset.get("ports") or ()]
        for address_type in ("IPv4", "IPv6"):
            members = [one for kind, one in _members(subset) if kind == address_type]
            if not members:
                continue
            wish = found.setdefault((address_type, orjson.dumps(ports)), Wish(address_type, ports, []))
            wish.endpoints.extend(members)
    return list(found.values()) or [Wish("IPv4", [], [])]


def _members(subset: Object) -> Iterator[tuple[str, Object]]:
    """(address type, endpoint) of a subset's addresses, the ready ones first."""
    addresses = [(one, True) for one in subset.get("addresses") or ()]
    addresses += [(one, False) for one in subset.get("notReadyAddresses") or ()]
    for address, ready in addresses[:MAX_PER_SUBSET]:
        kind = family(address.get("ip") or "")
        if kind:
            endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
            optional = {key: address.get(key) for key in ("hostname", "targetRef", "nodeName")}
            yield kind, endpoint | {key: value for key, value in optional.items() if value}


def _port(port: Object) -> Object:
    entry = {"name": port.get("name") or "", "port": port["port"], "protocol": port.get("protocol") or "TCP"}
    return entry | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {})
