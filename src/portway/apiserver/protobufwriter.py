"""Objects as JSON has them → Kubernetes protobuf, byte for byte as upstream's generated code writes it. Pure.

Each message of `fields` is turned into a list of steps when it is first written: a field's JSON name, what to write
when it isn't there, and how to write a value. Fields go out in the order of their numbers and maps in the order of
their keys; scalars and structs that upstream doesn't keep behind a pointer are written even when they are zero, so
that equal objects have equal bytes. Fields that the table doesn't know are left out.

The other direction is `protobuf`. Which answers take this form is for `negotiation`, what they hold for `render`.
Source: protobuf.dev/programming-guides/encoding; the generated.pb.go of k8s.io/api and k8s.io/apimachinery, their
hand-written Marshal methods of Time, MicroTime, Quantity and IntOrString, and runtime/serializer/protobuf (envelope,
watch frames).
"""

from __future__ import annotations

import base64
import datetime
import functools
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from portway.apiserver.fields import (
    INT_OR_STRING,
    QUANTITY,
    RAW_JSON,
    SCALARS,
    STRING_LISTS,
    TIMES,
    Field,
    message_for,
    messages,
)
from portway.apiserver.protobuf import BYTES, MAGIC, VARINT, ProtobufError

Put = Callable[[Any], bytes]
"""Writes a value; whether with its tag or length is said where one is made."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_GO_ZERO = -62_135_596_800
"""Seconds to the first day of the year 1: Go's zero time, which is written as nothing."""
_UNFIT = (AttributeError, LookupError, OverflowError, TypeError, ValueError)
"""What writing a value of another type than the field's comes down to."""


def encode(obj: dict[str, Any]) -> bytes:
    """Returns an object with its kind and apiVersion as it is sent: the envelope and the message in it.

    Raises ProtobufError when there is no message of its kind, or a value hasn't its field's type.
    """
    api_version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
    return envelope(api_version, kind, write(message_name(api_version, kind), obj))


def message_name(api_version: str, kind: str) -> str:
    """Returns the name of a kind's message; raises ProtobufError when it has none."""
    message = message_for(api_version, kind)
    if message is None:
        raise ProtobufError(f'there is no protobuf form of kind "{kind}" in version "{api_version}"')
    return message.name


def write(name: str, obj: dict[str, Any]) -> bytes:
    """Returns the bytes of a message ("core.v1.Pod"), without envelope; raises ProtobufError."""
    try:
        return _message(name)(obj)
    except _UNFIT as error:
        raise ProtobufError(f"a value does not have the type of its field in {name}: {error}") from error


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    """Returns the four bytes `k8s\\0` and a runtime.Unknown around an object's bytes."""
    return b"%b\x0a%b\x12%b\x1a\x00\x22\x00" % (MAGIC, _sized(_types(api_version, kind)), _sized(raw))


def list_of(metadata: dict[str, Any], items: Iterable[bytes]) -> bytes:
    """Returns the bytes of any kind's list message: ListMeta as field 1, the items (messages already) as field 2."""
    parts = [b"\x0a", _sized(write("meta.v1.ListMeta", metadata))]
    for item in items:
        parts += (b"\x12", _varint(len(item)), item)
    return b"".join(parts)


def frame(type_: str, enveloped: bytes) -> bytes:
    """Returns one event of a watch: its length as four bytes, and a bare WatchEvent around an object's envelope."""
    event = b"\x0a%b\x12%b" % (_sized(type_.encode()), _sized(b"\x0a" + _sized(enveloped)))
    return len(event).to_bytes(4, "big") + event


@functools.cache
def _types(api_version: str, kind: str) -> bytes:
    return b"\x0a%b\x12%b" % (_sized(api_version.encode()), _sized(kind.encode()))


_SMALL = tuple(bytes([value]) for value in range(0x80))


def _varint(value: int) -> bytes:
    """Returns a number as a varint; negative ones in two's complement of 64 bits."""
    if 0 <= value < 0x80:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(raw: bytes) -> bytes:
    return _varint(len(raw)) + raw


@functools.cache
def _message(name: str) -> Put:
    """Returns what writes a message, without tag and length. Its steps are made at the first call."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    steps: list[tuple[str, bytes, Put]] = []
    embedded: list[tuple[int, bytes, Put]] = []

    def put(obj: dict[str, Any]) -> bytes:
        if not steps and not embedded:
            _prepare(name, steps, embedded)
        get = obj.get
        parts = []
        for field, absent, put_field in steps:
            value = get(field)
            parts.append(absent if value is None else put_field(value))
        for place, tag, put_embedded in embedded:
            parts.insert(place, tag + _sized(put_embedded(obj)))
        return b"".join(parts)

    return put


def _prepare(name: str, steps: list[tuple[str, bytes, Put]], embedded: list[tuple[int, bytes, Put]]) -> None:
    """Fills in the steps of a message; embedded messages read the same object, and have their place among the steps."""
    numbered = sorted(messages()[name].by_number.items())
    for place, (_, field) in enumerate(numbered):
        if field.presence == "inline":
            embedded.append((place, _tag(field), _message(field.type)))
        else:
            steps.append((field.name, _absent(field), _field(field)))


def _absent(field: Field) -> bytes:
    """Returns what stands for a field that the object doesn't have."""
    if field.repeated or field.map or field.presence == "optional" or field.type == "bytes":
        return b""
    if field.type in SCALARS:
        return _tag(field) + b"\x00"
    return _tag(field) + _sized(_empty(field.type)) if field.presence == "struct" else b""


def _empty(name: str) -> bytes:
    """Returns the bytes of a message's zero value."""
    if name in TIMES | RAW_JSON | STRING_LISTS:
        return b""
    return _message(name)({QUANTITY: "0", INT_OR_STRING: 0}.get(name, {}))


def _tag(field: Field) -> bytes:
    numeric = field.type in ("bool", "int32", "int64") and not field.map
    return _varint(field.number << 3 | (VARINT if numeric else BYTES))


def _field(field: Field) -> Put:
    """Returns what writes a field with its tags."""
    tag, value = _tag(field), _value(field.type)
    if field.map:
        return _map(tag, value)
    if not field.repeated:
        return lambda given: tag + value(given)

    def put(given: Any) -> bytes:
        if not isinstance(given, list):
            raise TypeError(f"{field.name} is no list")
        return b"".join([tag + value(item) for item in given])

    return put


def _map(tag: bytes, value: Put) -> Put:
    def put(given: Any) -> bytes:
        parts: list[bytes] = []
        for key in sorted(given):
            entry = b"\x0a%b\x12%b" % (_string(key), value(given[key]))
            parts += (tag, _varint(len(entry)), entry)
        return b"".join(parts)

    return put


def _value(kind: str) -> Put:
    """Returns what writes a value of a type, with its length where it has one, without a tag."""
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return scalar
    message = _message(kind)
    return lambda given: _sized(message(given))


def _string(value: str) -> bytes:
    raw = value.encode()
    return _varint(len(raw)) + raw


def _bool(value: bool) -> bytes:
    if not isinstance(value, bool):
        raise TypeError("it is no bool")
    return b"\x01" if value else b"\x00"


_SCALARS: dict[str, Put] = {
    "string": _string,
    "bytes": lambda value: _sized(base64.b64decode(value)),
    "bool": _bool,
    "int32": _varint,
    "int64": _varint,
}


@functools.lru_cache(maxsize=4096)
def _time(value: str, *, micro: bool) -> bytes:
    delta = datetime.datetime.fromisoformat(value) - _EPOCH
    seconds = delta.days * 86_400 + delta.seconds
    nanos = delta.microseconds * 1000 if micro else 0
    if seconds == _GO_ZERO and not nanos:
        return b""
    return b"\x08%b\x10%b" % (_varint(seconds), _varint(nanos))


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00\x1a" + _string(value)
    return b"\x08\x00\x10%b\x1a\x00" % _varint(value)


_SPECIAL: dict[str, Put] = {
    "meta.v1.Time": functools.partial(_time, micro=False),
    "meta.v1.MicroTime": functools.partial(_time, micro=True),
    QUANTITY: lambda value: b"\x0a" + _string(value),
    INT_OR_STRING: _int_or_string,
    **dict.fromkeys(RAW_JSON, lambda value: b"\x0a" + _sized(orjson.dumps(value))),
    **dict.fromkeys(STRING_LISTS, lambda value: b"".join([b"\x0a" + _string(item) for item in value])),
}
"""The messages that upstream marshals by hand, or whose JSON form isn't an object."""
