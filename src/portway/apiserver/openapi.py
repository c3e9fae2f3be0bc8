"""OpenAPI documents: /openapi/v3 with one per group version, and /openapi/v2. Made when first asked for, then kept.

They say what this server does, well enough for `kubectl explain`, for the parameters by which kubectl sees that the
server validates fields and dry-runs, and for generators of clients. `openapischemas` describes the objects,
`openapipaths` the operations, `openapiv2` makes the older form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from portway.apiserver import openapiv2, openapiv2protobuf
from portway.apiserver.http import JSON, Request, Response
from portway.apiserver.kinds.base import Kind, VirtualResource
from portway.apiserver.openapipaths import KindPaths, path_of, virtual_paths
from portway.apiserver.openapischemas import Schema
from portway.apiserver.routing import VirtualKey
from portway.kube.errors import no_route

TITLE = "Kubernetes API, as Portway serves it"
_V2_COMPRESS_BEYOND = 1_399
"""Upstream has another handler for /openapi/v2, which compresses from 1,400 bytes on."""


class OpenApi:
    """The documents of a server with these kinds and virtual resources."""

    def __init__(self, kinds: Sequence[Kind], virtual: Mapping[VirtualKey, VirtualResource], version: str) -> None:
        self._version = version
        self._groups: dict[str, _Group] = {}
        for kind in kinds:
            self._group(kind.group, kind.version).kinds.append(kind)
        for where, resource in virtual.items():
            self._group(where[0], where[1]).virtual.append((where, resource))
        self._documents: dict[str, tuple[bytes, str]] = {}

    def answer(self, path: str, request: Request) -> Response:
        """Answers /openapi/v2, /openapi/v3 or what is below it; raises NotFound."""
        if path == "/openapi/v2":
            return self._v2(request)
        if path != "/openapi/v3" and not path.startswith("/openapi/v3/"):
            raise no_route()
        name = path.removeprefix("/openapi/v3").strip("/")
        if not name:
            paths = {known: {"serverRelativeURL": self._url(known)} for known in sorted(self._groups)}
            return Response(200, orjson.dumps({"paths": paths}))
        if name not in self._groups:
            raise no_route()
        return _cached(request, *self._document(name), JSON)

    def _group(self, group: str, version: str) -> _Group:
        return self._groups.setdefault(path_of(group, version).strip("/"), _Group([], []))

    def _v2(self, request: Request) -> Response:
        protobuf = openapiv2protobuf.wanted(request.headers(b"accept"))
        name = "v2 protobuf" if protobuf else "v2 json"
        if name not in self._documents:
            document = openapiv2.merged([self._made(known) for known in sorted(self._groups)], self._info())
            body = openapiv2protobuf.encoded(document) if protobuf else orjson.dumps(document)
            self._documents[name] = body, _digest(body)
        answer = _cached(request, *self._documents[name], openapiv2protobuf.MEDIA_TYPE if protobuf else JSON)
        answer.compress_beyond = _V2_COMPRESS_BEYOND
        return answer

    def _url(self, name: str) -> str:
        return f"/openapi/v3/{name}?hash={self._document(name)[1]}"

    def _document(self, name: str) -> tuple[bytes, str]:
        if name not in self._documents:
            body = orjson.dumps(self._made(name))
            self._documents[name] = body, _digest(body)
        return self._documents[name]

    def _made(self, name: str) -> dict[str, Any]:
        schemas: dict[str, Schema] = {}
        group = self._groups[name]
        paths = dict(pair for kind in group.kinds for pair in KindPaths(kind, schemas).items())
        paths |= dict(virtual_paths(where, resource, schemas) for where, resource in group.virtual)
        return {
            "openapi": "3.0.0",
            "info": self._info(),
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": dict(sorted(schemas.items()))},
        }

    def _info(self) -> dict[str, str]:
        return {"title": TITLE, "version": self._version}


@dataclass(frozen=True, slots=True)
class _Group:
    """What is served below one group version's path."""

    kinds: list[Kind]
    virtual: list[tuple[VirtualKey, VirtualResource]]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest().upper()


def _cached(request: Request, body: bytes, digest: str, content_type: str) -> Response:
    headers = [(b"etag", f'"{digest}"'.encode()), (b"vary", b"Accept")]
    if f'"{digest}"' in request.headers(b"if-none-match"):
        return Response(304, b"", content_type, headers)
    return Response(200, body, content_type, headers)
