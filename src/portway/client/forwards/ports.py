"""Objects → which pods serve a port, and under which number. Pure.

A target's pods are `Backend`s. What can never work is a `Hopeless`, in kubectl's words where it has them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from portway.client.forwards.words import NO_UDP
from portway.kube.objects import Object

TERMINAL = ("Succeeded", "Failed")


class Hopeless(Exception):  # noqa: N818 - it says what is the case
    """It cannot work, whatever happens next; one line."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A pod that serves a port. `uid` tells it from its predecessor of the same name; "" when that isn't known."""

    pod: str
    uid: str
    port: int


def service_port(service: Object, remote: str) -> Mapping[str, Any]:
    """The entry of a service's ports that a number or name means. Raises Hopeless."""
    name = service["metadata"]["name"]
    ports = service["spec"].get("ports") or []
    if service["spec"].get("type") == "ExternalName":
        raise Hopeless(f"service {name} has no pods: it is another name for {service['spec'].get('externalName')}")
    key = "port" if remote.isdigit() else "name"
    matching = [one for one in ports if str(one.get(key)) == remote]
    tcp = [one for one in matching if one.get("protocol", "TCP") == "TCP"]
    if matching and not tcp:
        raise Hopeless(f"port {remote} of service {name} is {matching[0]['protocol']}, which {NO_UDP}")
    if not tcp:
        listed = ", ".join(_spoken(one) for one in ports) or "none"
        kind = "service port" if key == "port" else "port named"
        raise Hopeless(f"service {name} does not have a {kind} {remote}; it has {listed}")
    found: Mapping[str, Any] = tcp[0]
    return found


def _spoken(entry: Mapping[str, Any]) -> str:
    name = f" ({entry['name']})" if entry.get("name") else ""
    protocol = "" if entry.get("protocol", "TCP") == "TCP" else f"/{entry['protocol']}"
    return f"{entry['port']}{protocol}{name}"


def of_slices(slices: Iterable[Object], service: Object, entry: Mapping[str, Any]) -> dict[str, Backend]:
    """The ready pods behind a service's port, by name. Endpoints that are no pods can't be forwarded to."""
    found: dict[str, Backend] = {}
    for piece in slices:
        number = _slice_port(piece, service, entry)
        if number is None:
            continue
        for endpoint in piece.get("endpoints") or []:
            target = endpoint.get("targetRef") or {}
            if target.get("kind") != "Pod" or (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            found[target["name"]] = Backend(target["name"], target.get("uid", ""), number)
    return found


def _slice_port(piece: Object, service: Object, entry: Mapping[str, Any]) -> int | None:
    for port in piece.get("ports") or []:
        if (port.get("name") or "") == (entry.get("name") or "") and port.get("protocol", "TCP") == "TCP":
            # A headless service's own port is the pods', whatever its targetPort says: nobody translates it.
            headless = service["spec"].get("clusterIP") == "None"
            return int(entry["port"]) if headless else port.get("port")
    return None


def pod_port(pod: Object, remote: str) -> int:
    """The number of a pod's port. Numbers needn't be declared. Raises Hopeless."""
    spec = pod["spec"]
    declared = [one for group in ("containers", "initContainers") for c in spec.get(group) or [] for one in _ports(c)]
    name = pod["metadata"]["name"]
    if remote.isdigit():
        here = {one.get("protocol", "TCP") for one in declared if one.get("containerPort") == int(remote)}
        if here and "TCP" not in here:
            raise Hopeless(f"port {remote} of pod {name} is {min(here)}, which {NO_UDP}")
        return int(remote)
    named = [one for one in declared if one.get("name") == remote]
    tcp = [one for one in named if one.get("protocol", "TCP") == "TCP"]
    if named and not tcp:
        raise Hopeless(f"port {remote} of pod {name} is {named[0]['protocol']}, which {NO_UDP}")
    if not tcp:
        raise Hopeless(f'Pod "{name}" does not have a named port "{remote}"')
    return int(tcp[0]["containerPort"])


def _ports(container: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = container.get("ports") or []
    return found


def target_port(pod: Object, service: Object, entry: Mapping[str, Any]) -> int:
    """The number that a service's port has in one pod. Raises Hopeless."""
    if service["spec"].get("clusterIP") == "None":
        return int(entry["port"])
    return pod_port(pod, str(entry.get("targetPort") or entry["port"]))


def is_running(pod: Object) -> bool:
    """Whether it can be forwarded to: kubectl's condition, and it is not on its way out."""
    return (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")


def is_ready(pod: Object) -> bool:
    """Whether it takes traffic."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return is_running(pod) and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
