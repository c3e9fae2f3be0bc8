"""The defaults of a Pod's spec, which pod templates will share.

Source: pkg/apis/core/v1/defaults.go and the admission plugins that are always on (DefaultTolerationSeconds, Priority),
as facts. ServiceAccount admission isn't among them: a pod that names no account has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Spec = dict[str, Any]

_FILE_MODE = 0o644
_TOKEN_SECONDS = 3600
_TOLERATION_SECONDS = 300
_UNWELL = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def pod_spec_defaults(spec: Spec) -> None:
    """Fills in a pod's spec, in place."""
    for key, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("enableServiceLinks", True),
    ):
        if spec.get(key) in (None, ""):
            spec[key] = value
    spec.setdefault("securityContext", {})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        # The old name of the field; both are given out.
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in containers_of(spec):
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _volume(volume)


def admission_defaults(spec: Spec) -> None:
    """Fills in what upstream's admission adds when a pod is created or updated."""
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    for key in _UNWELL:
        if not any(_tolerates(toleration, key) for toleration in tolerations):
            toleration = {"key": key, "operator": "Exists", "effect": "NoExecute"}
            tolerations.append({**toleration, "tolerationSeconds": _TOLERATION_SECONDS})


def _tolerates(toleration: dict[str, Any], key: str) -> bool:
    return toleration.get("key", key) in (key, "") and toleration.get("effect", "") in ("", "NoExecute")


def containers_of(spec: Spec) -> Iterator[dict[str, Any]]:
    """Yields the containers of all sorts."""
    for sort in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(sort) or ()


def _container(container: dict[str, Any], *, host_network: bool) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", _pull_policy(container.get("image", "")))
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort"):
            port["hostPort"] = port.get("containerPort", 0)
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if reference is not None:
            reference.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            _probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _handler(hook)
    limits = container["resources"].get("limits")
    if limits:
        requests = container["resources"].setdefault("requests", {})
        for name, quantity in limits.items():
            requests.setdefault(name, quantity)


def _pull_policy(image: str) -> str:
    """Always for the tag "latest", which no tag means; a digest or another tag names an image for good."""
    last = image.rpartition("/")[2]
    if "@" in last:
        return "IfNotPresent"
    _, _, tag = last.partition(":")
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _probe(probe: dict[str, Any]) -> None:
    _handler(probe)
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(key):
            probe[key] = value


def _handler(handler: dict[str, Any]) -> None:
    request = handler.get("httpGet")
    if request is not None:
        request["path"] = request.get("path") or "/"
        request["scheme"] = request.get("scheme") or "HTTP"
    if "grpc" in handler:
        handler["grpc"].setdefault("service", "")


def _volume(volume: dict[str, Any]) -> None:
    if len(volume) <= 1:
        volume["emptyDir"] = {}
    for source in ("configMap", "downwardAPI", "projected", "secret"):
        if source in volume:
            volume[source].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    for projection in (volume.get("projected") or {}).get("sources") or ():
        if "serviceAccountToken" in projection:
            projection["serviceAccountToken"].setdefault("expirationSeconds", _TOKEN_SECONDS)
    for items in (volume.get("downwardAPI"), *((volume.get("projected") or {}).get("sources") or ())):
        for item in _field_items(items):
            item["fieldRef"].setdefault("apiVersion", "v1")


def _field_items(source: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    projected = (source or {}).get("downwardAPI", source) or {}
    for item in projected.get("items") or ():
        if "fieldRef" in item:
            yield item


def qos_class(spec: Spec) -> str:
    """Returns Guaranteed, Burstable or BestEffort from the containers' cpu and memory."""
    asked = False
    guaranteed = True
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        resources = container.get("resources") or {}
        for name in ("cpu", "memory"):
            limit, request = ((resources.get(part) or {}).get(name, "0") for part in ("limits", "requests"))
            asked = asked or limit != "0" or request != "0"
            guaranteed = guaranteed and limit != "0" and limit == request
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
