"""What a request asks for, as authorisation and audit see it: verb, resource, namespace, name.

One parse of method, path and query; nobody derives these a second time. What the attributes allow is ``rbac``'s
business, where the request goes is the gateway's routing. Upstream: ``k8s.io/apiserver/pkg/endpoints/request``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from portway.kube.errors import BadRequest
from portway.kube.names import is_path_segment_name
from portway.kube.quantity import parse_int64
from portway.kube.query import boolean, query_parameters
from portway.kube.selectors import SelectorError, parse_field_selector, parse_label_selector

_VERBS: Final = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
# Path segments right after the version that used to be verbs; gone since 1.10, but still verbs to authorisation.
_LEGACY_VERBS: Final = ("proxy", "watch")
_CONVERSATIONS: Final = ("attach", "exec", "portforward")
_NAMESPACE_SUBRESOURCES: Final = ("status", "finalize")


class BadRequestInfo(BadRequest):
    """A path that starts like a resource request and ends before it names anything."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """One request. For a non-resource request only ``verb`` (the method, lower case) and ``path`` say anything.

    ``name`` is the whole segment, scheme and port included (``https:web:443``). ``verb`` is "" for a method that
    Kubernetes has no verb for: only rules with the verb ``*`` cover it. ``parts`` are the path's segments from the
    resource on. The selectors are raw text, set for list, watch and deletecollection only.
    """

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    resource_request: bool = True
    parts: tuple[str, ...] = ()
    label_selector: str = ""
    field_selector: str = ""


def parse(method: str, path: str, query: str = "") -> Attributes:
    """The attributes of a request. ``path`` is percent-decoded once, ``query`` raw and without its ``?``.

    Raises BadRequestInfo, and nothing else.
    """
    prefix = _api_prefix(path.strip("/").split("/"))
    if prefix is None:
        return Attributes(method.lower(), path=path, resource_request=False)
    group, version, rest = prefix
    verb, rest = _verb(method, path, rest)
    namespace, parts = _namespaced(rest)
    resource, name, subresource = _target(verb, parts)
    label_selector = field_selector = ""
    if not name and verb == "get":
        verb, name, label_selector, field_selector = _collection(query)
    elif not name and verb == "delete":
        verb = "deletecollection"
        label_selector, field_selector = _raw_selectors(query_parameters(query))
    return Attributes(
        verb, group, version, resource, subresource, namespace, name, path, True, parts, label_selector, field_selector
    )


def is_conversation(attributes: Attributes) -> bool:
    """Whether a request talks to a pod over its own connection: exec, attach or portforward."""
    target = (attributes.group, attributes.resource, attributes.verb in _LEGACY_VERBS)
    return target == ("", "pods", False) and attributes.subresource in _CONVERSATIONS


def is_port_forward(attributes: Attributes) -> bool:
    """Whether a request is for a pod's portforward, and nothing below it."""
    return attributes.subresource == "portforward" and is_conversation(attributes) and len(attributes.parts) == 3


def _api_prefix(segments: list[str]) -> tuple[str, str, list[str]] | None:
    """(group, version, the segments behind it); None for a path that names no resource."""
    if len(segments) >= 3 and segments[0] == "api":
        return "", segments[1], segments[2:]
    if len(segments) >= 4 and segments[0] == "apis":
        return segments[1], segments[2], segments[3:]
    return None


def _verb(method: str, path: str, rest: list[str]) -> tuple[str, list[str]]:
    if rest[0] not in _LEGACY_VERBS:
        return _VERBS.get(method, ""), rest
    if len(rest) < 2:
        raise BadRequestInfo(f"unable to determine kind and namespace from url: {path}")
    return rest[0], rest[1:]


def _namespaced(rest: list[str]) -> tuple[str, tuple[str, ...]]:
    """(namespace, parts): a namespace's own status and finalize stay requests for the namespace."""
    if rest[0] != "namespaces" or len(rest) < 2:
        return "", tuple(rest)
    if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
        return rest[1], tuple(rest[2:])
    return rest[1], tuple(rest)


def _target(verb: str, parts: tuple[str, ...]) -> tuple[str, str, str]:
    """(resource, name, subresource). The legacy proxy verb has no subresources: what follows is the backend's."""
    subresource = parts[2] if len(parts) > 2 and verb != "proxy" else ""
    return parts[0], parts[1] if len(parts) > 1 else "", subresource


def _collection(query: str) -> tuple[str, str, str, str]:
    """(verb, name, label selector, field selector) of a GET on a collection."""
    if not query:
        return "list", "", "", ""
    parameters = query_parameters(query)
    verb = "watch" if boolean(parameters.get("watch")) else "list"
    label_selector, field_selector = _raw_selectors(parameters)
    return verb, _selected_name(parameters, label_selector, field_selector), label_selector, field_selector


def _raw_selectors(parameters: dict[str, list[str]]) -> tuple[str, str]:
    return parameters.get("labelSelector", [""])[0], parameters.get("fieldSelector", [""])[0]


def _selected_name(parameters: dict[str, list[str]], label_selector: str, field_selector: str) -> str:
    """The name that ``fieldSelector=metadata.name=x`` pins; "" when any list option does not parse, as upstream."""
    if not field_selector or not all(_is_int64(parameters.get(key)) for key in ("limit", "timeoutSeconds")):
        return ""
    try:
        parse_label_selector(label_selector)
        name = parse_field_selector(field_selector).exact("metadata.name")
    except SelectorError:
        return ""
    return name if name and not is_path_segment_name(name) else ""


def _is_int64(values: list[str] | None) -> bool:
    return not values or parse_int64(values[0]) is not None
