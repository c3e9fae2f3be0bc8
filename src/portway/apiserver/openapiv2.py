"""OpenAPI v3 documents → one OpenAPI v2 (Swagger) document, as upstream serves it at /openapi/v2. Pure.

The same operations and objects in the older words: parameters carry their type themselves, a body is a parameter,
schemas are `definitions`, and there is no `oneOf`. `openapiv2protobuf` has the form that kubectl asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Document = dict[str, Any]
_METHODS = ("delete", "get", "patch", "post", "put")
_NEW, _OLD = "#/components/schemas/", "#/definitions/"


def merged(documents: Iterable[Mapping[str, Any]], info: Mapping[str, str]) -> Document:
    """Returns the v2 document that holds what all the v3 documents hold."""
    paths: Document = {}
    definitions: Document = {}
    for document in documents:
        paths |= {path: _item(item) for path, item in document["paths"].items()}
        definitions |= {name: _schema(schema) for name, schema in document["components"]["schemas"].items()}
    return {
        "swagger": "2.0",
        "info": dict(info),
        "paths": dict(sorted(paths.items())),
        "definitions": dict(sorted(definitions.items())),
    }


def _item(item: Mapping[str, Any]) -> Document:
    found: Document = {method: _operation(item[method]) for method in _METHODS if method in item}
    if "parameters" in item:
        found["parameters"] = [_parameter(parameter) for parameter in item["parameters"]]
    return found


def _operation(operation: Mapping[str, Any]) -> Document:
    body = operation.get("requestBody")
    answers = operation["responses"]
    produced = next((list(answer["content"]) for answer in answers.values() if "content" in answer), [])
    kept = {name: value for name, value in operation.items() if name not in ("requestBody", "responses", "parameters")}
    parameters = [_parameter(parameter) for parameter in operation["parameters"]]
    return {
        **kept,
        "schemes": ["https"],
        "consumes": list(body["content"]) if body else ["*/*"],
        "produces": produced,
        "parameters": [*([_body(body)] if body else []), *parameters],
        "responses": {code: _answer(answer) for code, answer in answers.items()},
    }


def _parameter(parameter: Mapping[str, Any]) -> Document:
    kept = {name: value for name, value in parameter.items() if name != "schema"}
    return {**kept, **parameter["schema"]}


def _body(body: Mapping[str, Any]) -> Document:
    sent = next(iter(body["content"].values()))["schema"]
    return {"name": "body", "in": "body", "required": body["required"], "schema": _schema(sent)}


def _answer(answer: Mapping[str, Any]) -> Document:
    found: Document = {"description": answer["description"]}
    if "content" in answer:
        found["schema"] = _schema(next(iter(answer["content"].values()))["schema"])
    return found


def _schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _schema(value) for name, value in schema.items() if name not in ("allOf", "oneOf", "$ref")}
    if "allOf" in schema:
        found |= _schema(schema["allOf"][0])
    if "oneOf" in schema:
        found["type"] = "string"  # quantities, and what is a number or a name
    if "$ref" in schema:
        found["$ref"] = schema["$ref"].replace(_NEW, _OLD)
    return found
