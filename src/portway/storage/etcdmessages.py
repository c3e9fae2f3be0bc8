"""The messages of etcd's API that we speak, as a table: their fields' numbers are etcd's published ones.

The classes are built from the table when the module is imported, which takes about a millisecond, and nothing is
generated that somebody would have to regenerate. Fields we never read or write are left out; protobuf skips them.
Source: etcd's rpc.proto, kv.proto (v3.4 and v3.5). Next: `etcdclient.py` sends them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

EQUAL, MOD = 0, 2
"""Compare.result and Compare.target: a key's mod_revision is what is expected."""
DELETE = 1
"""Event.type of a deletion; 0 is a put."""

_PACKAGE = "etcdserverpb"

_MESSAGES: dict[str, str] = {
    "Header": "1 uint64 cluster_id, 2 uint64 member_id, 3 int64 revision",
    "KeyValue": "1 bytes key, 2 int64 create_revision, 3 int64 mod_revision, 4 int64 version, 5 bytes value",
    "Event": "1 int32 type, 2 KeyValue kv",
    "RangeRequest": "1 bytes key, 2 bytes range_end, 3 int64 limit, 4 int64 revision, 8 bool keys_only, "
    "9 bool count_only",
    "RangeResponse": "1 Header header, 2 KeyValue* kvs, 3 bool more, 4 int64 count",
    "PutRequest": "1 bytes key, 2 bytes value",
    "PutResponse": "1 Header header",
    "DeleteRangeRequest": "1 bytes key, 2 bytes range_end, 3 bool prev_kv",
    "DeleteRangeResponse": "1 Header header, 2 int64 deleted, 3 KeyValue* prev_kvs",
    "RequestOp": "1 RangeRequest request_range, 2 PutRequest request_put, 3 DeleteRangeRequest request_delete_range",
    "ResponseOp": "1 RangeResponse response_range, 2 PutResponse response_put, "
    "3 DeleteRangeResponse response_delete_range",
    "Compare": "1 int32 result, 2 int32 target, 3 bytes key, 6 int64? mod_revision",
    "TxnRequest": "1 Compare* compare, 2 RequestOp* success, 3 RequestOp* failure",
    "TxnResponse": "1 Header header, 2 bool succeeded, 3 ResponseOp* responses",
    "CompactionRequest": "1 int64 revision, 2 bool physical",
    "CompactionResponse": "1 Header header",
    "WatchCreateRequest": "1 bytes key, 2 bytes range_end, 3 int64 start_revision, 4 bool progress_notify, "
    "8 bool fragment",
    "WatchRequest": "1 WatchCreateRequest create_request",
    "WatchResponse": "1 Header header, 2 int64 watch_id, 3 bool created, 4 bool canceled, 5 int64 compact_revision, "
    "6 string cancel_reason, 7 bool fragment, 11 Event* events",
    "AuthenticateRequest": "1 string name, 2 string password",
    "AuthenticateResponse": "1 Header header, 2 string token",
    "StatusRequest": "",
    "StatusResponse": "1 Header header, 2 string version, 8 string* errors",
}
"""Message → its fields: number, type, name. `*` is repeated; `?` is sent though it is zero (a member of a oneof)."""

_SCALARS = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
}


def _field(message: Any, text: str) -> None:
    number, kind, name = text.split()
    field = message.field.add(name=name, number=int(number))
    proto = descriptor_pb2.FieldDescriptorProto
    field.label = proto.LABEL_REPEATED if kind.endswith("*") else proto.LABEL_OPTIONAL
    if kind.endswith("?"):
        message.oneof_decl.add(name=f"the_{name}")
        field.oneof_index = len(message.oneof_decl) - 1
    bare = kind.rstrip("*?")
    if bare in _SCALARS:
        field.type = _SCALARS[bare]
    else:
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{bare}"


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in filter(None, fields.split(", ")):
            _field(message, text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


CLASSES = _build()

METHODS: dict[str, tuple[str, str]] = {
    "/etcdserverpb.KV/Range": ("RangeRequest", "RangeResponse"),
    "/etcdserverpb.KV/Txn": ("TxnRequest", "TxnResponse"),
    "/etcdserverpb.KV/Compact": ("CompactionRequest", "CompactionResponse"),
    "/etcdserverpb.Watch/Watch": ("WatchRequest", "WatchResponse"),
    "/etcdserverpb.Auth/Authenticate": ("AuthenticateRequest", "AuthenticateResponse"),
    "/etcdserverpb.Maintenance/Status": ("StatusRequest", "StatusResponse"),
}
"""Method → what goes in and what comes out."""


def message(name: str, /, **fields: Any) -> Any:
    """A message of the table with these fields."""
    return CLASSES[name](**fields)
