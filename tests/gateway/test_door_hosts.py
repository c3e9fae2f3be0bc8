"""Host names of services at a door that reaches pods itself: what a connection remembers never mixes them up."""

import json
import select
from collections.abc import Callable

import pytest

from portway.gateway.filter import FilterRules
from portway.testing.conversation import OK, TIMEOUT, RunningDoor, Wire

Make = Callable[..., RunningDoor]
GONE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
WEB = "/api/v1/namespaces/demo/services/web/proxy"
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"


def raw(target: str, host: str, more: str = "", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


class Place:
    """A door on this machine with services web and other, an API, and what each of them hears."""

    def __init__(self, door: RunningDoor) -> None:
        self.door = door
        self.backends = {"web": door.backend(), "other": door.backend(), "api": door.api()}
        for name in ("web", "other"):
            door.service(name, self.backends[name])

    def answer(self, client: Wire) -> tuple[str, str, int]:
        """(who heard it, request line, code)"""
        listeners = {backend.listener: name for name, backend in self.backends.items()}
        ready, _, _ = select.select([client.sock, *listeners], [], [], TIMEOUT)
        assert ready
        for listener, name in listeners.items():
            if listener in ready:
                upstream = self.backends[name].accept()
                start, self.fields = upstream.head()
                upstream.send(GONE)
                return name, start.removesuffix(" HTTP/1.1"), client.response()[0]
        return "nobody", "", client.response()[0]

    def fresh(self, request: bytes) -> tuple[str, str, int]:
        client = self.door.client()
        client.send(request)
        found = self.answer(client)
        client.close()
        return found


@pytest.fixture
def place(make_door: Make) -> Place:
    return Place(make_door(local="portway:local", host_bases=("localhost",), authorization_mode="AlwaysAllow"))


HOSTS = ["web.demo.localhost", "other.demo.localhost", "web.demo.localhost.", "d", "localhost", "80.web.demo.localhost"]
TARGETS = [f"{WEB}/x", f"{WEB}/y", "/x", "/api/v1/pods", f"{WEB.replace('web', 'other')}/x", f"{WEB}"]


@pytest.mark.parametrize("first", HOSTS)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_a_connection_remembers_changes_nothing(place: Place, first: str, method: str) -> None:
    for target in TARGETS:
        for second in HOSTS:
            for then in TARGETS[:4]:
                expected = place.fresh(raw(then, second, method=method))
                client = place.door.client()
                for request in (raw(target, first, method=method), raw(target, first, method=method)):
                    client.send(request)
                    place.answer(client)
                client.send(raw(then, second, method=method))
                assert place.answer(client) == expected, (target, second, then)
                client.close()


@pytest.mark.parametrize(
    ("target", "host", "who", "path"),
    [
        ("/x", "web.demo.localhost", "web", "/x"),
        ("/", "other.demo.localhost:99", "other", "/"),
        ("/a/../b", "web.demo.localhost", "web", "/b"),
        ("/../../x", "web.demo.localhost", "web", "/x"),
        (f"{WEB}/x", "other.demo.localhost", "other", f"{WEB}/x"),
        ("/api/v1/pods", "web.demo.localhost", "web", "/api/v1/pods"),
        ("/livez", "web.demo.localhost", "web", "/livez"),
        ("/metrics", "web.demo.localhost", "web", "/metrics"),
        ("http://web.demo.localhost/x", "other.demo.localhost", "web", "/x"),
        ("/api/v1/pods", "door.example", "api", "/api/v1/pods"),
        (f"{WEB}/x", "door.example", "web", "/x"),
    ],
)
def test_who_hears_it(place: Place, target: str, host: str, who: str, path: str) -> None:
    assert place.fresh(raw(target, host)) == (who, f"GET {path}", 200)
    if "localhost" in host and who != "api":
        assert "x-forwarded-uri" not in place.fields
        assert place.fields["x-forwarded-proto"] == "http"
        assert place.fields["x-forwarded-host"] == place.fields["host"]


def test_links_stay_and_cookies_are_the_hosts_own(place: Place) -> None:
    backend = place.backends["web"]
    answer = (
        "HTTP/1.1 302 Found\r\nLocation: http://{}:{}//evil.example/x\r\nSet-Cookie: a=b; Path=/; Domain=localhost\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    client = place.door.client()
    client.send(raw("/", "web.demo.localhost"))
    upstream = backend.accept()
    upstream.head()
    upstream.send(answer.format(backend.address, backend.port).encode())
    _, fields, _ = client.response()
    assert (fields["location"], fields["set-cookie"]) == ("/.//evil.example/x", "a=b; Path=/")
    assert "content-security-policy" not in fields


def test_a_websocket_at_a_host_name(place: Place) -> None:
    host = "web.demo.localhost:8001"
    for origin in ("http://evil.example", "http://other.demo.localhost:8001", "http://localhost:8001", "null"):
        client = place.door.client()
        client.send(raw("/ws", host, f"Origin: {origin}\r\n{WEBSOCKET}"))
        assert client.response()[0] == 403
    client = place.door.client()
    client.send(raw("/ws", host, f"Origin: http://{host}\r\n{WEBSOCKET}"))
    upstream = place.backends["web"].accept()
    assert upstream.head()[0] == "GET /ws HTTP/1.1"
    upstream.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.response()[0] == 101
    client.send(b"ping")
    assert upstream.exactly(4) == b"ping"


def test_who_logs_in_needs_a_credential_at_a_host_name_too(make_door: Make) -> None:
    door = make_door(host_bases=("localhost",))
    web = door.backend()
    door.service("web", web)
    for token, code in (
        ("", 403),
        ("Authorization: Bearer nobody-token\r\n", 403),
        ("Authorization: Bearer wrong\r\n", 401),
    ):
        client = door.client()
        client.send(raw("/x", "web.demo.localhost", token))
        assert client.response()[0] == code
    client = door.client()
    client.send(raw("/x", "web.demo.localhost", "Authorization: Bearer admin-token\r\n"))
    upstream = web.accept()
    _, fields = upstream.head()
    assert "authorization" not in fields
    upstream.send(GONE)
    assert client.response()[0] == 200


@pytest.mark.parametrize("prefix", ["/custom/", "/api-of-mine/"])
def test_a_connection_does_not_remember_its_way_around_an_api_prefix(make_door: Make, prefix: str) -> None:
    below = prefix.rstrip("/")
    place = Place(make_door(local="portway:local", api_prefix=prefix, authorization_mode="AlwaysAllow"))
    inside, outside = raw(f"{below}{WEB}/x", "d"), raw(f"{WEB}/x", "d")
    found = place.fresh(inside)
    assert place.fresh(outside) == ("nobody", "", 404)
    client = place.door.client()
    for request, expected in ((inside, found), (outside, ("nobody", "", 404)), (inside, found)):
        client.send(request)
        assert place.answer(client) == expected


def test_a_prefix_is_taken_off_once_also_when_the_request_had_to_wait(make_door: Make) -> None:
    door = make_door(local="portway:local", api_prefix="/custom/", authorization_mode="AlwaysAllow")
    client = door.client()
    client.send(raw("/custom/api/v1/namespaces/demo/services/fresh/proxy/x", "d"))
    code, _, body = client.response()
    assert (code, json.loads(body)["message"]) == (404, 'services "fresh" not found')


def test_a_filter_holds_for_repeated_fields(make_door: Make) -> None:
    rules = FilterRules(reject_paths=("/admin",), accept_hosts=("^d$",), reject_methods=("DELETE",))
    place = Place(make_door(local="portway:local", filter=rules, authorization_mode="AlwaysAllow"))
    client = place.door.client()
    expected = {f"{WEB}/x": "web", f"{WEB}/admin": "nobody", f"{WEB}/y": "web", f"{WEB}/x?/admin": "web"}
    for target in (f"{WEB}/x", *expected, *expected):
        client.send(raw(target, "d"))
        assert place.answer(client)[0] == expected[target]
    client.send(raw(f"{WEB}/x", "d", method="DELETE"))
    assert place.answer(client)[0] == "nobody"
    client.send(raw(f"{WEB}/x", "e"))
    assert place.answer(client) == ("nobody", "", 403)
