"""Upgrades: the tunnel and its ends, and that a refused one leaves nothing behind (CVE-2018-1002105, CVE-2020-8559)."""

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from portway.gateway.settings import Limits
from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get, request

KEY = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Version": "13"}
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
PREFIX = "base64url.bearer.authorization.k8s.io."
ADMIN: dict[str, Any] = {
    "metadata": {"name": "all", "namespace": "demo", "uid": "all"},
    "subjects": [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}],
    "roleRef": {"kind": "Role", "name": "all", "apiGroup": "rbac.authorization.k8s.io"},
}
ROLE = {
    "metadata": {"name": "all", "namespace": "demo", "uid": "role"},
    "rules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["services/proxy"]}],
}


def upgrade(path: str = "/ws", token: str = "admin-token", protocol: str = "websocket", **fields: str) -> bytes:
    fields = {"Connection": "Upgrade", "Upgrade": protocol} | KEY | fields
    return request("GET", path, token, None, **fields)


def tunnel(door: RunningDoor, web: Backend, raw: bytes = b"") -> tuple[Wire, Wire]:
    """Both ends of a granted upgrade."""
    client = door.client()
    client.send(raw or upgrade())
    backend = web.accept()
    backend.head()
    backend.send(SWITCH)
    assert client.head()[0] == "HTTP/1.1 101 Switching Protocols"
    return client, backend


def status_of(client: Wire) -> dict[str, Any]:
    _, fields, body = client.response()
    assert fields["connection"] == "close"
    found: dict[str, Any] = json.loads(body)
    return found


def test_a_websocket_is_a_pipe_for_bytes(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(upgrade("/chat?room=1&x=%2F", Origin="http://elsewhere", Cookie="a=b"))
    backend = web.accept()
    start, fields = backend.head()
    assert start == "GET /chat?room=1&x=%2F HTTP/1.1"
    assert (fields["connection"], fields["upgrade"]) == ("Upgrade", "websocket")
    assert (fields["origin"], fields["cookie"]) == ("http://elsewhere", "a=b")
    assert fields["sec-websocket-key"] == KEY["Sec_WebSocket_Key"]
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert "authorization" not in fields
    backend.send(SWITCH.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Accept: x\r\n\r\n"))
    start, fields = client.head()
    assert start == "HTTP/1.1 101 Switching Protocols"
    assert (fields["sec-websocket-accept"], fields["upgrade"]) == ("x", "websocket")
    everything = bytes(range(256)) * 1000
    client.send(everything)
    assert backend.exactly(len(everything)) == everything
    backend.send(everything)
    assert client.exactly(len(everything)) == everything


def test_bytes_that_come_early_are_not_lost(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(upgrade() + b"early from the client")
    backend = web.accept()
    backend.head()
    assert backend.is_open()  # silent: nothing before it agrees
    backend.send(SWITCH + b"early from the backend")
    assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    assert client.exactly(22) == b"early from the backend"
    assert backend.exactly(21) == b"early from the client"


def test_an_upgrade_behind_another_request(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/first") + upgrade() + b"early")
    backend = web.accept()
    assert backend.head()[0] == "GET /first HTTP/1.1"
    backend.send(OK)
    assert client.response()[2] == b"ok"
    second = web.accept()
    assert second.head()[0] == "GET /ws HTTP/1.1"
    second.send(SWITCH)
    assert client.head()[0].startswith("HTTP/1.1 101 ")
    assert second.exactly(5) == b"early"


def test_an_upgrade_byte_by_byte(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send_bytewise(upgrade() + b"early")
    backend = web.accept()
    backend.head()
    backend.send_bytewise(SWITCH + b"back")
    client.head()
    assert client.exactly(4) == b"back"
    assert backend.exactly(5) == b"early"


@pytest.mark.parametrize("code", [200, 204, 302, 307])
@pytest.mark.parametrize("warm", [False, True], ids=["first", "known head"])
def test_an_upgrade_that_the_backend_does_not_take(door: RunningDoor, web: Backend, code: int, warm: bool) -> None:
    answer = b"HTTP/1.1 %d X\r\nX-A: 1\r\n%b\r\n" % (code, b"Content-Length: 0\r\n" if code != 204 else b"")
    if warm:
        other = door.client()
        other.send(get("/plain"))
        backend = web.accept()
        backend.head()
        backend.send(answer)
        assert other.response()[0] == code
    client = door.client()
    client.send(upgrade() + get("/smuggled"))
    backend = web.accept()
    backend.head()
    backend.send(answer)
    status = status_of(client)
    assert (status["code"], status["message"]) == (500, f"invalid upgrade response: status code {code}")
    assert "reason" not in status
    assert client.rest() == b""
    assert backend.rest() == b""


@pytest.mark.parametrize("code", [400, 401, 404, 500, 503])
def test_an_upgrade_that_the_backend_refuses(door: RunningDoor, web: Backend, code: int) -> None:
    client = door.client()
    client.send(upgrade() + get("/smuggled"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\nsome data" % code)
    found, fields, body = client.response()
    assert (found, fields["connection"], body) == (code, "close", b"some data")
    assert client.rest() == b""
    assert backend.rest() == b""
    assert not web.is_dialled()


def test_an_upgrade_uses_a_connection_of_its_own(door: RunningDoor, web: Backend) -> None:
    other = door.client()
    other.send(get("/plain"))
    kept = web.accept()
    kept.head()
    kept.send(OK)
    assert other.response()[2] == b"ok"
    _, backend = tunnel(door, web)
    assert backend is not kept
    other.send(get("/plain"))
    assert kept.head()[0] == "GET /plain HTTP/1.1"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101", b"garbage\r\n\r\n"], ids=["none", "half", "garbage"])
def test_an_upgrade_whose_answer_cannot_be_read(door: RunningDoor, web: Backend, answer: bytes) -> None:
    client = door.client()
    client.send(upgrade() + get("/smuggled"))
    backend = web.accept()
    backend.head()
    backend.send(answer)
    backend.close()
    status = status_of(client)
    assert status["code"] == 500
    assert status["message"].startswith("malformed HTTP response" if b"garbage" in answer else "unexpected EOF")
    assert client.rest() == b""


def test_an_upgrade_that_cannot_be_dialled(door: RunningDoor, web: Backend) -> None:
    web.close()
    client = door.client()
    client.send(upgrade() + get("/smuggled"))
    status = status_of(client)
    assert status["code"] == 500
    assert status["message"].startswith("error dialing backend: dial tcp ")
    assert client.rest() == b""


@pytest.mark.parametrize("token", ["", "nobody-token", "wrong"])
def test_an_upgrade_that_the_door_refuses_ends_the_connection(door: RunningDoor, web: Backend, token: str) -> None:
    client = door.client()
    client.send(upgrade(token=token) + get("/smuggled"))
    assert status_of(client)["code"] == (401 if token == "wrong" else 403)
    assert client.rest() == b""
    assert not web.is_dialled()


@pytest.mark.parametrize(
    "fields", [{"Content_Length": "5"}, {"Transfer_Encoding": "chunked"}], ids=["length", "chunks"]
)
def test_an_upgrade_with_a_body_is_refused(door: RunningDoor, web: Backend, fields: dict[str, str]) -> None:
    client = door.client()
    client.send(upgrade(**fields) + b"hello" + get("/smuggled"))
    assert status_of(client)["code"] == 400
    assert client.rest() == b""
    assert not web.is_dialled()


@pytest.mark.parametrize(
    "protocol", ["h2c", "H2C", "h2c, websocket", "websocket, h2c", "HTTP/2.0", "h2c-14", "websocket,HTTP/2", ""]
)
def test_an_upgrade_to_http_is_not_asked_for(door: RunningDoor, web: Backend, protocol: str) -> None:
    client = door.client()
    client.send(upgrade("/x", protocol=protocol, Connection="Upgrade, HTTP2-Settings", HTTP2_Settings="AAMAAABk"))
    backend = web.accept()
    start, fields = backend.head()
    assert start == "GET /x HTTP/1.1"
    assert not {"upgrade", "connection", "http2-settings"} & fields.keys()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    client.send(get("/y"))
    assert backend.head()[0] == "GET /y HTTP/1.1"


def test_an_upgrade_in_http_1_0_is_not_asked_for(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"))
    _, fields = web.accept().head()
    assert "upgrade" not in fields


@pytest.mark.parametrize("connection", ["upgrade", "keep-alive, Upgrade", "UPGRADE,foo", " upgrade ", "foo,\tupgrade"])
def test_spellings_of_the_connection_list(door: RunningDoor, web: Backend, connection: str) -> None:
    client, backend = tunnel(door, web, upgrade(Connection=connection))
    client.send(b"hello")
    assert backend.exactly(5) == b"hello"


def test_an_unasked_upgrade_header_is_not_passed_on(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x", Upgrade="websocket") + get("/y"))
    backend = web.accept()
    start, fields = backend.head()
    assert (start, "upgrade" in fields) == ("GET /x HTTP/1.1", False)
    backend.send(OK)
    assert client.response()[2] == b"ok"
    assert backend.head()[0] == "GET /y HTTP/1.1"


# the bearer token that browsers send as a subprotocol


def encoded(token: str) -> str:
    return PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("offered", "kept"),
    [
        (f"{encoded('admin-token')}, chat", "chat"),
        (f"chat, {encoded('admin-token')}, v2", "chat,v2"),
        (f"chat,{encoded('admin-token')}", "chat"),
    ],
)
def test_a_token_among_the_subprotocols_stays_here(door: RunningDoor, web: Backend, offered: str, kept: str) -> None:
    client = door.client()
    client.send(upgrade(token="", Sec_WebSocket_Protocol=offered))
    backend = web.accept()
    _, fields = backend.head()
    assert fields["sec-websocket-protocol"] == kept
    assert "bearer" not in str(fields)
    backend.send(SWITCH)
    assert client.head()[0].startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "offered",
    [encoded("admin-token"), f"{encoded('admin-token')}, {encoded('admin-token')}, chat", f"{PREFIX}!!!, chat"],
    ids=["alone", "twice", "not base64"],
)
def test_a_token_that_cannot_be_taken_is_a_401(door: RunningDoor, web: Backend, offered: str) -> None:
    client = door.client()
    client.send(upgrade(token="", Sec_WebSocket_Protocol=offered) + get("/smuggled"))
    assert status_of(client)["code"] == 401
    assert client.rest() == b""
    assert not web.is_dialled()


@pytest.mark.parametrize("offered", [encoded("admin-token"), f"{encoded('admin-token')}, chat"])
def test_without_an_upgrade_the_token_is_no_credential_and_stays_here(
    door: RunningDoor, web: Backend, offered: str
) -> None:
    client = door.client()
    client.send(get("/x", token="", Sec_WebSocket_Protocol=offered))
    assert client.response()[0] == 403
    client.send(get("/x", Sec_WebSocket_Protocol=offered))
    assert "bearer" not in str(web.accept().head())


# how tunnels end


def test_the_client_finishes_first(door: RunningDoor, web: Backend) -> None:
    client, backend = tunnel(door, web)
    client.send(b"last words")
    client.half_close()
    assert backend.rest() == b"last words"
    backend.send(b"an answer after the end")
    backend.close()
    assert client.rest() == b"an answer after the end"
    door.settle()
    assert not door.door.crowd.connections


def test_the_backend_finishes_first(door: RunningDoor, web: Backend) -> None:
    client, backend = tunnel(door, web)
    backend.send(b"last words")
    backend.half_close()
    assert client.rest() == b"last words"
    answer = b"an answer after the end" * 200_000

    def speak_and_leave() -> None:
        client.send(answer)
        client.close()

    sender = threading.Thread(target=speak_and_leave)
    sender.start()
    door.settle()
    assert backend.rest() == answer
    sender.join()
    door.settle()
    assert not door.door.crowd.connections


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_reset_ends_both_sides(door: RunningDoor, web: Backend, side: str) -> None:
    client, backend = tunnel(door, web)
    gone, left = (client, backend) if side == "client" else (backend, client)
    gone.reset()
    assert left.rest() == b""
    door.settle()
    assert not door.door.crowd.connections


def test_slow_readers_are_waited_for(door: RunningDoor, web: Backend) -> None:
    for to_backend in (True, False):
        client, backend = tunnel(door, web)
        writer = client if to_backend else backend
        writer.sock.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 100_000_000:
                sent += writer.sock.send(b"x" * 65536)
        assert sent < 40_000_000


def test_a_silent_tunnel_ends(door: RunningDoor, web: Backend) -> None:
    client, backend = tunnel(door, web)
    door.sweep(later=door.settings.limits.upgrade_idle_timeout - 10)
    client.send(b"x")
    assert backend.exactly(1) == b"x"
    door.sweep(later=2 * door.settings.limits.upgrade_idle_timeout + 10)
    assert client.rest() == b""
    assert backend.rest() == b""


def test_a_tunnel_does_not_live_for_ever(make_door: Callable[..., RunningDoor]) -> None:
    door = make_door(limits=Limits(upgrade_lifetime=0))
    web = door.backend()
    door.service("web", web)
    client, backend = tunnel(door, web)
    client.send(b"x")
    assert backend.exactly(1) == b"x"
    door.sweep()
    assert client.rest() == b""
    assert backend.rest() == b""


def test_a_revoked_credential_ends_the_tunnel(door: RunningDoor, web: Backend) -> None:
    client, backend = tunnel(door, web)
    door.sweep()
    client.send(b"x")
    assert backend.exactly(1) == b"x"
    file = door.settings.authentication.token_auth_file
    with open(file, encoding="utf-8") as text:
        kept = [line for line in text if not line.startswith("admin-token")]
    with open(file, "w", encoding="utf-8") as text:
        text.writelines(kept)
    door.on_loop(door.door.authenticators.reload)
    door.sweep()
    assert client.rest() == b""
    assert backend.rest() == b""


def test_a_revoked_role_ends_the_tunnel(door: RunningDoor, web: Backend) -> None:
    door.apply("roles", ROLE)
    door.apply("rolebindings", ADMIN)
    client, backend = tunnel(door, web, upgrade(token="reader-token"))
    door.apply("rolebindings", {**ADMIN, "metadata": {**ADMIN["metadata"], "name": "other"}})
    door.sweep()
    client.send(b"x")
    assert backend.exactly(1) == b"x"
    for name in ("all", "other"):
        door.apply("rolebindings", {**ADMIN, "metadata": {**ADMIN["metadata"], "name": name}}, "DELETED")
    door.sweep()
    assert client.rest() == b""
    assert backend.rest() == b""


def test_a_tunnel_is_recorded_when_it_opens_and_when_it_ends(door: RunningDoor, web: Backend) -> None:
    client, backend = tunnel(door, web)
    client.send(b"x" * 100)
    backend.exactly(100)
    client.close()
    backend.rest()
    backend.close()
    events = [json.loads(line) for line in door.audit(2)]
    assert [e["stage"] for e in events] == ["ResponseStarted", "ResponseComplete"]
    assert {e["responseStatus"]["code"] for e in events} == {101}


def test_the_cookies_of_an_upgrade_are_scoped(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(upgrade())
    backend = web.accept()
    backend.head()
    backend.send(SWITCH[:-2] + b"Set-Cookie: a=1; Path=/; Domain=x.example\r\n\r\n")
    _, fields = client.head()
    assert fields["set-cookie"] == "a=1; Path=/api/v1/namespaces/demo/services/web/proxy/"
