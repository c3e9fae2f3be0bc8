"""OpenAPI v3 schemas of the kinds, from the same table of fields that bodies are checked against. Pure.

Names, types, required fields (data/openapi-required.json: per message, as upstream's document has them) and merge
strategies are facts of the API. The descriptions (data/descriptions.json: per message, "" its own, "*" for fields of
any) are ours, and say what things mean here; of pods and nodes only what services need. The paths around the schemas
are `openapipaths`'.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from portway.apiserver.fields import (
    INT_OR_STRING,
    QUANTITY,
    RAW_JSON,
    STRING_LISTS,
    TIMES,
    Field,
    Message,
    message_for,
    messages,
)
from portway.apiserver.kinds.base import Kind
from portway.apiserver.managed.types import extensions
from portway.apiserver.schema import merge_key

Schema = dict[str, Any]

_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
}
_LEAVES: dict[str, Schema] = {
    **{name: {"type": "string", "format": "date-time"} for name in TIMES},
    **{name: {"type": "object"} for name in RAW_JSON},
    **{name: {"type": "array", "items": {"type": "string"}} for name in STRING_LISTS},
    QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
    INT_OR_STRING: {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}


def reference(name: str) -> str:
    """Returns the place of a message in a document: "core.v1.Pod" → "#/components/schemas/io.k8s.api.core.v1.Pod"."""
    return f"#/components/schemas/{component(name)}"


def component(name: str) -> str:
    """Returns the name of a message's schema, as upstream calls it."""
    package, _, short = name.rpartition(".")
    if package == "meta.v1":
        return f"io.k8s.apimachinery.pkg.apis.meta.v1.{short}"
    if package in ("api.resource", "util.intstr", "runtime"):
        return f"io.k8s.apimachinery.pkg.{package}.{short}"
    return f"io.k8s.api.{package}.{short}"


def add_kind(kind: Kind, found: dict[str, Schema]) -> str | None:
    """Adds the schemas of a kind and of all that it is made of; returns the reference to its own, None without one."""
    name = add_object(kind.group, kind.version, kind.kind, found)
    if name is None:
        return None
    found[component(f"{name}List")] = {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string", **_described("", "apiVersion")},
            "items": {"type": "array", "items": {"$ref": reference(name)}, **_described("", "items")},
            "kind": {"type": "string", **_described("", "kind")},
            "metadata": _field(kind.kind, Field(0, "metadata", "meta.v1.ListMeta", False, False, ""), (), found),
        },
        "required": ["items"],
        "x-kubernetes-group-version-kind": [group_version_kind(kind.group, kind.version, kind.list_kind)],
    }
    return reference(name)


def add_object(group: str, version: str, kind: str, found: dict[str, Schema]) -> str | None:
    """Adds the schema of what has a kind and an apiVersion; returns its message's name, None without one."""
    message = message_for(f"{group}/{version}" if group else version, kind)
    if message is None:
        return None
    top = _add_message(kind, message, (), found)
    own = {name: {"type": "string", **_described("", name)} for name in ("apiVersion", "kind")}
    top["properties"] = {**own, **top["properties"]}
    top["x-kubernetes-group-version-kind"] = [group_version_kind(group, version, kind)]
    return message.name


def group_version_kind(group: str, version: str, kind: str) -> dict[str, str]:
    """Returns the value of x-kubernetes-group-version-kind."""
    return {"group": group, "kind": kind, "version": version}


@functools.cache
def required_fields() -> Mapping[str, Sequence[str]]:
    """Returns the fields that no object may leave out, by message."""
    found: dict[str, list[str]] = _data("openapi-required.json")
    return found


@functools.cache
def descriptions() -> Mapping[str, Mapping[str, str]]:
    """Returns what messages ("") and their fields mean, by message; by "*" what fields mean that have no text there."""
    found: dict[str, dict[str, str]] = _data("descriptions.json")
    return found


def _described(message: str, field: str) -> Schema:
    """The member of a schema that says what it means; nothing for what has no text."""
    text = descriptions().get(message, {}).get(field) or descriptions()["*"].get(field)
    return {"description": text} if text else {}


def _data(name: str) -> Any:
    return json.loads(resources.files("portway.apiserver").joinpath("data", name).read_text("utf-8"))


def _add_message(kind: str, message: Message, path: tuple[str, ...], found: dict[str, Schema]) -> Schema:
    name = component(message.name)
    if name not in found:
        schema: Schema = {"type": "object", **_described(message.name, ""), "properties": {}}
        schema |= extensions(message.name, "")
        found[name] = schema
        for field in sorted(message.by_name.values(), key=lambda field: field.name):
            made = _field(kind, field, (*path, field.name), found)
            made |= _described(message.name, field.name)
            schema["properties"][field.name] = {**made, **extensions(message.name, field.name)}
        if message.name in required_fields():
            schema["required"] = list(required_fields()[message.name])
    return found[name]


def _field(kind: str, field: Field, path: tuple[str, ...], found: dict[str, Schema]) -> Schema:
    schema = dict(_SCALARS.get(field.type) or _LEAVES.get(field.type) or {})
    if not schema:
        _add_message(kind, messages()[field.type], path, found)
        schema = {"allOf": [{"$ref": reference(field.type)}]}
    if field.repeated:
        items = schema["allOf"][0] if "allOf" in schema else schema
        schema = {"type": "array", "items": items}
    elif field.map:
        schema = {"type": "object", "additionalProperties": schema["allOf"][0] if "allOf" in schema else schema}
    info = merge_key(kind, path) if path else None
    if info is not None:
        strategy = ["merge"] if field.repeated and not info.replace else ["replace"] if info.replace else []
        schema["x-kubernetes-patch-strategy"] = ",".join([*strategy, *(["retainKeys"] if info.retain_keys else [])])
        if info.key:
            schema["x-kubernetes-patch-merge-key"] = info.key
    return schema
