"""Objects → protobuf: there and back, the same bytes for the same object, and google.protobuf as the judge."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.apiserver.conform import conform
from portway.apiserver.fields import INT_OR_STRING, QUANTITY, RAW_JSON, SCALARS, STRING_LISTS, TIMES, Field, messages
from portway.apiserver.protobuf import MAGIC, ProtobufError, decode
from portway.apiserver.protobufwriter import encode, envelope, frame, list_of, write
from portway.testing.dynamicmessages import parse, plain
from portway.testing.messages import objects_of

NAMES = sorted(messages())
OBJECTS = [
    name for name in NAMES if name.split(".")[-2].startswith("v1") and name not in TIMES | RAW_JSON | STRING_LISTS
]
"""The messages that an envelope can name: all but Quantity, IntOrString, those of the envelope itself, and leaves."""
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
ZEROS: dict[str, Any] = {"string": "", "bool": False, "int32": 0, "int64": 0, QUANTITY: "0", INT_OR_STRING: 0}
VALUES: dict[str, Any] = {
    "string": "é",
    "bytes": "/w==",
    "bool": True,
    "int32": -(2**31),
    "int64": 2**63 - 1,
    QUANTITY: "100m",
    INT_OR_STRING: 8080,
    "meta.v1.Time": "1969-12-31T23:59:59Z",
    "meta.v1.MicroTime": "2026-11-26T10:00:00.000001Z",
    **{name: {"a": 1} for name in RAW_JSON},
    **{name: ["x", ""] for name in STRING_LISTS},
}
"""A value of each type that isn't an object in JSON."""
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def head_of(name: str) -> tuple[str, str]:
    """ "apps.v1.Deployment" → ("apps/v1", "Deployment")."""
    group, version, kind = name.split(".")
    return (version if group == "core" else f"{group}/{version}"), kind


@st.composite
def named(draw: st.DrawFn, names: list[str]) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(names))
    return name, draw(objects_of(messages()[name], 3))


def filled(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    """What Go's JSON would show of the object: structs and required fields are there even when nothing is in them."""
    found: dict[str, Any] = {}
    for field in messages()[name].by_number.values():
        if field.presence == "inline":
            found |= filled(field.type, obj)
        elif field.name in obj:
            found[field.name] = filled_field(field, obj[field.name])
        elif field.presence == "struct" and field.type not in TIMES | RAW_JSON:
            found[field.name] = ZEROS[field.type] if field.type in ZEROS else filled(field.type, {})
        elif field.presence == "required" and field.type in ZEROS and not (field.repeated or field.map):
            found[field.name] = ZEROS[field.type]
    return found


def filled_field(field: Field, value: Any) -> Any:
    if field.type in SCALARS | TIMES | RAW_JSON | STRING_LISTS | {QUANTITY, INT_OR_STRING}:
        return value
    if field.map:
        return {key: filled(field.type, item) for key, item in value.items()}
    return [filled(field.type, item) for item in value] if field.repeated else filled(field.type, value)


def decoded(name: str, raw: bytes) -> dict[str, Any]:
    """What the server's own decoder makes of a message, without the envelope's kind and apiVersion."""
    version, kind = head_of(name)
    found = decode(envelope(version, kind, raw))
    own = messages()[name].by_name
    return {key: value for key, value in found.items() if key in own and not said_by_envelope(name, raw, key)}


def said_by_envelope(name: str, raw: bytes, key: str) -> bool:
    """Whether a kind or apiVersion isn't the message's own (it has a field of that name, and left it empty)."""
    return key in ("kind", "apiVersion") and not plain(name, parse(name, raw)).get(key)


@given(named(OBJECTS))
@settings(SLOW, max_examples=200)
def test_what_is_written_is_read_again(case: tuple[str, dict[str, Any]]) -> None:
    name, obj = case
    raw = write(name, obj)
    found = decoded(name, raw)
    wanted = filled(name, obj)
    if "kind" in messages()[name].by_name:
        found, wanted = (
            {k: v for k, v in one.items() if k not in ("kind", "apiVersion") or v} for one in (found, wanted)
        )
    assert found == wanted
    assert write(name, found) == raw


def full(name: str, depth: int) -> dict[str, Any]:
    """An object with a value in every field, `depth` levels deep."""
    found: dict[str, Any] = {}
    for field in messages()[name].by_name.values():
        value = VALUES.get(field.type)
        if value is None:
            if depth == 0:
                continue
            value = full(field.type, depth - 1)
        found[field.name] = {"b": value, "a": value} if field.map else [value, value] if field.repeated else value
    return found


def judged(name: str, obj: dict[str, Any]) -> tuple[bytes, bytes]:
    """What we wrote, and what Google's deterministic writer makes of it: fields by number, maps by key."""
    raw = write(name, obj)
    parsed = parse(name, raw)
    assert plain(name, parsed) == on_wire(name, obj)
    return raw, parsed.SerializeToString(deterministic=True)


def test_google_reads_and_writes_the_same_bytes_of_every_message() -> None:
    for name in NAMES:
        if name not in VALUES:
            for obj in ({}, *(full(name, depth) for depth in range(3))):
                ours, googles = judged(name, obj)
                assert ours == googles


@given(named(OBJECTS))
@settings(SLOW, max_examples=100)
def test_google_reads_any_object_and_writes_as_many_bytes(case: tuple[str, dict[str, Any]]) -> None:
    """As many: of two keys, one of which begins with the other, its writer puts the longer first, Go's the shorter."""
    ours, googles = judged(*case)
    assert len(ours) == len(googles)


def on_wire(name: str, obj: dict[str, Any]) -> dict[str, Any]:
    """What a reader without any knowledge of Kubernetes finds, made from the rules and not from the writer."""
    found: dict[str, Any] = {}
    for field in messages()[name].by_number.values():
        if field.presence == "inline":
            found[field.name] = on_wire(field.type, obj)
        elif field.map or field.repeated:
            if obj.get(field.name):
                found[field.name] = many_on_wire(field, obj[field.name])
        elif field.name in obj:
            found[field.name] = one_on_wire(field.type, obj[field.name])
        elif field.type in SCALARS and field.presence != "optional" and field.type != "bytes":
            found[field.name] = ZEROS[field.type]
        elif field.presence == "struct":
            zero = {} if field.type in TIMES | RAW_JSON else one_on_wire(field.type, ZEROS.get(field.type, {}))
            found[field.name] = zero
    return found


def many_on_wire(field: Field, value: Any) -> Any:
    if field.map:
        return {key: one_on_wire(field.type, item) for key, item in value.items()}
    return [one_on_wire(field.type, item) for item in value]


def one_on_wire(kind: str, value: Any) -> Any:
    if kind in TIMES:
        since = datetime.datetime.fromisoformat(value) - EPOCH
        return {"seconds": since // datetime.timedelta(seconds=1), "nanos": since.microseconds * 1000}
    if kind in RAW_JSON:
        return {messages()[kind].by_number[1].name: b'{"a":1}'}
    if kind in STRING_LISTS:
        return {"items": value} if value else {}
    if kind == INT_OR_STRING:
        text = isinstance(value, str)
        return {"type": int(text), "intVal": 0 if text else value, "strVal": value if text else ""}
    if kind == "bytes":
        return base64.b64decode(value)
    if kind == QUANTITY:
        return {"string": value}
    return value if kind in SCALARS else on_wire(kind, value)


@given(named(OBJECTS), st.data())
@settings(SLOW, max_examples=200)
def test_bytes_cut_or_damaged_anywhere_raise_only_the_decoders_error(
    case: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    name, obj = case
    whole = envelope(*head_of(name), write(name, obj))
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    for body in (whole[: data.draw(st.integers(0, len(whole)))], bytes(damaged)):
        try:
            decode(body)
        except ProtobufError:
            continue


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "metadata", "x"]), inner),
    max_leaves=4,
)


@given(st.sampled_from(OBJECTS), st.data())
@settings(SLOW, max_examples=200)
def test_values_of_other_types_raise_only_the_writers_error(name: str, data: st.DataObject) -> None:
    obj = {field: data.draw(JSON) for field in data.draw(st.sets(st.sampled_from(sorted(messages()[name].by_name))))}
    try:
        raw = write(name, obj)
    except ProtobufError:
        return
    parse(name, raw)


@given(named(OBJECTS))
@settings(SLOW, max_examples=200)
def test_what_conforms_can_be_written(case: tuple[str, dict[str, Any]]) -> None:
    name, obj = case
    version, kind = head_of(name)
    conform(version, kind, obj)
    encode({**obj, "apiVersion": version, "kind": kind})


META = "0a00 1200 1a00 2200 2a00 3200 3800 4200"
"""ObjectMeta of which nothing is set, as etcd shows it of any cluster."""


@pytest.mark.parametrize(
    ("name", "obj", "wanted"),
    [
        ("meta.v1.ObjectMeta", {}, META),
        ("meta.v1.ObjectMeta", {"creationTimestamp": None}, META),
        (
            "core.v1.ContainerPort",
            {"containerPort": 80, "protocol": "TCP"},
            "0a00 1000 1850 2203544350 2a00",
        ),
        ("core.v1.ServicePort", {"port": 80}, "0a00 1200 1850 2206 0800 1000 1a00 2800"),
        (
            "core.v1.ServicePort",
            {"name": "a", "port": 80, "targetPort": "http", "nodePort": -1, "appProtocol": ""},
            "0a0161 1200 1850 220a 0801 1000 1a0468747470 28ffffffffffffffffff01 3200",
        ),
        ("core.v1.Secret", {"data": {"b": "AA==", "a": ""}}, f"0a10 {META} 1205 0a0161 1200 1206 0a0162 120100 1a00"),
        (
            "meta.v1.LabelSelector",
            {"matchLabels": {"ab": "1", "b": "2", "a": "3", "": "4"}},
            "0a05 0a00 120134 0a06 0a0161 120133 0a07 0a026162 120131 0a06 0a0162 120132",
        ),
        ("core.v1.Namespace", {}, f"0a10 {META} 1200 1a02 0a00"),
        ("core.v1.ResourceFieldSelector", {"resource": "cpu"}, "0a00 1203637075 1a03 0a0130"),
        ("core.v1.ConfigMapKeySelector", {"name": "m", "key": "k"}, "0a03 0a016d 12016b"),
        ("coordination.v1.LeaseSpec", {"renewTime": "1970-01-01T00:00:01.000005Z"}, "2205 0801 108827"),
        ("meta.v1.Condition", {"lastTransitionTime": "0001-01-01T00:00:00Z"}, "0a00 1200 1800 2200 2a00 3200"),
        ("meta.v1.OwnerReference", {"uid": "u", "controller": False}, "0a00 1a00 220175 2a00 3000"),
        ("core.v1.PodSecurityContext", {"supplementalGroups": [1, 300]}, "2001 20ac02"),
        ("authentication.v1.UserInfo", {"extra": {"k": ["a", ""]}}, "0a00 1200 220a 0a016b 1205 0a0161 0a00"),
    ],
)
def test_bytes_as_upstream_writes_them(name: str, obj: dict[str, Any], wanted: str) -> None:
    assert write(name, obj).hex() == wanted.replace(" ", "")


def test_the_envelope_has_all_its_fields() -> None:
    body = encode({"kind": "Namespace", "apiVersion": "v1"})
    types = bytes.fromhex("0a0f 0a027631 1209") + b"Namespace"
    assert body == MAGIC + types + bytes.fromhex(f"1218 0a10 {META} 1200 1a02 0a00 1a00 2200")


def test_a_list_is_its_metadata_and_its_items() -> None:
    raw = list_of({"resourceVersion": "7", "continue": "c", "remainingItemCount": 0}, [b"\x0a\x00", b""])
    assert raw == bytes.fromhex("0a0a 0a00 120137 1a0163 2000 1202 0a00 1200")


def test_a_frame_is_its_length_and_a_bare_event() -> None:
    obj = encode({"kind": "Namespace", "apiVersion": "v1"})
    framed = frame("ADDED", obj)
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    event = plain("meta.v1.WatchEvent", parse("meta.v1.WatchEvent", framed[4:]))
    assert event == {"type": "ADDED", "object": {"raw": obj}}


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        ({"kind": "Thing", "apiVersion": "example.com/v1"}, 'no protobuf form of kind "Thing"'),
        ({"kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": 5}}, "type of its field in core.v1.Pod"),
        ({"kind": "Pod", "apiVersion": "v1", "spec": {"hostNetwork": 1}}, "it is no bool"),
        ({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": {}}}, "containers is no list"),
        ({"kind": "Pod", "apiVersion": "v1", "metadata": {"creationTimestamp": "now"}}, "isoformat"),
    ],
)
def test_what_cannot_be_written_is_named(obj: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtobufError, match=why):
        encode(obj)
