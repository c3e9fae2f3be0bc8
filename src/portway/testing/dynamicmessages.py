"""The API's messages as google.protobuf knows them, made from the table of fields: an independent reader and writer.

    parsed = parse("core.v1.Pod", raw)
    assert plain("core.v1.Pod", parsed) == {"metadata": {…}, …}

Everything is as it is on the wire: times are seconds and nanos, quantities messages with a string, and what was sent
is there even when it is zero.
"""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from portway.apiserver.fields import Field, Message, messages

_KINDS = descriptor_pb2.FieldDescriptorProto
_LIST = "AnyList"
_SCALARS = {
    "string": _KINDS.TYPE_STRING,
    "bytes": _KINDS.TYPE_BYTES,
    "bool": _KINDS.TYPE_BOOL,
    "int32": _KINDS.TYPE_INT32,
    "int64": _KINDS.TYPE_INT64,
}


def parse(name: str, raw: bytes) -> Any:
    """Returns the google.protobuf message in `raw`; raises its DecodeError."""
    message = message_factory.GetMessageClass(_pool().FindMessageTypeByName(_flat(name)))()
    message.ParseFromString(raw)
    return message


def list_parts(raw: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Returns the metadata of any kind's list message, and its items' messages."""
    message = message_factory.GetMessageClass(_pool().FindMessageTypeByName(_LIST))()
    message.ParseFromString(raw)
    return plain("meta.v1.ListMeta", message.f1), list(message.f2)


def plain(name: str, parsed: Any) -> dict[str, Any]:
    """Returns a parsed message as nested dicts: what is set in it, by field name; embedded messages under their own."""
    found: dict[str, Any] = {}
    for field in messages()[name].by_number.values():
        value = getattr(parsed, _attribute(field))
        if field.map:
            if value:
                found[field.name] = {key: _value(field, value[key]) for key in value}
        elif field.repeated:
            if value:
                found[field.name] = [_value(field, item) for item in value]
        elif parsed.HasField(_attribute(field)):
            found[field.name] = _value(field, value)
    return found


def _value(field: Field, value: Any) -> Any:
    return value if field.type in _SCALARS else plain(field.type, value)


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="kubernetes.proto", syntax="proto2")
    for message in messages().values():
        _describe(file.message_type.add(name=_flat(message.name)), message)
    anything = file.message_type.add(name=_LIST)
    _add(anything, "f1", 1, "meta.v1.ListMeta", repeated=False)
    _add(anything, "f2", 2, "bytes", repeated=True)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _describe(described: Any, message: Message) -> None:
    for field in message.by_number.values():
        if field.map:
            entry = described.nested_type.add(name=f"F{field.number}Entry")
            entry.options.map_entry = True
            _add(entry, "key", 1, "string", repeated=False)
            _add(entry, "value", 2, field.type, repeated=False)
            added = described.field.add(name=_attribute(field), number=field.number, label=_KINDS.LABEL_REPEATED)
            added.type, added.type_name = _KINDS.TYPE_MESSAGE, f".{described.name}.{entry.name}"
        else:
            _add(described, _attribute(field), field.number, field.type, repeated=field.repeated)


def _add(described: Any, name: str, number: int, kind: str, *, repeated: bool) -> None:
    label = _KINDS.LABEL_REPEATED if repeated else _KINDS.LABEL_OPTIONAL
    field = described.field.add(name=name, number=number, label=label, type=_SCALARS.get(kind, _KINDS.TYPE_MESSAGE))
    if kind not in _SCALARS:
        field.type_name = f".{_flat(kind)}"


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _attribute(field: Field) -> str:
    return f"f{field.number}"
