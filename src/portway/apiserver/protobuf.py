"""Kubernetes protobuf request bodies → the JSON objects they stand for.

One decoder for every message of `fields`, because kubectl from 1.32 on sends `auth can-i`, `create token` and
`create NOUN` in this encoding and has no fallback. The result is what Go's JSON encoder would print of the decoded
struct: zero values vanish unless the field is a pointer, times are RFC 3339, bytes are base64.

The other direction is `protobufwriter`. Validation isn't here: what comes out is treated like any JSON body.

Source: protobuf.dev/programming-guides/encoding, the generated code of gogo/protobuf, and
k8s.io/apimachinery/pkg/runtime/serializer/protobuf (the envelope).
"""

from __future__ import annotations

import base64
import datetime
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
    Message,
    message_for,
    messages,
    render_time,
)

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

MAX_DEPTH = 64
"""Nesting of messages and groups; the deepest message of the API has 14 levels."""
MAX_MESSAGES = 200_000
"""Messages in one body: an empty one costs two bytes of input and some hundred of memory."""

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_ZEROS: dict[str, Any] = {"string": "", "bytes": "", "bool": False, "int32": 0, "int64": 0, QUANTITY: "0"}


class ProtobufError(Exception):
    """The body isn't a protobuf object of a known kind; the text says why and holds nothing of the body's data."""


class UnknownKindError(ProtobufError):
    """The envelope is sound, but there is no message for its apiVersion and kind."""

    def __init__(self, api_version: str, kind: str) -> None:
        super().__init__(f'no kind "{kind}" is registered for version "{api_version}"')
        self.api_version = api_version
        self.kind = kind


def decode(body: bytes, expected: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """Returns the object in `body`: the four bytes `k8s\\0`, then the message runtime.Unknown that holds it.

    `expected` is the (apiVersion, kind) of one whose envelope leaves them out, as upstream's decoder has its default.
    Raises ProtobufError, and nothing else, for anything that isn't one.
    """
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix 6b 38 73 00")
    raw, api_version, kind = _envelope(body[len(MAGIC) :])
    api_version, kind = api_version or expected[0], kind or expected[1]
    if not api_version or not kind:
        raise ProtobufError("the object has no apiVersion or no kind")
    message = message_for(api_version, kind)
    if message is None:
        raise UnknownKindError(api_version, kind)
    found: dict[str, Any] = {"kind": kind, "apiVersion": api_version}
    _Decoder(raw).message(message, 0, len(raw), found, 0)
    return found


def _envelope(data: bytes) -> tuple[bytes, str, str]:
    """Reads runtime.Unknown by hand, so that the object within isn't turned into base64 and back."""
    decoder = _Decoder(data)
    types: dict[str, Any] = {}
    raw, encoding, content_type = b"", "", ""
    pos = 0
    while pos < len(data):
        number, wire, pos = decoder.tag(pos, len(data))
        if number in (1, 2, 3, 4):
            _expect(wire, BYTES, "runtime.Unknown")
            start, pos = decoder.span(pos, len(data))
            if number == 1:
                decoder.message(messages()["runtime.TypeMeta"], start, pos, types, 0)
            elif number == 2:
                raw = data[start:pos]
            elif number == 3:
                encoding = decoder.text(start, pos)
            else:
                content_type = decoder.text(start, pos)
        else:
            pos = decoder.skip(wire, pos, len(data))
    if encoding or content_type not in ("", MEDIA_TYPE):
        raise ProtobufError("the object within the envelope has an unknown encoding")
    return raw, types.get("apiVersion", ""), types.get("kind", "")


def _expect(wire: int, wanted: int, where: str) -> None:
    if wire != wanted:
        raise ProtobufError(f"wrong wireType = {wire} in {where}")


def _signed(value: int, bits: int) -> int:
    """Two's complement of the low bits, as Go's conversion of a varint to int32 or int64."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class _Decoder:
    """Reads `data`; positions are offsets, `end` is exclusive. Every method raises only ProtobufError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._messages = 0

    def varint(self, pos: int, end: int) -> tuple[int, int]:
        """Returns (unsigned 64-bit value, position after it)."""
        value = shift = 0
        while pos < end and shift < 70:
            byte = self._data[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, pos
            shift += 7
        raise ProtobufError("integer overflow" if shift >= 70 else "unexpected end of data")

    def tag(self, pos: int, end: int) -> tuple[int, int, int]:
        """Returns (field number, wire type, position after the tag)."""
        value, pos = self.varint(pos, end)
        number, wire = value >> 3, value & 7
        if not 0 < number < 1 << 29:
            raise ProtobufError("illegal field number")
        if wire == END_GROUP:
            raise ProtobufError("wiretype end group for non-group")
        return number, wire, pos

    def span(self, pos: int, end: int) -> tuple[int, int]:
        """Returns (start, end) of a length-delimited value."""
        length, pos = self.varint(pos, end)
        if length > end - pos:
            raise ProtobufError("unexpected end of data")
        return pos, pos + length

    def text(self, start: int, end: int) -> str:
        """Returns a string, which must be UTF-8."""
        try:
            return self._data[start:end].decode()
        except UnicodeDecodeError as error:
            raise ProtobufError("a string is not valid UTF-8") from error

    def skip(self, wire: int, pos: int, end: int) -> int:
        """Returns the position after the value of an unknown field (groups with all they hold)."""
        depth = 0
        while True:
            pos, depth = self._skip_one(wire, pos, end, depth)
            if depth == 0:
                return pos
            value, pos = self.varint(pos, end)
            if value >> 3 == 0:
                raise ProtobufError("illegal field number")
            wire = value & 7

    def _skip_one(self, wire: int, pos: int, end: int, depth: int) -> tuple[int, int]:
        if wire == VARINT:
            _, pos = self.varint(pos, end)
        elif wire == BYTES:
            _, pos = self.span(pos, end)
        elif wire in (FIXED64, FIXED32):
            pos += 8 if wire == FIXED64 else 4
        elif wire == GROUP:
            depth += 1
        elif wire == END_GROUP:
            depth -= 1
        else:
            raise ProtobufError(f"illegal wireType {wire}")
        if pos > end:
            raise ProtobufError("unexpected end of data")
        if depth > MAX_DEPTH:
            raise ProtobufError("nested too deeply")
        return pos, depth

    def message(self, message: Message, pos: int, end: int, into: dict[str, Any], depth: int) -> None:
        """Reads a message's fields into `into`; a field that comes again replaces a scalar and extends a message."""
        self._messages += 1
        if depth > MAX_DEPTH or self._messages > MAX_MESSAGES:
            raise ProtobufError("nested too deeply" if depth > MAX_DEPTH else "too many messages")
        while pos < end:
            number, wire, pos = self.tag(pos, end)
            field = message.by_number.get(number)
            if field is None:
                pos = self.skip(wire, pos, end)
            elif field.type in SCALARS and not field.map:
                pos = self._scalar_field(field, wire, pos, end, into)
            else:
                _expect(wire, BYTES, f"{message.name}.{field.name}")
                start, pos = self.span(pos, end)
                self._message_field(field, start, pos, into, depth + 1)

    def _scalar_field(self, field: Field, wire: int, pos: int, end: int, into: dict[str, Any]) -> int:
        numeric = field.type not in ("string", "bytes")
        if field.repeated and numeric and wire == BYTES:
            start, pos = self.span(pos, end)
            self._packed(field, start, pos, into)
            return pos
        _expect(wire, VARINT if numeric else BYTES, field.name)
        value, pos = self._scalar(field.type, pos, end)
        if field.repeated:
            into.setdefault(field.name, []).append(value)
        elif value or field.keeps_zero:
            into[field.name] = value
        else:
            into.pop(field.name, None)
        return pos

    def _packed(self, field: Field, pos: int, end: int, into: dict[str, Any]) -> None:
        values = into.setdefault(field.name, []) if pos < end else []
        while pos < end:
            value, pos = self._scalar(field.type, pos, end)
            values.append(value)

    def _scalar(self, kind: str, pos: int, end: int) -> tuple[Any, int]:
        if kind in ("string", "bytes"):
            start, pos = self.span(pos, end)
            if kind == "string":
                return self.text(start, pos), pos
            return base64.b64encode(self._data[start:pos]).decode(), pos
        value, pos = self.varint(pos, end)
        if kind == "bool":
            return value != 0, pos
        return _signed(value, 32 if kind == "int32" else 64), pos

    def _message_field(self, field: Field, start: int, end: int, into: dict[str, Any], depth: int) -> None:
        if field.map:
            self._map_entry(field, start, end, into.setdefault(field.name, {}), depth)
        elif field.presence == "inline":
            self.message(messages()[field.type], start, end, into, depth)
        elif field.repeated:
            into.setdefault(field.name, []).append(self._value(field.type, start, end, {}, depth))
        else:
            before = into.get(field.name)
            value = self._value(field.type, start, end, before if isinstance(before, dict) else {}, depth)
            if value is not None:
                into[field.name] = value

    def _map_entry(self, field: Field, pos: int, end: int, into: dict[str, Any], depth: int) -> None:
        """Reads one entry: a message with the key as field 1 and the value as field 2, either may be left out."""
        self._messages += 1
        key, value = "", _ZEROS.get(field.type)
        if value is None:
            value = [] if field.type in STRING_LISTS else None if field.type in TIMES else {}
        while pos < end:
            number, wire, pos = self.tag(pos, end)
            if number not in (1, 2):
                pos = self.skip(wire, pos, end)
                continue
            _expect(wire, BYTES, field.name)
            start, pos = self.span(pos, end)
            if number == 1:
                key = self.text(start, pos)
            else:
                value = self._value(field.type, start, pos, {}, depth)
        into[key] = value

    def _value(self, kind: str, start: int, end: int, into: dict[str, Any], depth: int) -> Any:
        """Returns a length-delimited value: a map's string or bytes, a message as a dict, or what JSON has for it."""
        if kind == "string":
            return self.text(start, end)
        if kind == "bytes":
            return base64.b64encode(self._data[start:end]).decode()
        fresh = {} if kind in _SPECIAL else into
        self.message(messages()[kind], start, end, fresh, depth)
        if kind not in _SPECIAL:
            return fresh
        return _special(kind, fresh, empty=start == end)


_SPECIAL = TIMES | RAW_JSON | STRING_LISTS | {QUANTITY, INT_OR_STRING}


def _special(kind: str, parts: dict[str, Any], *, empty: bool) -> Any:
    """The JSON form of the messages that upstream marshals by hand; None for an unset time or empty raw JSON."""
    if kind in TIMES:
        return None if empty else _time(parts, micro=kind == "meta.v1.MicroTime")
    if kind in RAW_JSON:
        return _raw_json(parts.get("raw") or parts.get("Raw") or "")
    if kind == QUANTITY:
        return parts.get("string") or "0"
    if kind == INT_OR_STRING:
        return _int_or_string(parts)
    return parts.get("items", [])


def _time(parts: dict[str, Any], *, micro: bool) -> str:
    seconds, nanos = parts.get("seconds", 0), parts.get("nanos", 0)
    try:
        moment = _EPOCH + datetime.timedelta(seconds=seconds) + datetime.timedelta(microseconds=nanos // 1000)
    except OverflowError as error:
        raise ProtobufError("a time is out of range") from error
    return render_time(moment, micro=micro)


def _int_or_string(parts: dict[str, Any]) -> int | str:
    kind = parts.get("type", 0)
    if kind == 0:
        return int(parts.get("intVal", 0))
    if kind == 1:
        return str(parts.get("strVal", ""))
    raise ProtobufError("impossible IntOrString.Type")


def _raw_json(text: str) -> Any:
    if not text:
        return None
    try:
        return orjson.loads(base64.b64decode(text))
    except orjson.JSONDecodeError as error:
        raise ProtobufError("an embedded object is not JSON") from error
