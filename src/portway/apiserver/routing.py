"""Request attributes → what is asked for: a stored kind or a virtual resource, its verb, namespace, name. Pure.

The attributes are the ones that the door authorised; nothing is derived from the URL a second time here. The verb
decides the handler (`handlers`); paths that name no resource are `app`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portway.apiserver.kinds.base import Kind, VirtualResource
from portway.kube.attributes import Attributes
from portway.kube.errors import method_not_allowed, no_route

_COLLECTION = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}
_NAMED = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_STATUS = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch"}

_KUBELETS = ("attach", "ephemeralcontainers", "exec", "log", "resize")
"""Subresources of pods that only a kubelet could serve."""

VirtualKey = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """One request to a stored kind. `verb` is get, list, watch, create, update, patch, delete or deletecollection."""

    kind: Kind
    verb: str
    namespace: str
    name: str
    subresource: str


@dataclass(frozen=True, slots=True)
class VirtualRoute:
    """One request to a resource that isn't stored; `name` is the parent's for a subresource."""

    resource: VirtualResource
    namespace: str
    name: str


class Router:
    """All that is served under /api and /apis."""

    def __init__(self, kinds: Sequence[Kind], virtual: Mapping[VirtualKey, VirtualResource]) -> None:
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in kinds}
        self._virtual = dict(virtual)

    def route(self, method: str, attributes: Attributes) -> Route | VirtualRoute:
        """Returns what a request asks for; raises NotFound (no such route) or MethodNotAllowed."""
        where = (attributes.group, attributes.version, attributes.resource)
        name = attributes.parts[1] if len(attributes.parts) > 1 else ""
        subresource = attributes.parts[2] if len(attributes.parts) > 2 else ""
        if len(attributes.parts) > 3 or attributes.verb == "proxy":
            raise no_route()
        virtual = self._virtual.get((*where, subresource))
        if virtual is not None:
            return self._virtual_route(virtual, attributes, name)
        kind = self._kinds.get(where)
        if kind is None:
            raise no_route()
        verb = self._verb(method, kind, attributes, name, subresource)
        return Route(kind, verb, attributes.namespace if kind.namespaced else "", name, subresource)

    def _virtual_route(self, virtual: VirtualResource, attributes: Attributes, name: str) -> VirtualRoute:
        if virtual.namespaced != bool(attributes.namespace) or bool(name) != bool(virtual.subresource):
            raise no_route()
        if attributes.verb != "create":
            # Not the method: a POST below /watch/ was authorised as a watch, and would create for whoever may read.
            raise method_not_allowed()
        return VirtualRoute(virtual, attributes.namespace, name)

    def _verb(self, method: str, kind: Kind, attributes: Attributes, name: str, subresource: str) -> str:
        # /namespaces/a/namespaces/b was authorised inside a: only a's own name may stand there.
        own_namespace = kind.plural == "namespaces" and name == attributes.namespace
        if not kind.namespaced and attributes.namespace and not own_namespace:
            raise no_route()
        if kind.namespaced and name and not attributes.namespace:
            raise no_route()
        if attributes.verb == "watch":
            if subresource or method not in ("GET", "HEAD"):
                raise no_route() if subresource else method_not_allowed()
            return "watch"
        verb = self._methods(kind, name, subresource).get(method)
        if verb is None or verb not in kind.verbs:
            raise method_not_allowed()
        if kind.namespaced and not attributes.namespace and verb != "list":
            raise method_not_allowed()
        return verb

    def _methods(self, kind: Kind, name: str, subresource: str) -> Mapping[str, str]:
        if not name:
            return _COLLECTION
        if not subresource:
            return _NAMED
        if subresource in kind.written:
            return _STATUS
        if subresource == "finalize" and kind.group == "" and kind.plural == "namespaces":
            return {"PUT": "update"}
        if kind.group == "" and kind.plural == "pods" and subresource in _KUBELETS:
            raise no_route(f"pods/{subresource} is not served: no kubelet runs this cluster's pods")
        raise no_route()
