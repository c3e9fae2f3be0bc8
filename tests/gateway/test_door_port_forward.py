"""Port-forward at the door: whose requests pass, what a WebSocket needs besides, and that they go to the node."""

from collections.abc import Callable
from pathlib import Path

import pytest

from portway.testing.conversation import Backend, RunningDoor, request

PATH = "/api/v1/namespaces/demo/pods/web/portforward"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X_Stream_Protocol_Version": "portforward.k8s.io"}
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


def may(door: RunningDoor, *verbs: str, resource: str = "pods/portforward") -> None:
    """What `reader` may do."""
    meta = {"name": "forward", "namespace": "demo", "uid": "forward"}
    subject = {"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}
    rules = [{"verbs": list(verbs), "apiGroups": [""], "resources": [resource]}]
    reference = {"kind": "Role", "name": "forward", "apiGroup": "rbac.authorization.k8s.io"}
    door.apply("roles", {"metadata": meta, "rules": rules})
    door.apply("rolebindings", {"metadata": meta, "subjects": [subject], "roleRef": reference})


@pytest.fixture
def served(make_door: Callable[..., RunningDoor], tmp_path: Path) -> tuple[RunningDoor, Backend]:
    """A door, and the node's socket behind it."""
    door = make_door(streams_socket=str(tmp_path / "streams.sock"))
    node = Backend(str(tmp_path / "streams.sock"))
    door._stack.callback(node.shutdown)
    return door, node


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_it_goes_to_the_node_as_whoever_asked(served: tuple[RunningDoor, Backend], method: str) -> None:
    door, node = served
    may(door, "create", "get")
    client = door.client()
    client.send(request(method, PATH + "?ports=80", "reader-token", None, **UPGRADE))
    backend = node.accept()
    line, fields = backend.head()
    assert line == f"{method} {PATH}?ports=80 HTTP/1.1"
    assert (fields["x-remote-user"], fields["upgrade"]) == ("reader", "SPDY/3.1")
    assert fields["x-stream-protocol-version"] == "portforward.k8s.io"
    backend.send(SWITCH)
    assert client.head()[0] == "HTTP/1.1 101 Switching Protocols"
    client.send(b"\x80\x03")
    assert backend.exactly(2) == b"\x80\x03"


@pytest.mark.parametrize(
    ("method", "verbs", "lacks"),
    [("POST", ("get",), "create"), ("GET", ("create",), "get"), ("GET", ("get",), "create"), ("GET", (), "get")],
)
def test_a_get_needs_create_as_well(
    served: tuple[RunningDoor, Backend], method: str, verbs: tuple[str, ...], lacks: str
) -> None:
    door, _ = served
    may(door, *verbs)
    client = door.client()
    client.send(request(method, PATH, "reader-token", None, **UPGRADE))
    code, _, body = client.response()
    assert code == 403
    assert f'cannot {lacks} resource \\"pods/portforward\\" in API group' in body.decode()


@pytest.mark.parametrize("resource", ["pods/exec", "pods/attach"])
def test_exec_and_attach_need_it_too(door: RunningDoor, resource: str) -> None:
    may(door, "get", resource=resource)
    client = door.client()
    path = f"/api/v1/namespaces/demo/pods/web/{resource.partition('/')[2]}"
    client.send(request("GET", path, "reader-token", None, **UPGRADE))
    assert client.response()[0] == 403


def test_a_tunnel_ends_with_the_right_to_create_it(served: tuple[RunningDoor, Backend]) -> None:
    door, node = served
    may(door, "create", "get")
    client = door.client()
    client.send(request("GET", PATH, "reader-token", None, **UPGRADE))
    backend = node.accept()
    backend.head()
    backend.send(SWITCH)
    client.head()
    may(door, "get")
    door.sweep()
    assert client.rest() == b""


def test_nothing_else_goes_to_the_node(served: tuple[RunningDoor, Backend]) -> None:
    door, _ = served
    api = door.api()
    for path in (PATH + "/x", "/api/v1/watch/namespaces/demo/pods/web/portforward", "/api/v1/namespaces/demo/pods/web"):
        client = door.client()
        client.send(request("GET", path, "admin-token"))
        wire = api.accept()
        assert wire.head()[0] == f"GET {path} HTTP/1.1"
        wire.close()
