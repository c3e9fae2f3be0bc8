"""The OpenAPI v2 document that kubectl up to 1.28 asks for before it sends an object. Pure.

It holds what those versions look for and no more: which kinds can be patched, and that the server validates fields and
dry-runs. Their merge strategies they know themselves. They read nothing but the protobuf form
(github.com/google/gnostic-models, openapiv2/OpenAPIv2.proto); the same content is given as JSON to whoever asks so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from portway.apiserver.kinds.base import Kind

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_ASKED_AS = "application/com.github.proto-openapi.spec.v2"
TITLE = "Kubernetes API, as Portway serves it"
_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation")

# Field numbers of gnostic's messages, named as there.
_DOCUMENT_SWAGGER, _DOCUMENT_INFO, _DOCUMENT_PATHS = 1, 2, 8
_INFO_TITLE, _INFO_VERSION = 1, 2
_PATHS_PATH = 2
_NAMED_NAME, _NAMED_VALUE = 1, 2
_PATH_ITEM_PATCH = 8
_OPERATION_CONSUMES, _OPERATION_PARAMETERS, _OPERATION_EXTENSION = 7, 8, 13
_PARAMETERS_ITEM_PARAMETER, _PARAMETER_NON_BODY, _NON_BODY_QUERY = 1, 2, 3
_QUERY_IN, _QUERY_NAME, _QUERY_TYPE = 2, 4, 6
_ANY_YAML = 2


def wants_protobuf(accept: str) -> bool:
    """Says whether an Accept header asks for the protobuf form."""
    return _ASKED_AS in accept


def as_protobuf(kinds: Iterable[Kind], version: str, patches: Sequence[str]) -> bytes:
    """Returns the document as gnostic's protobuf message Document."""
    info = _text(_INFO_TITLE, TITLE) + _text(_INFO_VERSION, version)
    paths = b"".join(
        _bytes(_PATHS_PATH, _text(_NAMED_NAME, path) + _bytes(_NAMED_VALUE, _path_item(kind, patches)))
        for path, kind in _paths(kinds)
    )
    return _text(_DOCUMENT_SWAGGER, "2.0") + _bytes(_DOCUMENT_INFO, info) + _bytes(_DOCUMENT_PATHS, paths)


def as_json(kinds: Iterable[Kind], version: str, patches: Sequence[str]) -> dict[str, Any]:
    """Returns the document as a JSON object."""
    parameters = [{"name": name, "in": "query", "type": "string"} for name in _PARAMETERS]
    paths = {
        path: {
            "patch": {
                "consumes": list(patches),
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-group-version-kind": _extension(kind),
            }
        }
        for path, kind in _paths(kinds)
    }
    return {"swagger": "2.0", "info": {"title": TITLE, "version": version}, "paths": paths, "definitions": {}}


def _paths(kinds: Iterable[Kind]) -> list[tuple[str, Kind]]:
    found = []
    for kind in kinds:
        base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        namespace = "/namespaces/{namespace}" if kind.namespaced else ""
        found.append((f"{base}{namespace}/{kind.plural}/{{name}}", kind))
    return sorted(found, key=lambda pair: pair[0])


def _extension(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _path_item(kind: Kind, patches: Sequence[str]) -> bytes:
    # JSON is YAML, which is how gnostic keeps the value of an extension.
    value = _bytes(_NAMED_VALUE, _bytes(_ANY_YAML, orjson.dumps(_extension(kind))))
    operation = b"".join(_text(_OPERATION_CONSUMES, media) for media in patches)
    operation += b"".join(_bytes(_OPERATION_PARAMETERS, _query_parameter(name)) for name in _PARAMETERS)
    operation += _bytes(_OPERATION_EXTENSION, _text(_NAMED_NAME, "x-kubernetes-group-version-kind") + value)
    return _bytes(_PATH_ITEM_PATCH, operation)


def _query_parameter(name: str) -> bytes:
    query = _text(_QUERY_IN, "query") + _text(_QUERY_NAME, name) + _text(_QUERY_TYPE, "string")
    non_body = _bytes(_PARAMETER_NON_BODY, _bytes(_NON_BODY_QUERY, query))
    return _bytes(_PARAMETERS_ITEM_PARAMETER, non_body)


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _bytes(number: int, value: bytes) -> bytes:
    """One length-delimited field (protobuf wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
