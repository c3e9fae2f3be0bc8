"""Protobuf bodies: a test-side encoder over the same table of fields, round trips, and bytes that are anything."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from portway.apiserver.protobuf import MAGIC, MAX_MESSAGES, ProtobufError, UnknownKindError, decode
from portway.testing.messages import objects_of

KINDS = {
    "v1": ("Pod", "Service", "Secret", "ConfigMap", "Node", "Namespace", "Endpoints", "Event", "ServiceAccount"),
    "apps/v1": ("Deployment", "DeleteOptions"),
    "authentication.k8s.io/v1": ("TokenRequest", "SelfSubjectReview", "TokenReview"),
    "authorization.k8s.io/v1": ("SelfSubjectAccessReview", "SubjectAccessReview", "SelfSubjectRulesReview"),
    "coordination.k8s.io/v1": ("Lease",),
    "discovery.k8s.io/v1": ("EndpointSlice",),
    "events.k8s.io/v1": ("Event",),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "policy/v1": ("PodDisruptionBudget", "Eviction"),
    "rbac.authorization.k8s.io/v1": ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tagged(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def encode_message(message: Message, obj: dict[str, Any]) -> bytes:
    out = bytearray()
    for field in message.by_number.values():
        if field.presence == "inline":
            out += tagged(field.number, encode_message(messages()[field.type], obj))
        elif field.name in obj:
            out += encode_field(field, obj[field.name])
    return bytes(out)


def encode_field(field: Field, value: Any) -> bytes:
    if field.map:
        entries = ((tagged(1, key.encode()), tagged(2, encode_value(field.type, item))) for key, item in value.items())
        return b"".join(tagged(field.number, key + item) for key, item in entries)
    values = value if field.repeated else [value]
    if field.type in ("bool", "int32", "int64"):
        return b"".join(varint(field.number << 3) + varint(int(one)) for one in values)
    return b"".join(tagged(field.number, encode_value(field.type, one)) for one in values)


def encode_value(kind: str, value: Any) -> bytes:
    if kind == "string":
        return str(value).encode()
    if kind == "bytes":
        return base64.b64decode(value)
    if kind in TIMES:
        moment = datetime.datetime.fromisoformat(value)
        seconds = (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(seconds=1)
        return b"\x08" + varint(seconds) + b"\x10" + varint(moment.microsecond * 1000)
    if kind == QUANTITY:
        return tagged(1, value.encode())
    if kind == INT_OR_STRING:
        if isinstance(value, int):
            return b"\x08\x00\x10" + varint(value)
        return b"\x08\x01" + tagged(3, value.encode())
    if kind in RAW_JSON:
        return tagged(1, b'{"a":1}')
    if kind in STRING_LISTS:
        return b"".join(tagged(1, item.encode()) for item in value)
    return encode_message(messages()[kind], value)


def envelope(api_version: str, kind: str, raw: bytes, **more: bytes) -> bytes:
    types = tagged(1, api_version.encode()) + tagged(2, kind.encode())
    return MAGIC + tagged(1, types) + tagged(2, raw) + more.get("encoding", b"") + more.get("after", b"")


def encode(obj: dict[str, Any]) -> bytes:
    message = message_for(obj["apiVersion"], obj["kind"])
    assert message is not None
    return envelope(obj["apiVersion"], obj["kind"], encode_message(message, obj))


@st.composite
def whole_objects(draw: st.DrawFn) -> dict[str, Any]:
    version = draw(st.sampled_from(sorted(KINDS)))
    kind = draw(st.sampled_from(KINDS[version]))
    message = message_for(version, kind)
    assert message is not None
    return {"kind": kind, "apiVersion": version, **draw(objects_of(message, 4))}


@given(whole_objects())
@settings(max_examples=300, deadline=None)
def test_what_is_encoded_comes_back(obj: dict[str, Any]) -> None:
    assert decode(encode(obj)) == obj


@given(st.binary(max_size=80))
@settings(max_examples=300)
def test_any_bytes_raise_only_the_decoders_error(data: bytes) -> None:
    for body in (data, MAGIC + data, envelope("v1", "Pod", data), envelope("meta.k8s.io/v1", "DeleteOptions", data)):
        try:
            decode(body)
        except ProtobufError:
            continue


@given(whole_objects(), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bodies_raise_only_the_decoders_error(obj: dict[str, Any], data: st.DataObject) -> None:
    body = bytearray(encode(obj))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for damaged in (bytes(body), bytes(body[:cut])):
        try:
            decode(damaged)
        except ProtobufError:
            continue


@given(whole_objects(), st.binary(max_size=10))
@settings(max_examples=100, deadline=None)
def test_unknown_fields_are_skipped(obj: dict[str, Any], junk: bytes) -> None:
    message = message_for(obj["apiVersion"], obj["kind"])
    assert message is not None
    unknown = b"".join(
        (
            tagged(3000, junk),
            varint(3001 << 3) + varint(7),
            varint(3002 << 3 | 1) + b"\x01" * 8,
            varint(3003 << 3 | 5) + b"\x01" * 4,
            varint(3004 << 3 | 3) + tagged(9, junk) + varint(5 << 3 | 3) + varint(5 << 3 | 4) + varint(3004 << 3 | 4),
        )
    )
    raw = unknown + encode_message(message, obj) + unknown
    assert decode(envelope(obj["apiVersion"], obj["kind"], raw)) == obj


def pod(spec: bytes) -> dict[str, Any]:
    found = decode(envelope("v1", "Pod", tagged(2, spec)))["spec"]
    assert isinstance(found, dict)
    return found


def test_zero_is_kept_where_go_has_a_pointer_and_nowhere_else() -> None:
    # hostNetwork 11 is a bool, automountServiceAccountToken 21 and terminationGracePeriodSeconds 4 are pointers.
    assert pod(b"\x58\x00" + b"\xa8\x01\x00" + b"\x20\x00") == {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
    }
    assert decode(envelope("v1", "DeleteOptions", b"\x08\x00\x18\x00")) == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "orphanDependents": False,
    }


def test_the_last_scalar_wins_and_messages_are_merged() -> None:
    assert pod(tagged(10, b"a") + tagged(10, b"b")) == {"nodeName": "b"}
    assert pod(tagged(10, b"a") + tagged(10, b"")) == {}
    # PodSecurityContext: runAsUser 2, runAsGroup 6.
    assert pod(tagged(14, b"\x10\x05") + tagged(14, b"\x30\x06")) == {
        "securityContext": {"runAsUser": 5, "runAsGroup": 6}
    }


def test_repeated_numbers_come_packed_or_not() -> None:
    packed, single = tagged(4, varint(1) + varint(2)), b"\x20" + varint(3)
    assert pod(tagged(14, packed + single + tagged(4, b""))) == {"securityContext": {"supplementalGroups": [1, 2, 3]}}


def test_numbers_have_go_s_width_and_sign() -> None:
    # priority 25 is int32, activeDeadlineSeconds 5 is int64.
    assert pod(b"\xc8\x01" + varint(-7) + b"\x28" + varint(-8)) == {"priority": -7, "activeDeadlineSeconds": -8}
    assert pod(b"\xc8\x01" + varint((1 << 32) + 5)) == {"priority": 5}


def test_an_unset_time_is_no_time() -> None:
    assert decode(envelope("v1", "Namespace", tagged(1, tagged(8, b"")))) == {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {},
    }


def test_map_entries_may_lack_key_or_value() -> None:
    entries = tagged(2, b"") + tagged(2, tagged(1, b"k")) + tagged(2, tagged(2, b"v") + tagged(9, b"?"))
    found = decode(envelope("v1", "ConfigMap", entries))
    assert found["data"] == {"": "v", "k": ""}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "does not appear to be a protobuf message"),
        (b"{}", "does not appear to be a protobuf message"),
        (MAGIC, "no apiVersion or no kind"),
        (envelope("v1", "", b""), "no apiVersion or no kind"),
        (envelope("v1", "Nope", b""), 'no kind "Nope" is registered for version "v1"'),
        (envelope("v1", "Pod", b"", encoding=tagged(3, b"gzip")), "unknown encoding"),
        (envelope("v1", "Pod", b"", after=tagged(4, b"text/plain")), "unknown encoding"),
        (envelope("v1", "Pod", b"\x08\x01"), "wrong wireType = 0"),
        (envelope("v1", "Pod", b"\x0a\x05"), "unexpected end"),
        (envelope("v1", "Pod", b"\x0a"), "unexpected end"),
        (envelope("v1", "Pod", b"\x0c"), "end group"),
        (envelope("v1", "Pod", b"\x02\x00"), "illegal field number"),
        (envelope("v1", "Pod", b"\xff" * 11), "overflow"),
        (envelope("v1", "Pod", varint(99 << 3 | 7)), "illegal wireType"),
        (envelope("v1", "Pod", varint(99 << 3 | 3) * 100), "nested too deeply"),
        (envelope("v1", "Pod", tagged(2, tagged(10, b"\xff"))), "not valid UTF-8"),
        (envelope("v1", "Pod", tagged(1, tagged(8, b"\x08" + varint(1 << 50)))), "out of range"),
        (envelope("v1", "Service", tagged(2, tagged(1, tagged(4, b"\x08\x05")))), "IntOrString"),
        (envelope("v1", "Pod", tagged(1, tagged(17, tagged(7, tagged(1, b"{"))))), "not JSON"),
        (envelope("v1", "Pod", tagged(2, tagged(2, b"") * (MAX_MESSAGES + 1))), "too many messages"),
    ],
)
def test_malformed_bodies(body: bytes, why: str) -> None:
    with pytest.raises(ProtobufError, match=why):
        decode(body)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(UnknownKindError) as caught:
        decode(envelope("example.com/v1", "Thing", b""))
    assert (caught.value.api_version, caught.value.kind) == ("example.com/v1", "Thing")


def test_what_kubectl_sends_for_can_i() -> None:
    attributes = tagged(1, b"demo") + tagged(2, b"get") + tagged(5, b"services") + tagged(6, b"proxy")
    raw = tagged(1, b"") + tagged(2, tagged(1, attributes)) + tagged(3, b"\x08\x00")
    found = decode(envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview", raw))
    assert found["spec"] == {
        "resourceAttributes": {"namespace": "demo", "verb": "get", "resource": "services", "subresource": "proxy"}
    }
    assert found["status"] == {"allowed": False}
