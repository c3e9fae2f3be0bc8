"""How the fields of a kind merge: structs and maps field by field, lists by key, as sets, or as a whole.

The facts are upstream's `listType`, `listMapKey`, `mapType` and `structType` tags, in data/merge-types.json: per
message and field (the message itself under ""), `set`, `atomic`, `granular` or `map` with the names of the keys. A list
that is not listed there is atomic, any other field granular. Not to be confused with `schema`, which holds what a
strategic merge patch goes by.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Any

from portway.apiserver.fields import (
    INT_OR_STRING,
    QUANTITY,
    RAW_JSON,
    SCALARS,
    STRING_LISTS,
    TIMES,
    Field,
    Message,
    message_for,
    messages,
)
from portway.apiserver.managed.elements import field as step_to

_LEAVES = SCALARS | TIMES | RAW_JSON | STRING_LISTS | {QUANTITY, INT_OR_STRING}
_KEY_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "core.v1.ContainerPort": {"protocol": "TCP"},
    "core.v1.ServicePort": {"protocol": "TCP"},
}
"""What a key of a list's elements is when an element leaves it out."""
_EMBEDDED = frozenset({"metadata", "spec", "status", "source", "deprecatedSource"})
"""The parts of an object that Go holds by value: they are there even when nobody gave them, and so nobody's."""


class Shape(Enum):
    """How the value of a field is put together."""

    LEAF = "leaf"
    """A scalar, or a list or struct that is owned as a whole."""
    STRUCT = "struct"
    MAP = "map"
    LIST = "list"
    """A list whose elements are told apart by keys, or by their value (a set)."""


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """The type of a field. `atomic` leaves are lists, maps and structs, the others scalars.

    `message` names a struct, `element` is the type of a map's values or a list's elements, `keys` what tells these
    apart: their names with their defaults (None = must be given), none for a set.
    """

    shape: Shape
    atomic: bool = False
    message: str = ""
    element: Type | None = None
    keys: Mapping[str, str | None] | None = None

    def field(self, name: str) -> tuple[str, Type]:
        """Returns the step to a struct's field or a map's value, and its type; what is not declared is a leaf."""
        if self.element is not None:
            return step_to(name), self.element
        return _fields(self.message).get(name) or (step_to(name), LEAF)

    @property
    def fields(self) -> Mapping[str, tuple[str, Type]]:
        """The declared fields of a struct, by JSON name."""
        return _fields(self.message)


LEAF = Type(Shape.LEAF)
ATOMIC = Type(Shape.LEAF, atomic=True)


@functools.cache
def merge_types() -> Mapping[str, Mapping[str, str]]:
    """Returns the facts as the data file holds them."""
    text = resources.files("portway.apiserver").joinpath("data/merge-types.json").read_text("utf-8")
    table: dict[str, dict[str, str]] = json.loads(text)
    return table


def extensions(message: str, field: str) -> dict[str, Any]:
    """Returns what OpenAPI says of how a field merges (or, with "", a message)."""
    merges, *keys = merge_types().get(message, {}).get(field, "").split() or [""]
    default = _KEY_DEFAULTS.get(message, {}).get(field)
    found: dict[str, Any] = {} if default is None else {"default": default}
    if not merges:
        return found
    if not field or not messages()[message].by_name[field].repeated:
        return {**found, "x-kubernetes-map-type": merges}
    return {**found, "x-kubernetes-list-type": merges, **({"x-kubernetes-list-map-keys": keys} if keys else {})}


@functools.cache
def type_for(api_version: str, kind: str) -> Type | None:
    """Returns the type of a kind's objects, None when its fields aren't known."""
    message = message_for(api_version, kind)
    return _struct(message.name) if message else None


@functools.cache
def _struct(name: str) -> Type:
    if name in _LEAVES:
        return LEAF
    if merge_types().get(name, {}).get("") == "atomic":
        return ATOMIC
    return Type(Shape.STRUCT, message=name)


@functools.cache
def _fields(name: str) -> Mapping[str, tuple[str, Type]]:
    return {field.name: (step_to(field.name), _type(name, field)) for field in messages()[name].by_name.values()}


def _type(message: str, field: Field) -> Type:
    merges, *keys = merge_types().get(message, {}).get(field.name, "").split() or [""]
    if merges == "atomic" or (field.repeated and merges not in ("map", "set")):
        return ATOMIC
    element = _struct(field.type)
    if field.map:
        return Type(Shape.MAP, element=element)
    if field.repeated:
        defaults = _KEY_DEFAULTS.get(field.type, {})
        return Type(Shape.LIST, element=element, keys={key: defaults.get(key) for key in sorted(keys)})
    return element


@functools.cache
def empty(api_version: str, kind: str) -> Mapping[str, Any]:
    """Returns what upstream's empty object of a kind holds: what a new object is compared with."""
    message = message_for(api_version, kind)
    return _empty(message) if message else {}


def _empty(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in message.by_name.values():
        if field.repeated or field.map:
            if field.presence == "required":
                found[field.name] = None
        elif field.name in _EMBEDDED and field.type not in _LEAVES:
            found[field.name] = _empty(messages()[field.type])
        elif field.presence == "required" and field.type in SCALARS:
            found[field.name] = {"string": "", "bool": False}.get(field.type, 0)
    return found
