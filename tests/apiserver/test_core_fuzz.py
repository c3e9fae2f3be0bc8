"""Whatever a client sends as an object of a kind, the server answers it, and never with its own fault.

The objects come from the same table of fields that bodies are checked against, so they get past decoding and reach
every kind's defaults, rules, allocation, columns and selectable fields.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.apiserver.fields import (
    INT_OR_STRING,
    QUANTITY,
    RAW_JSON,
    STRING_LISTS,
    TIMES,
    Field,
    message_for,
    messages,
)
from portway.apiserver.kinds import KINDS
from portway.apiserver.kinds.base import Kind
from portway.apiserver.patch import merge_patch
from portway.testing.api import InProcessApi

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
WORDS = [
    "",
    "a",
    "A b",
    "None",
    "Always",
    "TCP",
    "ClusterIP",
    "NodePort",
    "ExternalName",
    "10.96.0.9",
    "10.0.0.1",
    "::1",
    "IPv4",
    "IPv6",
    "80",
    "http",
    "Ready",
    "True",
    "Opaque",
    "kubernetes.io/tls",
    "*",
    "get",
    "v1",
    "ClusterRole",
    "User",
    "PreferDualStack",
    "SingleStack",
    "Local",
    "http://x",
    "é",
    "-1",
    "x" * 300,
]
words = st.sampled_from(WORDS)
numbers = st.sampled_from([-1, 0, 1, 80, 65536, 2**31 - 1, 30080])
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "string": words,
    "bytes": st.sampled_from(["", "YQ==", "e30="]),
    "bool": st.booleans(),
    "int32": numbers,
    "int64": numbers,
    QUANTITY: st.sampled_from(["0", "1", "100m", "1Gi", "-1", "1e3"]),
    INT_OR_STRING: st.one_of(numbers, words),
    **dict.fromkeys(TIMES, st.sampled_from(["2024-01-01T00:00:00Z", "1969-12-31T23:59:59Z", None])),
    **dict.fromkeys(RAW_JSON, st.just({"f:a": {}})),
    **dict.fromkeys(STRING_LISTS, st.lists(words, max_size=2)),
}


@st.composite
def message(draw: st.DrawFn, name: str, depth: int) -> dict[str, Any]:
    """An object with some of a message's fields."""
    fields = messages()[name].by_name
    if depth <= 0 or not fields:
        return {}
    chosen = draw(st.lists(st.sampled_from(sorted(fields)), max_size=5, unique=True))
    # Without a spec or the like most rules would never be reached.
    chosen += [known for known in ("spec", "rules", "ports", "containers", "subsets", "roleRef") if known in fields]
    return {known: draw(value(fields[known], depth - 1)) for known in dict.fromkeys(chosen)}


def value(field: Field, depth: int) -> st.SearchStrategy[Any]:
    one = LEAVES[field.type] if field.type in LEAVES else message(field.type, depth)
    if field.repeated:
        return st.lists(one, max_size=2)
    return st.dictionaries(words, one, max_size=2) if field.map else one


SOUND: dict[str, dict[str, Any]] = {
    "pods": {"spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}},
    "services": {"spec": {"ports": [{"name": "a", "port": 80}], "selector": {"a": "b"}}},
    "endpoints": {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    "endpointslices": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
    "events": {"involvedObject": {"namespace": "default", "name": "p"}, "reason": "r", "type": "Normal"},
    "leases": {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 5}},
    "rolebindings": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "u"}],
    },
}
SOUND["clusterrolebindings"] = SOUND["rolebindings"]


def objects(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    found = message_for(kind.api_version, kind.kind)
    assert found is not None
    return message(found.name, 6)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.group or 'core'}-{kind.plural}")
def test_every_object_is_answered_without_a_fault_of_the_server(kind: Kind) -> None:
    prefix = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    path = f"{prefix}/namespaces/default/{kind.plural}" if kind.namespaced else f"{prefix}/{kind.plural}"

    with asyncio.Runner() as runner:
        api = InProcessApi()
        runner.run(api.__aenter__())

        async def call(change: dict[str, Any], status: dict[str, Any], sound: bool) -> None:
            obj = merge_patch(SOUND.get(kind.plural, {}), change if not sound else {})
            obj["metadata"] = {**obj.get("metadata", {}), "name": "fuzz", "namespace": "", "resourceVersion": ""}
            made = await api.admin.request("POST", f"{path}?fieldValidation=Strict", obj)
            assert made.status < 500, made.body
            if made.status != 201:
                return
            steps = [
                ("PATCH", f"{path}/fuzz", status, "application/merge-patch+json"),
                ("PATCH", f"{path}/fuzz/status", status, "application/merge-patch+json"),
                ("PUT", f"{path}/fuzz", obj, "application/json"),
                ("GET", f"{path}?fieldSelector=metadata.name%3Dfuzz", None, ""),
                ("PATCH", f"{path}/fuzz", {"metadata": {"finalizers": None}}, "application/merge-patch+json"),
                ("DELETE", f"{path}/fuzz", None, ""),
            ]
            for method, target, body, media in steps:
                kwargs = {"content_type": media} if media else {}
                answer = await api.admin.request(method, target, body, accept=f"{TABLE},application/json", **kwargs)
                assert answer.status < 500, (method, target, answer.body)
            gone = await api.admin.request("GET", f"{path}/fuzz")
            assert gone.status == 404 or kind.plural == "namespaces", gone.body

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(objects(kind), objects(kind), st.booleans())
        def every(obj: dict[str, Any], change: dict[str, Any], sound: bool) -> None:
            runner.run(call(obj, change, sound))

        try:
            every()
        finally:
            runner.run(api.__aexit__(None, None, None))
