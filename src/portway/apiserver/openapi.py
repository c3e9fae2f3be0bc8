"""OpenAPI documents: /openapi/v3 with one per group version, and /openapi/v2. Made when first asked for, then kept.

They say what this server does: the paths of the stored kinds with their operations, and the parameters by which
kubectl sees that the server validates fields, dry-runs and merges strategically. `openapischemas` describes the kinds,
`openapiv2` makes the older form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from portway.apiserver import openapiv2
from portway.apiserver.http import JSON, Request, Response
from portway.apiserver.kinds.base import Kind
from portway.apiserver.openapischemas import add_kind, group_version_kind
from portway.kube.errors import no_route

_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
_BODIES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_LIST_PARAMETERS = (
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
_WRITE_PARAMETERS = (("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"))
_DELETE_PARAMETERS = (("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string"))


class OpenApi:
    """The documents of a server with these kinds."""

    def __init__(self, kinds: Sequence[Kind], version: str) -> None:
        self._version = version
        self._kinds: dict[str, list[Kind]] = {}
        for kind in kinds:
            self._kinds.setdefault(_path(kind.group, kind.version), []).append(kind)
        self._documents: dict[str, tuple[bytes, str]] = {}

    def answer(self, path: str, request: Request) -> Response:
        """Answers /openapi/v2, /openapi/v3 or what is below it; raises NotFound."""
        if path == "/openapi/v2":
            return self._v2(request)
        if path != "/openapi/v3" and not path.startswith("/openapi/v3/"):
            raise no_route()
        name = path.removeprefix("/openapi/v3").strip("/")
        if not name:
            paths = {known: {"serverRelativeURL": self._url(known)} for known in sorted(self._kinds)}
            return Response(200, orjson.dumps({"paths": paths}))
        if name not in self._kinds:
            raise no_route()
        return _cached(request, *self._document(name), JSON)

    def _v2(self, request: Request) -> Response:
        kinds = [kind for listed in self._kinds.values() for kind in listed]
        protobuf = openapiv2.wants_protobuf(request.headers(b"accept"))
        name = "v2 protobuf" if protobuf else "v2 json"
        if name not in self._documents:
            if protobuf:
                body = openapiv2.as_protobuf(kinds, self._version, _PATCHES)
            else:
                body = orjson.dumps(openapiv2.as_json(kinds, self._version, _PATCHES))
            self._documents[name] = body, _digest(body)
        return _cached(request, *self._documents[name], openapiv2.MEDIA_TYPE if protobuf else JSON)

    def _url(self, name: str) -> str:
        return f"/openapi/v3/{name}?hash={self._document(name)[1]}"

    def _document(self, name: str) -> tuple[bytes, str]:
        if name not in self._documents:
            body = orjson.dumps(_document(name, self._kinds[name], self._version))
            self._documents[name] = body, _digest(body)
        return self._documents[name]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest().upper()


def _cached(request: Request, body: bytes, digest: str, content_type: str) -> Response:
    headers = [(b"etag", f'"{digest}"'.encode()), (b"vary", b"Accept")]
    if f'"{digest}"' in request.headers(b"if-none-match"):
        return Response(304, b"", content_type, headers)
    return Response(200, body, content_type, headers)


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _document(prefix: str, kinds: Iterable[Kind], version: str) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for kind in kinds:
        schema = add_kind(kind, schemas)
        body = {"$ref": schema} if schema else {"type": "object"}
        base = f"/{prefix}/namespaces/{{namespace}}" if kind.namespaced else f"/{prefix}"
        if kind.namespaced:
            paths[f"/{prefix}/{kind.plural}"] = {"get": _operation(kind, "list", body, _LIST_PARAMETERS)}
        paths[f"{base}/{kind.plural}"] = _collection(kind, body)
        paths[f"{base}/{kind.plural}/{{name}}"] = _named(kind, body)
        if kind.has_status:
            status = _named(kind, body)
            del status["delete"]
            paths[f"{base}/{kind.plural}/{{name}}/status"] = status
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes API, as Portway serves it", "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(schemas.items()))},
    }


def _collection(kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": _operation(kind, "list", body, _LIST_PARAMETERS),
        "post": _operation(kind, "post", body, _WRITE_PARAMETERS, _BODIES),
        "delete": _operation(kind, "deletecollection", body, (*_LIST_PARAMETERS, *_DELETE_PARAMETERS)),
        "parameters": _path_parameters(kind, named=False),
    }


def _named(kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": _operation(kind, "get", body, ()),
        "put": _operation(kind, "put", body, _WRITE_PARAMETERS, _BODIES),
        "patch": _operation(kind, "patch", {"type": "object"}, _WRITE_PARAMETERS, _PATCHES),
        "delete": _operation(kind, "delete", body, _DELETE_PARAMETERS),
        "parameters": _path_parameters(kind, named=True),
    }


def _operation(
    kind: Kind, action: str, body: dict[str, Any], parameters: Iterable[tuple[str, str]], media: Sequence[str] = ()
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [kind.api_version],
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": True}} for name, type_ in parameters
        ],
        "responses": {"200": {"description": "OK"}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(kind, kind.kind),
    }
    if media:
        operation["requestBody"] = {"required": True, "content": {name: {"schema": body} for name in media}}
    return operation


def _path_parameters(kind: Kind, *, named: bool) -> list[dict[str, Any]]:
    names = [*(["namespace"] if kind.namespaced else []), *(["name"] if named else [])]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
