"""What makes an Ingress or an IngressClass valid: one function a concern, in upstream's order and words.

Source: pkg/apis/networking/validation, as facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portway.apiserver.kinds import common
from portway.kube import names
from portway.kube.errors import Cause, forbidden_field, invalid_value, not_supported, required, too_long
from portway.kube.ingresses import CLASS_ANNOTATION
from portway.kube.objects import Object

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_NEVER_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F")
_NEVER_AT_THE_END = ("/..", "/.")
_SCOPES = ("Cluster", "Namespace")
_MAX_CONTROLLER = 250
_NOT_AN_IP = "must be a DNS name, not an IP address"

Part = dict[str, Any]


def ingress_causes(ingress: Object) -> Iterator[Cause]:
    """Yields every fault of an Ingress."""
    spec = ingress.get("spec") or {}
    if not spec.get("rules") and "defaultBackend" not in spec:
        yield invalid_value("spec", spec.get("rules") or [], "either `defaultBackend` or `rules` must be specified")
    if "defaultBackend" in spec:
        yield from _backend("spec.defaultBackend", spec["defaultBackend"])
    for field, rule in common.each(spec.get("rules"), "spec.rules"):
        yield from _rule(field, rule)
    for field, tls in common.each(spec.get("tls"), "spec.tls"):
        for where, host in common.each(tls.get("hosts"), f"{field}.hosts"):
            yield from _host(where, host)
        if tls.get("secretName"):
            yield from common.subdomain(f"{field}.secretName", tls["secretName"])
    if "ingressClassName" in spec:
        yield from common.subdomain("spec.ingressClassName", spec["ingressClassName"])


def class_causes_of_new(ingress: Object) -> Iterator[Cause]:
    """Yields a cause when a new Ingress names its class twice, and differently."""
    given = common.part(ingress, "metadata", "annotations").get(CLASS_ANNOTATION)
    named = common.part(ingress, "spec").get("ingressClassName")
    if given is not None and named is not None and given != named:
        text = "must match `ingressClassName` when both are specified"
        yield invalid_value(f"annotations.{CLASS_ANNOTATION}", given, text)


def _host(field: str, host: str) -> Iterator[Cause]:
    check = names.is_wildcard_dns1123_subdomain if "*" in host else names.is_dns1123_subdomain
    yield from common.bad(field, host, check(host))


def _rule(field: str, rule: Part) -> Iterator[Cause]:
    if host := rule.get("host", ""):
        if common.address_of(host) is not None:
            yield invalid_value(f"{field}.host", host, _NOT_AN_IP)
        yield from _host(f"{field}.host", host)
    if "http" not in rule:
        return
    paths = rule["http"].get("paths") or []
    if not paths:
        yield required(f"{field}.http.paths")
    for where, path in common.each(paths, f"{field}.http.paths"):
        yield from _path(where, path)


def _path(field: str, path: Part) -> Iterator[Cause]:
    kind, text = path.get("pathType"), path.get("path", "")
    if kind is None:
        yield required(f"{field}.pathType", "pathType must be specified")
        return
    if kind not in _PATH_TYPES:
        yield not_supported(f"{field}.pathType", kind, _PATH_TYPES)
    else:
        if not text.startswith("/") and (text or kind != "ImplementationSpecific"):
            yield invalid_value(f"{field}.path", text, "must be an absolute path")
        if kind != "ImplementationSpecific":
            yield from common.bad(f"{field}.path", text, _path_faults(text))
    yield from _backend(f"{field}.backend", path.get("backend") or {})


def _path_faults(text: str) -> Iterator[str]:
    yield from (f"must not contain '{part}'" for part in _NEVER_IN_PATHS if part in text)
    yield from (f"cannot end with '{part}'" for part in _NEVER_AT_THE_END if text.endswith(part))


def _backend(field: str, backend: Part) -> Iterator[Cause]:
    if "resource" in backend and "service" in backend:
        yield invalid_value(field, "", "cannot set both resource and service backends")
    elif "resource" in backend:
        yield from _reference(f"{field}.resource", backend["resource"])
    elif "service" in backend:
        yield from _service(field, backend["service"])
    else:
        yield invalid_value(field, "", "resource or service backend is required")


def _service(field: str, service: Part) -> Iterator[Cause]:
    if service.get("name"):
        yield from common.label(f"{field}.service.name", service["name"])
    else:
        yield required(f"{field}.service.name")
    port = service.get("port") or {}
    name, number = port.get("name", ""), port.get("number", 0)
    if name and number:
        yield invalid_value(field, "", "cannot set both port name & port number")
    elif name:
        yield from common.bad(f"{field}.service.port.name", name, names.is_port_name(name))
    elif number:
        yield from common.port_number(f"{field}.service.port.number", number)
    else:
        yield required(field, "port name or number is required")


def _reference(field: str, reference: Part) -> Iterator[Cause]:
    """A reference to an object of any kind, by group, kind and name."""
    if "apiGroup" in reference:
        yield from common.subdomain(f"{field}.apiGroup", reference["apiGroup"])
    for part in ("kind", "name"):
        if value := reference.get(part, ""):
            yield from common.bad(f"{field}.{part}", value, names.is_path_segment_name(value))
        else:
            yield required(f"{field}.{part}", f"{part} is required")


def status_causes(ingress: Object) -> Iterator[Cause]:
    """Yields the faults of an Ingress's status."""
    points = common.items(ingress, "status", "loadBalancer", "ingress")
    for field, point in common.each(points, "status.loadBalancer.ingress"):
        if point.get("ip"):
            yield from common.ip_address(f"{field}.ip", point["ip"])
        if point.get("hostname"):
            yield from common.subdomain(f"{field}.hostname", point["hostname"])
            if common.address_of(point["hostname"]) is not None:
                yield invalid_value(f"{field}.hostname", point["hostname"], _NOT_AN_IP)


def ingress_class_causes(ingress_class: Object) -> Iterator[Cause]:
    """Yields every fault of an IngressClass."""
    spec = ingress_class.get("spec") or {}
    controller = spec.get("controller", "")
    if len(controller.encode()) > _MAX_CONTROLLER:
        yield too_long("spec.controller", _MAX_CONTROLLER)
    yield from _domain_prefixed("spec.controller", controller)
    if "parameters" in spec:
        yield from _reference("spec.parameters", spec["parameters"])
        yield from _scope("spec.parameters", spec["parameters"])


def _domain_prefixed(field: str, value: str) -> Iterator[Cause]:
    domain, _, path = value.partition("/")
    if not value:
        yield required(field)
    elif not domain or not path:
        yield invalid_value(field, value, 'must be a domain-prefixed path (such as "acme.io/foo")')
    else:
        yield from common.subdomain(field, domain)
        yield from common.bad(field, path, names.is_http_path(path))


def _scope(field: str, parameters: Part) -> Iterator[Cause]:
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        yield required(f"{field}.scope")
    elif scope not in _SCOPES:
        yield not_supported(f"{field}.scope", scope, _SCOPES)
    elif scope == "Cluster" and namespace is not None:
        yield forbidden_field(f"{field}.namespace", "`parameters.scope` is set to 'Cluster'")
    elif scope == "Namespace" and namespace is None:
        yield required(f"{field}.namespace", "`parameters.scope` is set to 'Namespace'")
    elif namespace is not None:
        yield from common.label(f"{field}.namespace", namespace)
