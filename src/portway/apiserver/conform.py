"""A JSON body → the object that upstream's typed decoding would make of it.

Upstream decodes into Go structs: fields it doesn't know are dropped (and named, for `fieldValidation`), null means
unset, zero values vanish where the struct says `omitempty`, and a value of another type is an error. Strategies and
validation rely on it: after `conform` every field of a known kind has its declared type.

Defaults and validation of values come after this, in the kinds' strategies.
Source: sigs.k8s.io/json (the error texts), the UnmarshalJSON methods of Time, Quantity and IntOrString.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
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
    render_time,
)
from portway.kube.quantity import QuantityError, format_quantity

MAX_DEPTH = 64

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_EMPTY_SAYS = "meta.v1.ManagedFieldsEntry"
"""Of what an empty list is not as good as none: it says that all owners of fields be forgotten."""
_RANGES = {"int32": 1 << 31, "int64": 1 << 63}


class MismatchError(Exception):
    """A field's value has another type than the field; the text is Go's ("json: cannot unmarshal …")."""


def conform(api_version: str, kind: str, obj: dict[str, Any]) -> list[str]:
    """Makes `obj` conform to its kind, in place, and returns the paths of the unknown fields that were dropped.

    An object of a kind that isn't known stays as it is. Raises MismatchError.
    """
    message = message_for(api_version, kind)
    if message is None:
        return []
    unknown: list[str] = []
    head: dict[str, Any] = {key: obj.pop(key) for key in ("kind", "apiVersion") if key in obj}
    _conform_message(message, obj, (), unknown, "")
    body = dict(obj)
    obj.clear()
    obj.update(head)
    obj.update(body)
    return unknown


def _conform_message(
    message: Message, obj: dict[str, Any], path: tuple[str, ...], unknown: list[str], where: str
) -> None:
    """`path` holds the field names for error texts; `where` is the same with list positions, for `unknown`."""
    for name in list(obj):
        field = message.by_name.get(name)
        value = obj[name]
        if field is None:
            unknown.append(f"{where}{name}")
            del obj[name]
        elif value is None:
            del obj[name]
        else:
            inner = _Place(message, field, (*path, name), unknown, f"{where}{name}")
            obj[name] = value = inner.conform(value)
            if _vanishes(field, value):
                del obj[name]


def _vanishes(field: Field, value: Any) -> bool:
    """Whether Go's `omitempty` leaves the value out: empty lists and maps, zero scalars; never an empty struct."""
    if field.repeated or field.map or field.type in SCALARS:
        return not value and not field.keeps_zero and field.type != _EMPTY_SAYS
    return value is None


class _Place:
    """One field of one object on the way down."""

    __slots__ = ("_field", "_message", "_path", "_unknown", "_where")

    def __init__(self, message: Message, field: Field, path: tuple[str, ...], unknown: list[str], where: str) -> None:
        self._message, self._field, self._path, self._unknown, self._where = message, field, path, unknown, where

    def conform(self, value: Any) -> Any:
        if self._field.map:
            if not isinstance(value, dict):
                raise self._mismatch(value, whole=True)
            return {key: self._element(item, f"{self._where}.{key}") for key, item in value.items()}
        if self._field.repeated:
            if not isinstance(value, list):
                raise self._mismatch(value, whole=True)
            return [self._element(item, f"{self._where}[{i}]") for i, item in enumerate(value)]
        return self._element(value, self._where)

    def _element(self, value: Any, where: str) -> Any:
        kind = self._field.type
        if value is None:
            return _zero(kind)
        if kind in SCALARS:
            return self._scalar(kind, value)
        if kind in _LEAVES:
            return self._leaf(kind, value)
        if not isinstance(value, dict):
            raise self._mismatch(value)
        if len(self._path) > MAX_DEPTH:
            raise MismatchError("json: exceeded max depth")
        _conform_message(messages()[kind], value, self._path, self._unknown, f"{where}.")
        return value

    def _scalar(self, kind: str, value: Any) -> Any:
        if kind == "bool" or isinstance(value, bool):
            if kind == "bool" and isinstance(value, bool):
                return value
        elif isinstance(value, str):
            if kind in ("string", "bytes"):
                return value if kind == "string" else _bytes(value)
        elif _is_integer(value, _RANGES.get(kind, 0)):
            return int(value)
        raise self._mismatch(value)

    def _leaf(self, kind: str, value: Any) -> Any:
        if kind in RAW_JSON:
            return value
        if kind in STRING_LISTS:
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                return value
            raise self._mismatch(value)
        if kind in TIMES and isinstance(value, str):
            return _time(value, micro=kind == "meta.v1.MicroTime")
        if kind == QUANTITY:
            return _quantity(value)
        if kind == INT_OR_STRING and not isinstance(value, bool):
            if _is_integer(value, _RANGES["int32"]):
                return int(value)
            if isinstance(value, str):
                return value
        raise self._mismatch(value)

    def _mismatch(self, value: Any, *, whole: bool = False) -> MismatchError:
        struct = self._message.name.rpartition(".")[2]
        shown = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}[
            type(value)
        ]
        if shown == "number" and self._field.type in _RANGES and not whole:
            shown = f"number {value}"
        return MismatchError(
            f"json: cannot unmarshal {shown} into Go struct field {struct}.{'.'.join(self._path)}"
            f" of type {_go_type(self._field, whole=whole)}"
        )


_LEAVES = TIMES | RAW_JSON | STRING_LISTS | {QUANTITY, INT_OR_STRING}


def _zero(kind: str) -> Any:
    """What null becomes as a list's element or a map's value."""
    zeros = {"string": "", "bytes": "", "bool": False, "int32": 0, "int64": 0, QUANTITY: "0", INT_OR_STRING: 0}
    if kind in zeros:
        return zeros[kind]
    return [] if kind in STRING_LISTS else None if kind in TIMES | RAW_JSON else {}


def _go_type(field: Field, *, whole: bool) -> str:
    """The Go type that didn't fit: the list's or map's (`whole`), or its element's."""
    package, _, name = field.type.rpartition(".")
    element = {"bytes": "[]uint8", INT_OR_STRING: "int32"}.get(field.type)
    if element is None:
        element = f"{package.rpartition('.')[2]}.{name}" if package else name
    if not whole:
        return element
    return f"map[string]{element}" if field.map else f"[]{element}"


def _is_integer(value: Any, limit: int) -> bool:
    """Whether it is a number in [-limit, limit) without a fraction (1e3 and 2.0 have none)."""
    return isinstance(value, int | float) and value == value // 1 and -limit <= value < limit


def _bytes(value: str) -> str:
    """Base64 in Go's standard encoding (line breaks are allowed), given back in canonical form."""
    compact = value.replace("\n", "").replace("\r", "")
    try:
        return base64.b64encode(base64.b64decode(compact, validate=True)).decode()
    except (binascii.Error, ValueError) as error:
        bad = next(
            (i for i, c in enumerate(value) if not re.fullmatch(r"[A-Za-z0-9+/=\r\n]", c)), len(compact) // 4 * 4
        )
        raise MismatchError(f"illegal base64 data at input byte {bad}") from error


def _time(value: str, *, micro: bool) -> str:
    try:
        if _TIME.fullmatch(value):
            return render_time(datetime.datetime.fromisoformat(value), micro=micro)
    except (ValueError, OverflowError):
        pass
    raise MismatchError(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"')


def _quantity(value: Any) -> str:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    try:
        if isinstance(text, str):
            return format_quantity(text)
    except QuantityError as error:
        raise MismatchError(str(error)) from error
    raise MismatchError(f"json: cannot unmarshal {type(value).__name__} into a quantity")
