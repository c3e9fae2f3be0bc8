"""The other kinds: defaults, 422 bodies, immutable fields, Tables; all through the API."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portway.apiserver.kinds import KINDS
from portway.testing.api import InProcessApi

MERGE = "application/merge-patch+json"
CORE = "/api/v1/namespaces/default/"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
RBAC = "/apis/rbac.authorization.k8s.io/v1/"
ROLES, BINDINGS = RBAC + "namespaces/default/roles", RBAC + "namespaces/default/rolebindings"
REQUIRED = "Required value"


def serve(test: Callable[[InProcessApi], Awaitable[None]]) -> None:
    async def run() -> None:
        async with InProcessApi() as api:
            await test(api)

    asyncio.run(run())


def named(**parts: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, **parts}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def causes(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [(cause.get("field", ""), cause["message"]) for cause in status["details"]["causes"]]


def role_ref(**parts: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r", **parts}


def subset(*addresses: str, **parts: Any) -> dict[str, Any]:
    return named(subsets=[{"addresses": [{"ip": ip} for ip in addresses], **parts}])


def endpoint_slice(*addresses: str, kind: str = "IPv4", **parts: Any) -> dict[str, Any]:
    return named(addressType=kind, endpoints=[{"addresses": [a]} for a in addresses], **parts)


RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
LINK_LOCAL = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
CONFIG_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or"
    " 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
TWO_PORTS = [{"port": 1}, {"port": 2}]

INVALID: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("/api/v1/namespaces", {"metadata": {"name": "A"}}, [("metadata.name", f'Invalid value: "A": {LABEL}')]),
    (
        CORE + "endpoints",
        named(subsets=[{}]),
        [("subsets[0]", f"{REQUIRED}: must specify `addresses` or `notReadyAddresses`")],
    ),
    (
        CORE + "endpoints",
        subset("127.0.0.1", "169.254.1.1", "nope"),
        [
            ("subsets[0].addresses[0].ip", f'Invalid value: "127.0.0.1": {LOOPBACK}'),
            ("subsets[0].addresses[1].ip", f'Invalid value: "169.254.1.1": {LINK_LOCAL}'),
            (
                "subsets[0].addresses[2].ip",
                'Invalid value: "nope": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
            ),
        ],
    ),
    (
        CORE + "endpoints",
        subset("10.0.0.1", ports=TWO_PORTS),
        [("subsets[0].ports[0].name", REQUIRED), ("subsets[0].ports[1].name", REQUIRED)],
    ),
    (
        CORE + "endpoints",
        subset("10.0.0.1", ports=[{"port": 0, "protocol": "X"}]),
        [
            ("subsets[0].ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
            (
                "subsets[0].ports[0].protocol",
                'Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
            ),
        ],
    ),
    (SLICES, named(), [("addressType", REQUIRED)]),
    (
        SLICES,
        endpoint_slice(kind="IPv5"),
        [("addressType", 'Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6"')],
    ),
    (
        SLICES,
        endpoint_slice("::1", "127.0.0.1"),
        [
            ("endpoints[0].addresses[0]", 'Invalid value: "::1": must be a valid IPv4 address'),
            ("endpoints[1].addresses[0]", f'Invalid value: "127.0.0.1": {LOOPBACK}'),
        ],
    ),
    (
        SLICES,
        named(addressType="IPv4", endpoints=[{}]),
        [("endpoints[0].addresses", f"{REQUIRED}: must contain at least 1 address")],
    ),
    (SLICES, endpoint_slice(*["10.0.0.1"] * 1001), [("endpoints", "Too many: 1001: must have at most 1000 items")]),
    (
        SLICES,
        endpoint_slice("10.0.0.1", ports=TWO_PORTS),
        [("ports[1].name", 'Duplicate value: ""')],
    ),
    (
        SLICES,
        endpoint_slice("10.0.0.1", ports=[{"port": 70000, "protocol": "X"}]),
        [
            ("ports[0].protocol", 'Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'),
            ("ports[0].port", "Invalid value: 70000: must be between 1 and 65535, inclusive"),
        ],
    ),
    (CORE + "configmaps", named(data={"a/b": ""}), [("data[a/b]", f'Invalid value: "a/b": {CONFIG_KEY}')]),
    (
        CORE + "configmaps",
        named(data={"a": "1"}, binaryData={"a": "AA=="}),
        [("data[a]", 'Invalid value: "a": duplicate of key present in binaryData')],
    ),
    (
        CORE + "configmaps",
        named(data={"a": "x" * (1 << 20), "b": "x"}),
        [("[]", "Too long: may not be more than 1048576 bytes")],
    ),
    (CORE + "secrets", named(data={"..": ""}), [("data[..]", "Invalid value: \"..\": must not be '..'")]),
    (
        CORE + "secrets",
        named(type="kubernetes.io/tls"),
        [("data[tls.crt]", REQUIRED), ("data[tls.key]", REQUIRED)],
    ),
    (
        CORE + "secrets",
        named(type="kubernetes.io/basic-auth"),
        [("data[username]", REQUIRED), ("data[password]", REQUIRED)],
    ),
    (
        CORE + "secrets",
        named(type="kubernetes.io/service-account-token"),
        [("metadata.annotations[kubernetes.io/service-account.name]", REQUIRED)],
    ),
    (
        CORE + "secrets",
        named(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": b64("{")}),
        [("data[.dockerconfigjson]", 'Invalid value: "<secret contents redacted>": invalid character in JSON')],
    ),
    (
        LEASES,
        named(spec={"leaseDurationSeconds": 0, "leaseTransitions": -1}),
        [
            ("spec.leaseDurationSeconds", "Invalid value: 0: must be greater than 0"),
            ("spec.leaseTransitions", "Invalid value: -1: must be greater than or equal to 0"),
        ],
    ),
    (
        CORE + "events",
        named(involvedObject={"namespace": "other"}),
        [("involvedObject.namespace", 'Invalid value: "other": does not match event.namespace')],
    ),
    (
        EVENTS,
        named(type="Odd", note="x" * 1025),
        [
            ("eventTime", REQUIRED),
            ("reportingController", REQUIRED),
            ("reportingInstance", REQUIRED),
            ("action", REQUIRED),
            ("reason", REQUIRED),
            ("message", 'Invalid value: "": can have at most 1024 characters'),
            ("type", 'Invalid value: "": has invalid value: Odd'),
        ],
    ),
    (
        "/api/v1/nodes",
        named(spec={"taints": [{"key": "a", "effect": "Never"}], "podCIDR": "x"}),
        [
            (
                "spec.taints[0].effect",
                'Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
            ),
            ("spec.podCIDRs[0]", 'Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'),
        ],
    ),
    (
        ROLES,
        named(rules=[{}]),
        [
            ("rules[0].verbs", f"{REQUIRED}: verbs must contain at least one value"),
            ("rules[0].apiGroups", f"{REQUIRED}: resource rules must supply at least one api group"),
            ("rules[0].resources", f"{REQUIRED}: resource rules must supply at least one resource"),
        ],
    ),
    (
        ROLES,
        named(rules=[{"verbs": ["get"], "nonResourceURLs": ["/x"]}]),
        [
            (
                "rules[0].nonResourceURLs",
                'Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs',
            )
        ],
    ),
    (
        RBAC + "clusterroles",
        named(rules=[{**RULE, "nonResourceURLs": ["/x"]}]),
        [
            (
                "rules[0].nonResourceURLs",
                'Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs',
            )
        ],
    ),
    (
        RBAC + "clusterroles",
        named(aggregationRule={}),
        [
            (
                "aggregationRule.clusterRoleSelectors",
                f"{REQUIRED}: at least one clusterRoleSelector required if aggregationRule is non-nil",
            )
        ],
    ),
    (
        BINDINGS,
        named(),
        [
            ("roleRef.kind", 'Unsupported value: "": supported values: "Role", "ClusterRole"'),
            ("roleRef.name", REQUIRED),
        ],
    ),
    (
        RBAC + "clusterrolebindings",
        named(roleRef=role_ref()),
        [("roleRef.kind", 'Unsupported value: "Role": supported values: "ClusterRole"')],
    ),
    (
        BINDINGS,
        named(
            roleRef=role_ref(),
            subjects=[
                {"kind": "ServiceAccount", "name": "a"},
                {"kind": "User"},
                {"kind": "Robot", "name": "r"},
                {"kind": "Group", "name": "g", "apiGroup": "other"},
            ],
        ),
        [
            ("subjects[0].namespace", REQUIRED),
            ("subjects[1].name", REQUIRED),
            ("subjects[2].kind", 'Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"'),
            (
                "subjects[3].apiGroup",
                'Unsupported value: "other": supported values: "rbac.authorization.k8s.io"',
            ),
        ],
    ),
]


@pytest.mark.parametrize(("path", "obj", "expected"), INVALID)
def test_422(path: str, obj: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        answer = await api.admin.request("POST", path, obj)
        assert answer.status == 422, answer.body
        assert causes(answer.json()) == expected

    serve(test)


DEFAULTED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "/api/v1/namespaces",
        named(status={"phase": "Terminating"}),
        {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    ),
    (
        CORE + "endpoints",
        subset("10.0.0.1", ports=[{"port": 1}]),
        {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "protocol": "TCP"}]}]},
    ),
    (
        SLICES,
        endpoint_slice("10.0.0.1", ports=[{"port": 1}]),
        {
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {}}],
            "ports": [{"name": "", "port": 1, "protocol": "TCP"}],
        },
    ),
    (
        CORE + "secrets",
        named(stringData={"a": "b"}, data={"a": "AA==", "c": "AA=="}),
        {"type": "Opaque", "data": {"a": "Yg==", "c": "AA=="}},
    ),
    (CORE + "events", named(), {"source": {}, "firstTimestamp": None, "eventTime": None, "reportingComponent": ""}),
    (ROLES, named(), {"rules": []}),
    (
        BINDINGS,
        named(roleRef={"kind": "Role", "name": "r"}, subjects=[{"kind": "User", "name": "u"}]),
        {
            "roleRef": role_ref(),
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    ),
]


@pytest.mark.parametrize(("path", "obj", "expected"), DEFAULTED)
def test_defaults(path: str, obj: dict[str, Any], expected: dict[str, Any]) -> None:
    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request("POST", ROLES, {"metadata": {"name": "r"}})).status == 201
        answer = await api.admin.request("POST", path, obj)
        assert answer.status == 201, answer.body
        assert {key: answer.json().get(key) for key in expected} == expected

    serve(test)


ANOTHER_ROLE = '{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"other"}'

IMMUTABLE: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    (
        SLICES,
        endpoint_slice("10.0.0.1"),
        {"addressType": "FQDN", "endpoints": None},
        [("addressType", 'Invalid value: "FQDN": field is immutable')],
    ),
    (
        CORE + "secrets",
        named(),
        {"type": "other"},
        [("type", 'Invalid value: "other": field is immutable')],
    ),
    (
        CORE + "secrets",
        named(immutable=True, data={"a": "AA=="}),
        {"immutable": False, "data": {"b": "AA=="}},
        [
            ("immutable", "Forbidden: field is immutable when `immutable` is set"),
            ("data", "Forbidden: field is immutable when `immutable` is set"),
        ],
    ),
    (
        CORE + "configmaps",
        named(immutable=True, data={"a": "1"}),
        {"data": {"a": "2"}},
        [("data", "Forbidden: field is immutable when `immutable` is set")],
    ),
    (
        BINDINGS,
        named(roleRef=role_ref()),
        {"roleRef": {"name": "other"}},
        [
            (
                "roleRef",
                f"Invalid value: {ANOTHER_ROLE}: cannot change roleRef",
            )
        ],
    ),
    (
        "/api/v1/nodes",
        named(spec={"podCIDR": "10.0.0.0/24", "providerID": "a"}),
        {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "providerID": "b"}},
        [
            ("spec.podCIDRs", 'Forbidden: node updates may not change podCIDR except from "" to valid'),
            ("spec.providerID", 'Forbidden: node updates may not change providerID except from "" to valid'),
        ],
    ),
]


@pytest.mark.parametrize(("path", "obj", "change", "expected"), IMMUTABLE)
def test_immutable(path: str, obj: dict[str, Any], change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    async def test(api: InProcessApi) -> None:
        assert (await api.admin.request("POST", ROLES, {"metadata": {"name": "r"}})).status == 201
        assert (await api.admin.request("POST", path, obj)).status == 201
        answer = await api.admin.request("PATCH", f"{path}/x", change, content_type=MERGE)
        assert answer.status == 422, answer.body
        assert causes(answer.json()) == expected

    serve(test)


def test_the_namespaces_that_stay() -> None:
    async def test(api: InProcessApi) -> None:
        for name in ("default", "kube-system", "kube-public"):
            answer = await api.admin.request("DELETE", f"/api/v1/namespaces/{name}")
            text = f'namespaces "{name}" is forbidden: this namespace may not be deleted'
            assert (answer.status, answer.json()["message"]) == (403, text)
        change = {"metadata": {"labels": {"kubernetes.io/metadata.name": None}}}
        answer = await api.admin.request("PATCH", "/api/v1/namespaces/default", change, content_type=MERGE)
        assert answer.json()["metadata"]["labels"] == {"kubernetes.io/metadata.name": "default"}

    serve(test)


def test_both_kinds_of_events_are_one() -> None:
    async def test(api: InProcessApi) -> None:
        obj = named(
            eventTime="2026-01-01T00:00:00.5Z",
            reportingController="example.com/c",
            reportingInstance="i",
            action="Act",
            reason="Because",
            type="Normal",
            note="a note",
            regarding={"kind": "Pod", "namespace": "default", "name": "p"},
        )
        assert (await api.admin.request("POST", EVENTS, obj)).status == 201
        core = (await api.admin.request("GET", f"{CORE}events/x")).json()
        assert (core["apiVersion"], core["message"], core["involvedObject"]["name"]) == ("v1", "a note", "p")
        assert core["eventTime"] == "2026-01-01T00:00:00.500000Z"
        answer = await api.admin.request("GET", f"{EVENTS}?fieldSelector=regarding.name=p")
        assert [item["note"] for item in answer.json()["items"]] == ["a note"]
        answer = await api.admin.request("GET", f"{CORE}events?fieldSelector=involvedObject.name=q")
        assert answer.json()["items"] == []
        answer = await api.admin.request("PATCH", f"{EVENTS}/x", {"note": "another"}, content_type=MERGE)
        assert causes(answer.json()) == [("note", 'Invalid value: "another": field is immutable')]

    serve(test)


CELLS: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("Namespace", {"status": {"phase": "Active"}}, ["x", "Active", "5m"]),
    (
        "Node",
        {
            "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1", "osImage": "os"},
            },
        },
        ["x", "Ready,SchedulingDisabled", "edge,worker", "5m", "v1", "10.0.0.1", "<none>", "os", *["<unknown>"] * 2],
    ),
    ("Endpoints", {}, ["x", "<none>", "5m"]),
    (
        "Endpoints",
        {"subsets": [{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(4)], "ports": [{"port": 80}]}]},
        ["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 1 more...", "5m"],
    ),
    ("Endpoints", {"subsets": [{"addresses": [{"ip": "fd::1"}], "ports": [{"port": 80}]}]}, ["x", "[fd::1]:80", "5m"]),
    ("EndpointSlice", {"addressType": "IPv4"}, ["x", "IPv4", "<unset>", "<unset>", "5m"]),
    (
        "EndpointSlice",
        {
            "addressType": "IPv4",
            "ports": [{"port": 80}, {}],
            "endpoints": [{"addresses": [f"10.0.0.{i}"]} for i in range(5)],
        },
        ["x", "IPv4", "80,*", "10.0.0.0,10.0.0.1,10.0.0.2 + 2 more...", "5m"],
    ),
    ("ConfigMap", {"data": {"a": ""}, "binaryData": {"b": ""}}, ["x", 2, "5m"]),
    ("Secret", {"type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "5m"]),
    ("ServiceAccount", {}, ["x", 0, "5m"]),
    ("Lease", {"spec": {"holderIdentity": "me"}}, ["x", "me", "5m"]),
    ("Role", {}, ["x", "1970-01-01T00:00:00Z"]),
    (
        "RoleBinding",
        {
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [
                {"kind": "User", "name": "u"},
                {"kind": "User", "name": "v"},
                {"kind": "ServiceAccount", "namespace": "n", "name": "s"},
            ],
        },
        ["x", "Role/r", "5m", "u, v", "", "n/s"],
    ),
    (
        "Event",
        {
            "lastTimestamp": "1970-01-01T00:04:00Z",
            "firstTimestamp": "1970-01-01T00:00:00Z",
            "type": "Normal",
            "reason": "Because",
            "message": "so\n",
            "count": 3,
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
            "source": {"component": "c", "host": "h"},
        },
        ["60s", "Normal", "Because", "pod/p", "spec", "c, h", "so", "5m", 3, "x"],
    ),
]


@pytest.mark.parametrize(("kind", "obj", "expected"), CELLS)
def test_cells(kind: str, obj: dict[str, Any], expected: list[Any]) -> None:
    found = next(one for one in KINDS if one.kind == kind)
    metadata = {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z", **obj.get("metadata", {})}
    assert found.columns.cells({**obj, "metadata": metadata}, 300.0) == expected


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.group}/{kind.kind}")
def test_every_kind_shows_a_nearly_empty_object(kind: Any) -> None:
    obj = {"metadata": {"name": "x"}}
    assert len(kind.columns.cells(obj, 0.0)) == len(kind.columns.definitions)
    assert set(kind.selectable_fields(obj)) == set(kind.selectable)
    assert all(isinstance(value, str) for value in kind.selectable_fields(obj).values())
