"""JSON bodies against the table of fields: types, unknown fields, zeros; and merge keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.apiserver.conform import MismatchError, conform
from portway.apiserver.fields import Message, message_for, messages
from portway.apiserver.kinds.base import MergeInfo
from portway.apiserver.schema import merge_key


def checked(kind: str, **parts: Any) -> tuple[dict[str, Any], list[str]]:
    obj = dict(parts)
    unknown = conform("v1", kind, obj)
    return obj, unknown


def test_unknown_fields_are_dropped_and_named_where_they_are() -> None:
    spec = {"ports": [{"port": 1}, {"port": 2, "x": 1}], "y": {}, "selector": {"any": "label"}}
    obj, unknown = checked("Service", spec=spec, z=None)
    assert unknown == ["spec.ports[1].x", "spec.y", "z"]
    assert obj == {"spec": {"ports": [{"port": 1}, {"port": 2}], "selector": {"any": "label"}}}


def test_zeros_vanish_unless_they_say_something() -> None:
    obj, _ = checked(
        "Pod",
        metadata={"name": "", "labels": {}, "creationTimestamp": None, "annotations": {"a": None}},
        spec={"hostNetwork": False, "automountServiceAccountToken": False, "containers": [], "volumes": [None]},
        status={},
    )
    assert obj == {
        "metadata": {"annotations": {"a": ""}},
        "spec": {"automountServiceAccountToken": False, "containers": [], "volumes": [{}]},
        "status": {},
    }


def test_values_get_their_canonical_form() -> None:
    limits = {"cpu": 1.5, "memory": "1024Mi", "x": None}
    obj, _ = checked(
        "Pod",
        metadata={"deletionTimestamp": "2026-01-01T02:00:00.7+02:00", "generation": 2.0},
        spec={"containers": [{"name": "c", "resources": {"limits": limits}}]},
    )
    assert obj["metadata"] == {"deletionTimestamp": "2026-01-01T00:00:00Z", "generation": 2}
    assert obj["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1500m", "memory": "1Gi", "x": "0"}
    obj = {"spec": {"renewTime": "2026-01-01T02:00:00.7+02:00"}}
    conform("coordination.k8s.io/v1", "Lease", obj)
    assert obj == {"spec": {"renewTime": "2026-01-01T00:00:00.700000Z"}}


@pytest.mark.parametrize(
    ("kind", "parts", "why"),
    [
        ("Service", {"spec": []}, "array into Go struct field Service.spec of type v1.ServiceSpec"),
        (
            "Service",
            {"spec": {"ports": "x"}},
            "string into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
        ),
        (
            "Service",
            {"spec": {"ports": [1]}},
            "number into Go struct field ServiceSpec.spec.ports of type v1.ServicePort",
        ),
        (
            "Service",
            {"spec": {"ports": [{"port": "80"}]}},
            "string into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            {"spec": {"ports": [{"port": 1.5}]}},
            "number 1.5 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            {"spec": {"ports": [{"port": 1 << 31}]}},
            "number 2147483648 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            "Service",
            {"spec": {"ports": [{"targetPort": True}]}},
            "bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
        (
            "Service",
            {"spec": {"selector": 1}},
            "number into Go struct field ServiceSpec.spec.selector of type map[string]string",
        ),
        (
            "Service",
            {"spec": {"selector": {"a": 1}}},
            "number into Go struct field ServiceSpec.spec.selector of type string",
        ),
        ("Service", {"spec": {"type": 1}}, "number into Go struct field ServiceSpec.spec.type of type string"),
        ("Pod", {"spec": {"hostPID": "no"}}, "string into Go struct field PodSpec.spec.hostPID of type bool"),
    ],
)
def test_a_value_of_another_type(kind: str, parts: dict[str, Any], why: str) -> None:
    with pytest.raises(MismatchError) as caught:
        checked(kind, **parts)
    assert str(caught.value) == f"json: cannot unmarshal {why}"


@pytest.mark.parametrize(
    ("kind", "parts", "why"),
    [
        ("Secret", {"data": {"a": "?"}}, "illegal base64 data at input byte 0"),
        ("Secret", {"data": {"a": "QUE"}}, "illegal base64 data at input byte"),
        ("Pod", {"metadata": {"creationTimestamp": "yesterday"}}, 'parsing time "yesterday"'),
        ("Pod", {"metadata": {"creationTimestamp": "2026-02-30T00:00:00Z"}}, "parsing time"),
        ("Pod", {"spec": {"overhead": {"cpu": "lots"}}}, "quantities must match the regular expression"),
        ("Pod", {"spec": {"overhead": {"cpu": []}}}, "cannot unmarshal"),
    ],
)
def test_a_value_that_is_malformed(kind: str, parts: dict[str, Any], why: str) -> None:
    with pytest.raises(MismatchError, match=why.replace("(", r"\(")):
        checked(kind, **parts)


def test_an_unknown_kind_is_left_alone() -> None:
    obj: dict[str, Any] = {"anything": [None]}
    assert conform("example.com/v1", "Thing", obj) == []
    assert obj == {"anything": [None]}


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "status", "ports", "port", "containers", "name", "conditions", "labels"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(
    st.sampled_from(["Pod", "Service", "Node", "Secret"]),
    st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JSON),
)
@settings(max_examples=300, deadline=None)
def test_any_json_conforms_or_is_refused_and_conforming_twice_changes_nothing(kind: str, obj: dict[str, Any]) -> None:
    try:
        conform("v1", kind, obj)
    except MismatchError:
        return
    before = repr(obj)
    assert conform("v1", kind, obj) == []
    assert repr(obj) == before


def test_every_type_in_the_table_is_known() -> None:
    known = messages()
    scalars = {"string", "bytes", "bool", "int32", "int64"}
    for message in known.values():
        assert {field.type for field in message.by_number.values()} <= set(known) | scalars


@pytest.mark.parametrize(
    ("version", "kind", "name"),
    [
        ("v1", "Pod", "core.v1.Pod"),
        ("apps/v1", "Deployment", "apps.v1.Deployment"),
        ("rbac.authorization.k8s.io/v1", "Role", "rbac.v1.Role"),
        ("apps/v1", "DeleteOptions", "meta.v1.DeleteOptions"),
        ("v1", "Status", "meta.v1.Status"),
        ("v1", "Role", None),
        ("", "Pod", None),
        ("v2", "Pod", None),
    ],
)
def test_which_message_an_object_is(version: str, kind: str, name: str | None) -> None:
    found: Message | None = message_for(version, kind)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("Service", "spec.ports", MergeInfo(key="port")),
        ("Pod", "spec.containers", MergeInfo(key="name")),
        ("Pod", "spec.containers.ports", MergeInfo(key="containerPort")),
        ("Pod", "spec.containers.env", MergeInfo(key="name")),
        ("Pod", "spec.ephemeralContainers.volumeMounts", MergeInfo(key="mountPath")),
        ("Pod", "spec.volumes", MergeInfo(key="name", retain_keys=True)),
        ("Pod", "spec.tolerations", None),
        ("Pod", "status.conditions", MergeInfo(key="type")),
        ("Pod", "metadata.finalizers", MergeInfo()),
        ("Node", "metadata.ownerReferences", MergeInfo(key="uid")),
        ("Node", "status.addresses", MergeInfo(key="type")),
        ("ServiceAccount", "secrets", MergeInfo(key="name")),
        ("EndpointSlice", "endpoints", None),
        ("Deployment", "spec.template.spec.containers", MergeInfo(key="name")),
        ("Deployment", "spec.strategy", MergeInfo(retain_keys=True)),
        ("PodDisruptionBudget", "spec.selector", MergeInfo(replace=True)),
        ("Service", "spec.nope.deeper", None),
        ("Nope", "spec", None),
    ],
)
def test_merge_keys(kind: str, path: str, expected: MergeInfo | None) -> None:
    assert merge_key(kind, path.split(".")) == expected


def test_the_top_of_an_object_has_no_merge_key() -> None:
    assert merge_key("Pod", []) is None
