"""Authorisation on the wire: one permission for all spellings of one port, never a wider one; changes hold at once; and
no address is dialled that isn't a pod's, a node's or allowed by the operator.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get, request

Make = Callable[..., RunningDoor]
PORTS = [{"name": "http", "port": 80}, {"name": "admin", "port": 9090}]


@pytest.fixture
def two(door: RunningDoor) -> tuple[Backend, Backend]:
    """Service web with port http (80) on one backend, and port admin (9090) on another."""
    plain, admin = door.backend(), door.backend()
    door.service("web", ports=PORTS)
    door.endpoints("web", plain, names=("http",))
    meta = {"name": "admin", "namespace": "demo", "uid": "admin", "labels": {"kubernetes.io/service-name": "web"}}
    pod(door, "admin", admin.address, admin.port)
    ref = {"kind": "Pod", "name": "admin", "namespace": "demo"}
    endpoints = [{"addresses": [admin.address], "conditions": {"ready": True}, "targetRef": ref}]
    ports = [{"name": "admin", "port": admin.port, "protocol": "TCP"}]
    door.apply("endpointslices", {"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    return plain, admin


def pod(door: RunningDoor, name: str, address: str, port: int, event: str = "ADDED", **meta: Any) -> None:
    spec = {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]}
    value = {"metadata": {"name": name, "namespace": "demo", "uid": name, **meta}, "spec": spec}
    door.apply("pods", {**value, "status": {"phase": "Running", "podIPs": [{"ip": address}], "podIP": address}}, event)


def by_id(id_: str, token: str = "named-token", method: str = "GET", resource: str = "services") -> bytes:
    base = f"/api/v1/namespaces/demo/{resource}" if resource != "nodes" else "/api/v1/nodes"
    return request(method, f"{base}/{id_}/proxy/x", token)


def code(client: Wire, raw: bytes) -> int:
    client.send(raw)
    return client.response()[0]


def served(client: Wire, backend: Backend | Wire, raw: bytes) -> Wire:
    """The request reaches this backend, which answers it."""
    client.send(raw)
    wire = backend.accept() if isinstance(backend, Backend) else backend
    assert wire.head()[0].endswith("/x HTTP/1.1")
    wire.send(OK)
    assert client.response()[2] == b"ok"
    return wire


HTTP = [*("web", "web:", ":web:", "http:web:"), *("web:80", ":web:80", "http:web:80"), *("web:http", "http:web:http")]
ODD = ["web:+80", "web:080", "http:web:0080"]
ADMIN = ["web:9090", "web:admin", "http:web:admin", ":web:9090"]
TLS = ["https:web:", "https:web:80", "https:web:http"]


@pytest.mark.parametrize("granted", HTTP)
def test_all_spellings_of_a_port_are_one_permission(
    door: RunningDoor, two: tuple[Backend, Backend], granted: str
) -> None:
    door.allow("carol", "get", name=granted)
    client, wire = door.client(), None
    for asked in HTTP + ODD:
        wire = served(client, wire or two[0], by_id(asked))
    for asked in ADMIN + TLS + ["web:x", "web:81", "webx", "web:80x"]:
        assert code(client, by_id(asked)) == 403
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert code(client, by_id("web", method=method)) == 403
    assert not two[1].is_dialled(0.01)


@pytest.mark.parametrize("granted", ADMIN)
def test_another_port_is_another_permission(door: RunningDoor, two: tuple[Backend, Backend], granted: str) -> None:
    door.allow("carol", "get", name=granted)
    client, wire = door.client(), None
    for asked in ADMIN:
        wire = served(client, wire or two[1], by_id(asked))
    for asked in HTTP + ODD + TLS:
        assert code(client, by_id(asked)) == 403
    assert not two[0].is_dialled(0.01)


@pytest.mark.parametrize("granted", [*TLS, "web:81", "web:+80", "web:x", "HTTP:web:80", "we", "*", "web*", ""])
def test_a_grant_for_something_else_is_none(door: RunningDoor, two: tuple[Backend, Backend], granted: str) -> None:
    if granted:
        door.allow("carol", "get", name=granted)
    client = door.client()
    for asked in HTTP + ADMIN:
        assert code(client, by_id(asked)) == 403


def test_whoever_may_use_all_ports_may_use_all(door: RunningDoor, two: tuple[Backend, Backend]) -> None:
    door.allow("carol", "get")
    client = door.client()
    served(client, two[0], by_id("web"))
    served(client, two[1], by_id("web:admin"))
    assert code(client, by_id("web:81")) == 503
    assert code(client, by_id("other")) == 404
    assert code(client, by_id("a:b:c:d")) == 400


def test_a_miss_is_only_told_to_whoever_may_know(door: RunningDoor) -> None:
    client = door.client()
    for asked in ("none", "web:81", "a:b:c:d", "a%2fb"):
        client.send(by_id(asked))
        status = json.loads(client.response()[2])
        assert status["code"] == 403
        assert "not found" not in status["message"]


def test_a_decision_changes_with_the_binding(door: RunningDoor, web: Backend) -> None:
    client, wire = door.client(), None
    for _ in range(3):
        assert code(client, by_id("web")) == 403
        door.allow("carol", "get", name="web")
        wire = served(client, wire or web, by_id("web"))
        wire = served(client, wire, by_id("web"))
        door.allow("carol", "get", name="web", event="DELETED")
        assert code(client, by_id("web")) == 403
        door.allow("carol", "create", name="web")
        assert code(client, by_id("web")) == 403
        door.allow("carol", "create", name="web", event="DELETED")


def test_a_credential_that_is_gone_is_gone(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    wire = served(client, web, get("/x"))
    served(client, wire, get("/x"))
    file = door.settings.authentication.token_auth_file
    with open(file, "w", encoding="utf-8") as text:
        text.write("other,other,o1\n")
    door.on_loop(door.door.authenticators.reload)
    for _ in range(2):
        assert code(client, get("/x")) == 401


def test_deleted_endpoints_are_not_dialled_any_more(door: RunningDoor) -> None:
    old, new = door.backend(), door.backend()
    door.service("web", old)
    client = door.client()
    served(client, old, get("/x"))
    door.endpoints("web", old, event="DELETED")
    assert code(client, get("/x")) in (404, 503)
    door.endpoints("web", new)
    wire = served(client, new, get("/x"))
    served(client, wire, get("/x"))
    assert not old.is_dialled()


def test_a_deleted_pod_or_one_with_another_address_is_not_dialled(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    wire = served(client, web, get("/x"))
    pod(door, "web-0", "127.90.99.99", web.port, "MODIFIED")
    assert code(client, get("/x")) == 503
    pod(door, "web-0", web.address, web.port, "MODIFIED")
    served(client, wire, get("/x"))
    pod(door, "web-0", web.address, web.port, "DELETED")
    assert code(client, get("/x")) == 503


def test_a_pod_that_is_known_after_its_slice_serves(door: RunningDoor, web: Backend) -> None:
    late = door.backend()
    client = door.client()
    door._slice("late", "web", "demo", late, "late", ("",), "ADDED")
    first = served(client, web, get("/x"))
    pod(door, "late", late.address, late.port)
    client.send(get("/x"))
    second = door.client()
    door.settle()
    second.send(get("/x"))  # two under way, two endpoints: one each
    late.accept().head()
    first.head()


def test_a_deleted_service_is_gone(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    served(client, web, get("/x"))
    door.apply("services", {"metadata": {"name": "web", "namespace": "demo", "uid": "web"}, "spec": {}}, "DELETED")
    client.send(get("/x"))
    status = json.loads(client.response()[2])
    assert (status["code"], status["message"]) == (404, 'services "web" not found')


SPECIAL = [
    *("127.0.0.1", "127.0.0.2", "0.0.0.0", "169.254.169.254", "169.254.1.1", "224.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("::1", "::", "fe80::1", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
]


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_never_dialled(make_door: Make, address: str) -> None:
    """Whatever an object says: a service's endpoints, a pod's status, a node's."""
    door = make_door(endpoints_without_pods=True)
    listener = door.backend()
    port = listener.port
    door.apply(
        "nodes",
        {
            "metadata": {"name": "n", "uid": "n"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        },
    )
    pod(door, "p", address, port)
    door.apply(
        "services", {"metadata": {"name": "web", "namespace": "demo", "uid": "w"}, "spec": {"ports": [{"port": 80}]}}
    )
    meta = {"name": "s", "namespace": "demo", "uid": "s", "labels": {"kubernetes.io/service-name": "web"}}
    for ref in ({}, {"targetRef": {"kind": "Pod", "name": "p", "namespace": "demo"}}):
        slice_ = {"addressType": "IPv4", "ports": [{"name": "", "port": port, "protocol": "TCP"}]}
        endpoint = {"addresses": [address], "conditions": {"ready": True}, **ref}
        door.apply("endpointslices", {"metadata": meta, **slice_, "endpoints": [endpoint]})
        client = door.client()
        client.send(get("/x"))
        status = json.loads(client.response()[2])
        assert (status["code"], status["message"]) == (503, 'no endpoints available for service "web"')
    for resource, id_ in (
        ("pods", "p"),
        ("pods", f"p:{port}"),
        ("nodes", "n"),
        ("nodes", "n:80"),
        ("nodes", "https:n:"),
    ):
        client.send(by_id(id_, "admin-token", resource=resource))
        status = json.loads(client.response()[2])
        assert (status["code"], status["message"]) == (400, "address not allowed")
    assert not listener.is_dialled(0.01)


def test_an_endpoint_without_a_pod_is_the_operators_decision(make_door: Make, door: RunningDoor) -> None:
    for allowed in (False, True):
        one = make_door(endpoints_without_pods=True) if allowed else door
        backend = one.backend()
        one.service("web", ports=[{"port": 80}])
        meta = {"name": "s", "namespace": "demo", "uid": "s", "labels": {"kubernetes.io/service-name": "web"}}
        slice_ = {"addressType": "IPv4", "ports": [{"name": "", "port": backend.port, "protocol": "TCP"}]}
        endpoint = {"addresses": [backend.address], "conditions": {"ready": True}}
        one.apply("endpointslices", {"metadata": meta, **slice_, "endpoints": [endpoint]})
        client = one.client()
        if allowed:
            served(client, backend, get("/x"))
        else:
            assert code(client, get("/x")) == 503
            assert not backend.is_dialled(0.01)


def test_a_door_never_proxies_to_itself(make_door: Make) -> None:
    door = make_door(endpoints_without_pods=True)
    backend = door.backend()
    labels = {"kubernetes.io/service-name": "kubernetes"}
    meta = {"name": "kubernetes", "namespace": "default", "uid": "s", "labels": labels}
    ports = [{"name": "https", "port": 443, "protocol": "TCP"}]
    door.apply("services", {"metadata": meta | {"labels": {}}, "spec": {"ports": ports}})
    slice_ = {"addressType": "IPv4", "ports": [{**ports[0], "port": backend.port}]}
    endpoint = {"addresses": [backend.address], "conditions": {"ready": True}}
    door.apply("endpointslices", {"metadata": meta, **slice_, "endpoints": [endpoint]})
    client = door.client()
    path = "/api/v1/namespaces/default/services/https:kubernetes:https/proxy/"
    client.send(request("GET", path, "admin-token"))
    status = json.loads(client.response()[2])
    said = 'no endpoints available for service "https:kubernetes:https"'
    assert (status["code"], status["message"]) == (503, said)
    assert not backend.is_dialled(0.01)


@pytest.mark.parametrize(
    "changed",
    [{"namespace": "other"}, {"name": "missing"}, {"kind": "Node"}],
    ids=["another namespace's", "missing", "a node"],
)
def test_an_endpoint_of_a_pod_that_is_not_the_services_own(
    door: RunningDoor, web: Backend, changed: dict[str, str]
) -> None:
    door.apply("pods", {
        "metadata": {"name": "web-0", "namespace": "other", "uid": "o"},
        "spec": {"containers": []},
        "status": {"podIPs": [{"ip": web.address}]},
    })  # fmt: skip
    meta = {"name": "web-0", "namespace": "demo", "uid": "s", "labels": {"kubernetes.io/service-name": "web"}}
    ref = {"kind": "Pod", "name": "web-0", "namespace": "demo"} | changed
    endpoint = {"addresses": [web.address], "conditions": {"ready": True}, "targetRef": ref}
    slice_ = {"addressType": "IPv4", "ports": [{"name": "", "port": web.port, "protocol": "TCP"}]}
    door.apply("endpointslices", {"metadata": meta, **slice_, "endpoints": [endpoint]}, "MODIFIED")
    assert code(door.client(), get("/x")) == 503
    assert not web.is_dialled(0.01)


def test_pods_as_targets(door: RunningDoor) -> None:
    backend = door.backend()
    pod(door, "p", backend.address, backend.port)
    client = door.client()
    wire = None
    for asked in ("p", "p:", f"p:{backend.port}", "p:web", "http:p:web", ":p:"):
        wire = served(client, wire or backend, by_id(asked, "admin-token", resource="pods"))
    client.send(by_id("p:none", "admin-token", resource="pods"))
    status = json.loads(client.response()[2])
    assert (status["code"], status["message"]) == (400, 'pod "p" has no port named "none"')
    client.send(by_id("q", "admin-token", resource="pods"))
    assert json.loads(client.response()[2])["message"] == 'pods "q" not found'
    assert code(client, by_id("p", "reader-token", resource="pods")) == 403
    role = {"metadata": {"name": "pods", "namespace": "demo", "uid": "r"}}
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/proxy"], "resourceNames": ["p:web"]}
    door.apply("roles", {**role, "rules": [rule]})
    subject = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "pods", "apiGroup": "rbac.authorization.k8s.io"}
    door.apply("rolebindings", {**role, "subjects": [subject], "roleRef": reference})
    served(client, wire or backend, by_id("p", "reader-token", resource="pods"))
    assert code(client, by_id("p:1", "reader-token", resource="pods")) == 403
    assert code(client, by_id("https:p:web", "reader-token", resource="pods")) == 403


def test_nodes_as_targets(door: RunningDoor) -> None:
    backend = door.backend()
    addresses = [{"type": "InternalIP", "address": backend.address}]
    door.apply("nodes", {"metadata": {"name": "n", "uid": "n"}, "status": {"addresses": addresses}})
    client = door.client()
    served(client, backend, by_id(f"n:{backend.port}", "admin-token", resource="nodes"))
    assert code(client, by_id("n", "reader-token", resource="nodes")) == 403
    client.send(by_id("m", "admin-token", resource="nodes"))
    assert json.loads(client.response()[2])["message"] == 'nodes "m" not found'
