"""The OpenAPI v2 document as gnostic's protobuf message, which is how every kubectl asks for it. Pure.

kubectl up to 1.28 looks at the patch operations before it sends an object: which kinds have them, and that the server
validates fields and dry-runs. `kubectl explain --output=plaintext-openapiv2` and its likes read the definitions. So
these two are what the message holds; `openapiv2` has all of it as JSON.
Source: github.com/google/gnostic-models, openapiv2/OpenAPIv2.proto, for the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_ASKED_AS = "application/com.github.proto-openapi.spec.v2"

# Field numbers of gnostic's messages, named as there.
_DOCUMENT_SWAGGER, _DOCUMENT_INFO, _DOCUMENT_PATHS, _DOCUMENT_DEFINITIONS = 1, 2, 8, 9
_INFO_TITLE, _INFO_VERSION = 1, 2
_PATHS_PATH = 2
_NAMED_NAME, _NAMED_VALUE = 1, 2
_PATH_ITEM_PATCH = 8
_OPERATION_CONSUMES, _OPERATION_PARAMETERS, _OPERATION_EXTENSION = 7, 8, 13
_PARAMETERS_ITEM_PARAMETER, _PARAMETER_NON_BODY, _NON_BODY_QUERY = 1, 2, 3
_QUERY_IN, _QUERY_NAME, _QUERY_TYPE = 2, 4, 6
_ANY_YAML = 2
_DEFINITIONS_NAMED = 1
_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "description": 4}
_SCHEMA_REQUIRED, _SCHEMA_ADDITIONAL, _SCHEMA_TYPE, _SCHEMA_ITEMS, _SCHEMA_PROPERTIES, _SCHEMA_EXTENSION = (
    19,
    21,
    22,
    23,
    25,
    31,
)
_FIRST = 1
"""The only field that the wrappers of a type, of items, of properties and of additional properties have here."""


def wanted(accept: str) -> bool:
    """Says whether an Accept header asks for this form."""
    return _ASKED_AS in accept


def encoded(document: Mapping[str, Any]) -> bytes:
    """Returns an OpenAPI v2 document (JSON values) as gnostic's message Document."""
    info = _text(_INFO_TITLE, document["info"]["title"]) + _text(_INFO_VERSION, document["info"]["version"])
    paths = b"".join(
        _bytes(_PATHS_PATH, _named(path, _bytes(_PATH_ITEM_PATCH, _operation(item["patch"]))))
        for path, item in document["paths"].items()
        if "patch" in item and path.endswith("/{name}")
    )
    definitions = _schemas(_DEFINITIONS_NAMED, document["definitions"])
    return b"".join(
        (
            _text(_DOCUMENT_SWAGGER, document["swagger"]),
            _bytes(_DOCUMENT_INFO, info),
            _bytes(_DOCUMENT_PATHS, paths),
            _bytes(_DOCUMENT_DEFINITIONS, definitions),
        )
    )


def _operation(operation: Mapping[str, Any]) -> bytes:
    consumes = b"".join(_text(_OPERATION_CONSUMES, media) for media in operation["consumes"])
    queries = [parameter for parameter in operation["parameters"] if parameter["in"] == "query"]
    parameters = b"".join(_bytes(_OPERATION_PARAMETERS, _query_parameter(query)) for query in queries)
    return consumes + parameters + _extensions(_OPERATION_EXTENSION, operation)


def _query_parameter(parameter: Mapping[str, Any]) -> bytes:
    query = _text(_QUERY_IN, "query") + _text(_QUERY_NAME, parameter["name"]) + _text(_QUERY_TYPE, parameter["type"])
    non_body = _bytes(_PARAMETER_NON_BODY, _bytes(_NON_BODY_QUERY, query))
    return _bytes(_PARAMETERS_ITEM_PARAMETER, non_body)


def _schemas(number: int, schemas: Mapping[str, Any]) -> bytes:
    """Named schemas, each as field `number`."""
    return b"".join(_bytes(number, _named(name, _schema(schema))) for name, schema in schemas.items())


def _schema(schema: Mapping[str, Any]) -> bytes:
    found = b"".join(_text(number, schema[name]) for name, number in _SCHEMA_TEXTS.items() if name in schema)
    found += b"".join(_text(_SCHEMA_REQUIRED, name) for name in schema.get("required", ()))
    if "additionalProperties" in schema:
        found += _bytes(_SCHEMA_ADDITIONAL, _bytes(_FIRST, _schema(schema["additionalProperties"])))
    if "type" in schema:
        found += _bytes(_SCHEMA_TYPE, _text(_FIRST, schema["type"]))
    if "items" in schema:
        found += _bytes(_SCHEMA_ITEMS, _bytes(_FIRST, _schema(schema["items"])))
    if "properties" in schema:
        found += _bytes(_SCHEMA_PROPERTIES, _schemas(_FIRST, schema["properties"]))
    return found + _extensions(_SCHEMA_EXTENSION, schema)


def _extensions(number: int, holder: Mapping[str, Any]) -> bytes:
    # JSON is YAML, which is how gnostic keeps the value of an extension.
    found: Iterable[tuple[str, Any]] = ((name, value) for name, value in holder.items() if name.startswith("x-"))
    return b"".join(_bytes(number, _named(name, _bytes(_ANY_YAML, orjson.dumps(value)))) for name, value in found)


def _named(name: str, value: bytes) -> bytes:
    return _text(_NAMED_NAME, name) + _bytes(_NAMED_VALUE, value)


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
