"""What makes a Pod valid, and what may change of one.

Volumes and the rarer parts of containers are checked as far as a pod needs them to make sense; what upstream checks of
single cloud volumes isn't.
Source: pkg/apis/core/validation (ValidatePodCreate, ValidatePodUpdate), as facts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.apiserver.kinds.servicerules import PROTOCOLS
from portway.apiserver.order import identity
from portway.kube import names
from portway.kube.errors import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_found_value,
    not_supported,
    required,
)
from portway.kube.objects import Object, parse_quantity

Spec = dict[str, Any]

_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_SAME_CONTAINERS = "pod updates may not add or remove containers"
_IMMUTABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod_spec_causes(spec: Spec, at: str = "spec") -> Iterator[Cause]:
    """Yields every fault of a defaulted pod spec."""
    volumes: set[str] = set()
    for field, volume in common.each(spec.get("volumes"), f"{at}.volumes"):
        yield from _volume(field, volume, volumes)
    if not spec.get("containers"):
        yield required(f"{at}.containers")
    seen: set[str] = set()
    for sort in ("containers", "initContainers"):
        for field, container in common.each(spec.get(sort), f"{at}.{sort}"):
            yield from _container(field, container, volumes, seen)
    if spec.get("restartPolicy") not in _RESTART_POLICIES:
        yield not_supported(f"{at}.restartPolicy", spec.get("restartPolicy", ""), _RESTART_POLICIES)
    if spec.get("dnsPolicy") not in _DNS_POLICIES:
        yield not_supported(f"{at}.dnsPolicy", spec.get("dnsPolicy", ""), _DNS_POLICIES)
    yield from common.allowed_labels(f"{at}.nodeSelector", spec.get("nodeSelector") or {})
    yield from _names(spec, at)
    yield from common.not_negative(f"{at}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        yield from common.within(f"{at}.activeDeadlineSeconds", deadline, 1, 2**31 - 1)
    yield from _aliases(spec, at)
    for field, toleration in common.each(spec.get("tolerations"), f"{at}.tolerations"):
        yield from _toleration(field, toleration)


def _names(spec: Spec, at: str) -> Iterator[Cause]:
    for name in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        if spec.get(name):
            yield from common.subdomain(f"{at}.{name}", spec[name])
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            yield from common.label(f"{at}.{name}", spec[name])
    for field, secret in common.each(spec.get("imagePullSecrets"), f"{at}.imagePullSecrets"):
        yield from common.needed(f"{field}.name", secret.get("name"))


def _aliases(spec: Spec, at: str) -> Iterator[Cause]:
    for field, alias in common.each(spec.get("hostAliases"), f"{at}.hostAliases"):
        yield from common.ip_address(f"{field}.ip", alias.get("ip", ""))
        for where, name in common.each(alias.get("hostnames"), f"{field}.hostnames"):
            yield from common.subdomain(where, name)


def _toleration(field: str, toleration: Spec) -> Iterator[Cause]:
    key, operator = toleration.get("key", ""), toleration.get("operator", "Equal")
    if key:
        yield from common.bad(f"{field}.key", key, names.is_qualified_name(key))
    elif operator != "Exists":
        yield invalid_value(
            f"{field}.operator",
            operator,
            'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        )
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield invalid_value(f"{field}.effect", toleration.get("effect", ""), text)
    if operator not in ("Equal", "Exists", "Lt", "Gt"):
        yield not_supported(f"{field}.operator", operator, ["Equal", "Exists"])
    elif operator == "Exists" and toleration.get("value"):
        yield invalid_value(f"{field}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'")
    if toleration.get("effect"):
        effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        if toleration["effect"] not in effects:
            yield not_supported(f"{field}.effect", toleration["effect"], effects)


def _volume(field: str, volume: Spec, seen: set[str]) -> Iterator[Cause]:
    name = volume.get("name", "")
    if not name:
        yield required(f"{field}.name")
    else:
        yield from common.label(f"{field}.name", name)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
    sources = [key for key in volume if key != "name"]
    if not sources:
        yield required(field, "must specify a volume type")
    for source in sources[1:]:
        yield forbidden_field(f"{field}.{source}", "may not specify more than 1 volume type")
    for source, key in (("secret", "secretName"), ("configMap", "name"), ("hostPath", "path")):
        if source in volume:
            yield from common.needed(f"{field}.{source}.{key}", volume[source].get(key))


def _container(field: str, container: Spec, volumes: set[str], seen: set[str]) -> Iterator[Cause]:
    name, image = container.get("name", ""), container.get("image", "")
    if not name:
        yield required(f"{field}.name")
    else:
        yield from common.label(f"{field}.name", name)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
    if not image:
        yield required(f"{field}.image")
    elif image != image.strip():
        yield invalid_value(f"{field}.image", image, "must not have leading or trailing whitespace")
    for hook, handler in (container.get("lifecycle") or {}).items():
        if hook != "stopSignal":
            yield from _handler(f"{field}.lifecycle.{hook}", handler)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in container:
            yield from _probe(f"{field}.{probe}", container[probe], several=probe == "readinessProbe")
    yield from _container_ports(f"{field}.ports", container)
    yield from _environment(field, container)
    yield from _mounts(field, container, volumes)
    yield from common.one_of(f"{field}.imagePullPolicy", container.get("imagePullPolicy", ""), _PULL_POLICIES)
    yield from _resources(f"{field}.resources", container.get("resources") or {})
    policy = container.get("terminationMessagePolicy")
    if policy not in ("File", "FallbackToLogsOnError"):
        yield not_supported(f"{field}.terminationMessagePolicy", policy, ["FallbackToLogsOnError", "File"])


def _container_ports(at: str, container: Spec) -> Iterator[Cause]:
    seen: set[str] = set()
    for field, port in common.each(container.get("ports"), at):
        name = port.get("name", "")
        if name:
            yield from common.bad(f"{field}.name", name, names.is_port_name(name))
            if name in seen:
                yield duplicate(f"{field}.name", name)
            seen.add(name)
        if not port.get("containerPort"):
            yield required(f"{field}.containerPort")
        else:
            yield from common.port_number(f"{field}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from common.port_number(f"{field}.hostPort", port["hostPort"])
        yield from common.one_of(f"{field}.protocol", port.get("protocol", ""), PROTOCOLS)


def _environment(at: str, container: Spec) -> Iterator[Cause]:
    for field, variable in common.each(container.get("env"), f"{at}.env"):
        name = variable.get("name", "")
        if not name:
            yield required(f"{field}.name")
        elif "=" in name or not name.isascii() or not name.isprintable():
            text = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield invalid_value(f"{field}.name", name, text)
        sources = variable.get("valueFrom")
        if sources is not None and not sources:
            yield invalid_value(
                f"{field}.valueFrom",
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
            )
        elif sources and len(sources) > 1:
            yield invalid_value(f"{field}.valueFrom", "", "may not have more than one field specified at a time")
        if sources and variable.get("value"):
            yield invalid_value(f"{field}.valueFrom", "", "may not be specified when `value` is not empty")
    for field, source in common.each(container.get("envFrom"), f"{at}.envFrom"):
        given = [key for key in ("configMapRef", "secretRef") if key in source]
        if len(given) != 1:
            text = "may not have more than one field specified at a time" if given else ""
            yield invalid_value(field, "", text or "must specify one of: `configMapRef` or `secretRef`")


def _mounts(at: str, container: Spec, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for field, mount in common.each(container.get("volumeMounts"), f"{at}.volumeMounts"):
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{field}.name")
        elif name not in volumes:
            yield not_found_value(f"{field}.name", name)
        if not path:
            yield required(f"{field}.mountPath")
        if path in paths:
            yield invalid_value(f"{field}.mountPath", path, "must be unique")
        paths.add(path)
        if ".." in mount.get("subPath", "").split("/"):
            yield invalid_value(f"{field}.subPath", mount["subPath"], "must not contain '..'")


def _resources(at: str, resources: Spec) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for part, quantities in (("limits", limits), ("requests", requests)):
        for name, quantity in quantities.items():
            if parse_quantity(quantity) < 0:
                yield invalid_value(f"{at}.{part}.{name}", quantity, "must be greater than or equal to 0")
    for name, quantity in requests.items():
        if name in limits and parse_quantity(quantity) > parse_quantity(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{at}.requests", quantity, text)


def _probe(field: str, probe: Spec, *, several: bool) -> Iterator[Cause]:
    yield from _handler(field, probe)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from common.not_negative(f"{field}.{name}", probe.get(name, 0))
    if not several and probe.get("successThreshold", 1) != 1:
        yield invalid_value(f"{field}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(field: str, handler: Spec) -> Iterator[Cause]:
    given = [key for key in ("exec", "httpGet", "tcpSocket", "grpc", "sleep") if key in handler]
    if not given:
        yield required(field, "must specify a handler type")
    for kind in given[1:]:
        yield forbidden_field(f"{field}.{kind}", "may not specify more than 1 handler type")
    if "exec" in handler:
        yield from common.needed(f"{field}.exec.command", handler["exec"].get("command"))
    if "httpGet" in handler:
        yield from common.port_or_name(f"{field}.httpGet.port", handler["httpGet"].get("port", 0))
        scheme = handler["httpGet"].get("scheme", "")
        yield from common.one_of(f"{field}.httpGet.scheme", scheme, ("HTTP", "HTTPS"))
    if "tcpSocket" in handler:
        yield from common.port_or_name(f"{field}.tcpSocket.port", handler["tcpSocket"].get("port", 0))
    if "grpc" in handler:
        yield from common.port_number(f"{field}.grpc.port", handler["grpc"].get("port", 0))


def update_causes(new: Object, old: Object) -> Iterator[Cause]:
    """Yields what may not change of a pod."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    for sort in ("containers", "initContainers"):
        if len(after.get(sort) or ()) != len(before.get(sort) or ()):
            yield forbidden_field(f"spec.{sort}", _SAME_CONTAINERS)
            return
        for field, container in common.each(after.get(sort), f"spec.{sort}"):
            yield from common.needed(f"{field}.image", container.get("image"))
    yield from _deadline(after, before)
    if len(before.get("schedulingGates") or ()) < len(after.get("schedulingGates") or ()):
        yield forbidden_field("spec.schedulingGates", "only deletion is allowed, but found new scheduling gates")
    if not set(map(identity, before.get("tolerations") or ())) <= set(map(identity, after.get("tolerations") or ())):
        yield forbidden_field(
            "spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"
        )
    if _fixed(after, before) != before:
        yield forbidden_field("spec", _IMMUTABLE)


def _deadline(after: Spec, before: Spec) -> Iterator[Cause]:
    new, old = after.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if new is not None and old is not None and new > old:
        text = f"must be less than or equal to previous value {old}"
        yield invalid_value("spec.activeDeadlineSeconds", new, text)
    elif new is None and old is not None:
        yield invalid_value("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")


def _fixed(after: Spec, before: Spec) -> Spec:
    """The new spec with everything that may change as it was before."""
    fixed = copy.deepcopy(after)
    for sort in ("containers", "initContainers"):
        for container, was in zip(fixed.get(sort) or (), before.get(sort) or (), strict=False):
            container["image"] = was.get("image")
    changeable = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if before.get("terminationGracePeriodSeconds", 0) < 0 and after.get("terminationGracePeriodSeconds") == 1:
        changeable.append("terminationGracePeriodSeconds")
    if not before.get("nodeName"):
        changeable.append("nodeName")  # there is no scheduler yet that would bind it
    for key in changeable:
        if key in before:
            fixed[key] = before[key]
        else:
            fixed.pop(key, None)
    return fixed


def status_causes(pod: Object) -> Iterator[Cause]:
    """Yields the faults of a pod's status."""
    status = pod.get("status") or {}
    families: list[int] = []
    for field, entry in common.each(status.get("podIPs"), "status.podIPs"):
        address = common.address_of(entry.get("ip"))
        if address is None:
            yield from common.ip_address(f"{field}.ip" if "ip" in entry else field, entry.get("ip", ""))
        elif address.version in families:
            text = "may specify no more than one IP for each IP family"
            yield invalid_value("status.podIPs", entry["ip"], text)
        else:
            families.append(address.version)
    if status.get("nominatedNodeName"):
        yield from common.subdomain("status.nominatedNodeName", status["nominatedNodeName"])
