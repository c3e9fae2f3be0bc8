"""The paths of an OpenAPI v3 document: what can be done to each resource, what is sent and answered. Pure.

Operations are named and tagged as upstream names them (readCoreV1NamespacedPod), since generators make their functions
after those names. Which documents there are is `openapi`'s, what objects look like `openapischemas`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portway.apiserver.kinds.base import Kind, VirtualResource
from portway.apiserver.openapischemas import Schema, add_kind, add_object, component, group_version_kind, reference

Item = dict[str, Any]
Parameters = Sequence[tuple[str, str]]

PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
_LIST: Parameters = (
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
)
_WRITE: Parameters = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_DELETE: Parameters = (("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string"))
_PATCH: Schema = {"$ref": reference("meta.v1.Patch")}
_STATUSES = {"200": "OK", "201": "Created", "202": "Accepted", "401": "Unauthorized"}


class KindPaths:
    """The paths of one stored kind; its schemas are added to `schemas`."""

    def __init__(self, kind: Kind, schemas: dict[str, Schema]) -> None:
        self._kind = kind
        one = add_kind(kind, schemas)
        self._one: Schema = {"$ref": one} if one else {"type": "object"}
        self._list: Schema = {"$ref": f"{one}List"} if one else {"type": "object"}
        self._status = _object("Status", schemas)
        self._options = _object("DeleteOptions", schemas)
        schemas[component("meta.v1.Patch")] = {"type": "object"}
        self._name = f"{'Namespaced' if kind.namespaced else ''}{kind.kind}"

    def items(self) -> Iterator[tuple[str, Item]]:
        """Yields (path, path item)."""
        kind, base = self._kind, path_of(self._kind.group, self._kind.version)
        within = f"{base}/namespaces/{{namespace}}" if kind.namespaced else base
        if kind.namespaced:
            everywhere = self._listing(f"list{_prefix(kind)}{kind.kind}ForAllNamespaces")
            yield f"{base}/{kind.plural}", {"get": everywhere}
        yield f"{within}/{kind.plural}", self._collection()
        yield f"{within}/{kind.plural}/{{name}}", self._named("")
        for part in kind.written:
            yield f"{within}/{kind.plural}/{{name}}/{part}", self._named(part.capitalize())

    def _collection(self) -> Item:
        return {
            "get": self._listing(f"list{_prefix(self._kind)}{self._name}"),
            "post": self._operation("post", "create", "", _WRITE, self._one, ("200", "201", "202"), _BODIES),
            "delete": self._operation(
                "deletecollection", "delete", "", (*_LIST, *_DELETE), self._status, ("200",), collection=True
            ),
            "parameters": _path_parameters(namespaced=self._kind.namespaced, named=False),
        }

    def _named(self, subresource: str) -> Item:
        one, written = self._one, ("200", "201")
        item: Item = {
            "get": self._operation("get", "read", subresource, (), one, ("200",)),
            "put": self._operation("put", "replace", subresource, _WRITE, one, written, _BODIES),
            "patch": self._operation(
                "patch", "patch", subresource, (*_WRITE, ("force", "boolean")), one, written, PATCHES
            ),
            "parameters": _path_parameters(namespaced=self._kind.namespaced, named=True),
        }
        if not subresource:
            deleted = one if self._kind.returns_deleted else self._status
            item["delete"] = self._operation("delete", "delete", "", _DELETE, deleted, ("200", "202"))
        return item

    def _listing(self, name: str) -> Item:
        answer = _answers(("200",), self._list, (*_BODIES, *_STREAMS))
        return {**self._head("list", _LIST, name), "responses": answer}

    def _operation(
        self,
        action: str,
        verb: str,
        subresource: str,
        parameters: Parameters,
        answer: Schema,
        codes: Sequence[str],
        media: Sequence[str] = (),
        *,
        collection: bool = False,
    ) -> Item:
        name = f"{verb}{_prefix(self._kind)}{'Collection' if collection else ''}{self._name}{subresource}"
        operation = {**self._head(action, parameters, name), "responses": _answers(codes, answer, _BODIES)}
        if media:
            sent = _PATCH if action == "patch" else self._one
            operation["requestBody"] = _body(sent, media, required=True)
        elif verb == "delete":
            operation["requestBody"] = _body(self._options, _BODIES, required=False)
        return operation

    def _head(self, action: str, parameters: Parameters, name: str) -> Item:
        kind = self._kind
        return {
            "operationId": name,
            "tags": [_tag(kind.group, kind.version)],
            "parameters": _query_parameters(parameters),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": group_version_kind(kind.group, kind.version, kind.kind),
        }


def virtual_paths(
    where: tuple[str, str, str, str], resource: VirtualResource, schemas: dict[str, Schema]
) -> tuple[str, Item]:
    """Returns (path, path item) of a resource that is answered and never stored; `where` is its key in the table."""
    group, version, plural, subresource = where
    name = add_object(resource.group, resource.version, resource.kind, schemas)
    body: Schema = {"$ref": reference(name)} if name else {"type": "object"}
    parts = ["Namespaced" if resource.namespaced else "", resource.kind]
    if subresource:
        parts = ["Namespaced", _PARENTS.get(plural, plural.capitalize()), subresource.capitalize()]
    operation = {
        "operationId": f"create{_camel(group, version)}{''.join(parts)}",
        "tags": [_tag(group, version)],
        "parameters": _query_parameters(_WRITE),
        "requestBody": _body(body, _BODIES, required=True),
        "responses": _answers(("200", "201", "202"), body, _BODIES),
        "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind": group_version_kind(resource.group, resource.version, resource.kind),
    }
    within = f"{path_of(group, version)}{'/namespaces/{namespace}' if resource.namespaced else ''}/{plural}"
    path = f"{within}/{{name}}/{subresource}" if subresource else within
    parameters = _path_parameters(namespaced=resource.namespaced, named=bool(subresource))
    return path, {"post": operation, "parameters": parameters}


_PARENTS: Mapping[str, str] = {"serviceaccounts": "ServiceAccount"}


def path_of(group: str, version: str) -> str:
    """Returns the path below which a group version is served: "/api/v1", "/apis/discovery.k8s.io/v1"."""
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def _object(name: str, schemas: dict[str, Schema]) -> Schema:
    """The schema of one of meta/v1's own objects."""
    add_object("", "v1", name, schemas)
    return {"$ref": reference(f"meta.v1.{name}")}


def _words(group: str) -> list[str]:
    """ "rbac.authorization.k8s.io" → rbac, authorization."""
    return re.sub(r"\.k8s\.io$", "", group or "core").split(".")


def _camel(group: str, version: str) -> str:
    return "".join(word.capitalize() for word in [*_words(group), version])


def _prefix(kind: Kind) -> str:
    return _camel(kind.group, kind.version)


def _tag(group: str, version: str) -> str:
    first, *others = _words(group)
    return f"{first}{''.join(word.capitalize() for word in others)}_{version}"


def _answers(codes: Sequence[str], schema: Schema, media: Sequence[str]) -> Item:
    content = {name: {"schema": schema} for name in media}
    answers: Item = {code: {"description": _STATUSES[code], "content": content} for code in codes}
    return answers | {"401": {"description": _STATUSES["401"]}}


def _body(schema: Schema, media: Sequence[str], *, required: bool) -> Item:
    return {"required": required, "content": {name: {"schema": schema} for name in media}}


def _query_parameters(parameters: Parameters) -> list[Item]:
    return [{"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": True}} for name, type_ in parameters]


def _path_parameters(*, namespaced: bool, named: bool) -> list[Item]:
    names = [*(["namespace"] if namespaced else []), *(["name"] if named else [])]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
