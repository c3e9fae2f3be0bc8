"""Limits on what a client controls: sizes, counts, time. Each is answered, and ends the connection."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from portway.gateway.settings import Limits
from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get, request

Make = Callable[..., RunningDoor]


def refused(client: Wire) -> dict[str, Any]:
    """The Status that ends a connection."""
    _, fields, body = client.response()
    assert fields["connection"] == "close"
    assert client.rest() == b""
    found: dict[str, Any] = json.loads(body)
    return found


def limited(make_door: Make, **limits: Any) -> tuple[RunningDoor, Backend]:
    door = make_door(limits=Limits(**limits))
    web = door.backend()
    door.service("web", web)
    return door, web


@pytest.mark.parametrize(
    ("raw", "code", "reason"),
    [
        (get("/x", X="a" * 70_000), 431, "RequestHeaderFieldsTooLarge"),
        (get("/x", **{f"X_{i}": "a" * 900 for i in range(80)}), 431, "RequestHeaderFieldsTooLarge"),
        (get("/x", **{f"X_{i}": "a" for i in range(300)}), 431, "RequestHeaderFieldsTooLarge"),
        (get("/" + "x" * 20_000), 414, "RequestURITooLong"),
        (get("/?" + "x" * 20_000), 414, "RequestURITooLong"),
    ],
    ids=["one large field", "many middling fields", "many small fields", "a long path", "a long query"],
)
def test_heads_have_a_size(door: RunningDoor, web: Backend, raw: bytes, code: int, reason: str) -> None:
    client = door.client()
    client.send(raw + get("/smuggled"))
    status = refused(client)
    assert (status["code"], status["reason"]) == (code, reason)
    assert not web.is_dialled()


def test_heads_below_the_limits_pass(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/" + "x" * 15_000, **{f"X_{i}": "a" * 150 for i in range(250)}))
    _, fields = web.accept().head()
    assert len(fields) > 250


@pytest.mark.parametrize(
    "part", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"], ids=["url", "value", "name"]
)
def test_a_head_without_end_is_cut_off(door: RunningDoor, part: bytes) -> None:
    client = door.client()
    client.send(part + b"a" * 2_000_000)
    assert refused(client)["code"] in (400, 431)


def test_trailers_have_a_size(door: RunningDoor, web: Backend) -> None:
    for trailers in (b"X: " + b"a" * 2_000_000, b"X: a\r\n" * 300 + b"\r\n"):
        client = door.client()
        client.send(request("POST", "/x", Transfer_Encoding="chunked") + b"2\r\nok\r\n0\r\n")
        web.accept().until(b"2\r\nok\r\n")
        client.send(trailers)
        assert refused(client)["code"] == 431


def test_a_slow_head_is_a_408(door: RunningDoor) -> None:
    client, silent = door.client(), door.client()
    client.send(b"GET / HTTP/1.1\r\nHost:")
    door.settle()
    door.sweep(later=door.settings.limits.header_timeout - 5)
    client.send(b" x\r\n")
    assert client.is_open()
    door.sweep(later=door.settings.limits.header_timeout + 5)
    status = refused(client)
    assert (status["code"], status["reason"]) == (408, "Timeout")
    assert silent.rest() == b""


def test_a_slow_head_on_a_kept_connection(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    client.send(b"GET / HTTP/1.1\r\n")
    door.settle()
    door.sweep(later=door.settings.limits.header_timeout - 5)
    assert client.is_open()
    door.sweep(later=door.settings.limits.header_timeout + 5)
    assert refused(client)["code"] == 408


def test_a_head_that_begins_late_in_the_idle_time_has_all_its_time(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"

    def almost_over() -> None:
        for down in door.door.crowd.connections:
            down.deadline -= door.settings.limits.idle_timeout - 1

    door.on_loop(almost_over)
    client.send(b"GET / HTTP/1.1\r\n")
    door.settle()
    door.sweep(later=20)
    assert client.is_open()


def test_an_idle_connection_is_closed(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    door.sweep(later=door.settings.limits.idle_timeout - 5)
    assert client.is_open()
    door.sweep(later=door.settings.limits.idle_timeout + 5)
    assert client.rest() == b""


def test_a_slow_answer_is_not_an_idle_connection(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    door.sweep(later=door.settings.limits.idle_timeout + 5)
    backend.send(OK)
    assert client.response()[2] == b"ok"


@pytest.mark.parametrize(
    "raw", [request("POST", "/x", Content_Length="10"), request("POST", "/x", Transfer_Encoding="chunked")]
)
def test_a_slow_body_is_a_408(door: RunningDoor, web: Backend, raw: bytes) -> None:
    client = door.client()
    client.send(raw)
    backend = web.accept()
    backend.head()
    timeout = door.settings.limits.body_timeout
    door.sweep(later=timeout - 10)
    client.send(b"1\r\nx\r\n")
    backend.until(b"x\r\n")
    door.sweep(later=timeout + 10)  # the clock of the door went ahead, so this is 20 s after the byte
    assert client.is_open()
    door.sweep(later=2 * timeout + 10)
    status = refused(client)
    assert (status["code"], status["reason"]) == (408, "Timeout")
    assert backend.rest() == b""
    assert not any(e.failures for e in door.door.cluster.endpoints._known.values())


def test_a_body_that_the_backend_does_not_take_is_not_slow(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", Content_Length="100000000"))
    backend = web.accept()
    backend.head()
    client.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        for _ in range(1000):
            client.send(b"x" * 65536)
    client.sock.settimeout(5)
    door.sweep(later=door.settings.limits.body_timeout + 10)
    assert client.is_open()


def test_a_conversation_in_both_directions_is_not_slow(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", Transfer_Encoding="chunked"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    client.until(b"hi\r\n")
    door.sweep(later=door.settings.limits.body_timeout + 10)
    client.send(b"2\r\nho\r\n")
    assert backend.until(b"ho\r\n") == b"2\r\nho\r\n"


def test_connections_per_client(make_door: Make) -> None:
    door, web = limited(make_door, connections_per_client=2)
    first, second = door.client(), door.client()
    first.send(get("/1"))
    backend = web.accept()
    backend.head()
    third = door.client()
    status = refused(third)
    assert (status["code"], status["reason"]) == (429, "TooManyRequests")
    second.close()
    door.settle()
    fourth = door.client()
    fourth.send(get("/4"))
    assert web.accept().head()[0] == "GET /4 HTTP/1.1"
    backend.send(OK)
    assert first.response()[2] == b"ok"


def test_connections_that_are_too_many_leave_nothing_behind(make_door: Make) -> None:
    door, _ = limited(make_door, connections=1)
    first = door.client()
    door.settle()
    extra = [door.client() for _ in range(5)]
    door.settle()
    assert len(door.door.crowd.connections) == 1
    for client in extra:
        assert client.rest().startswith(b"HTTP/1.1 429 ")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                client.send(b"x")
                door.settle()
    first.close()
    door.settle()
    assert not door.door.crowd.connections
    assert not door.door.crowd._per_client


def test_requests_per_connection(make_door: Make) -> None:
    door, web = limited(make_door, requests_per_connection=3)
    client = door.client()
    backend = None
    for i in range(3):
        client.send(get("/x"))
        backend = web.accept() if backend is None else backend
        backend.head()
        backend.send(OK)
        _, fields, body = client.response()
        assert body == b"ok"
        assert fields.get("connection") == ("close" if i == 2 else None)
    assert client.rest() == b""


def test_requests_that_wait_are_bounded(make_door: Make) -> None:
    door, web = limited(make_door, pipelined=4)
    client = door.client()
    client.send(b"".join(get(f"/{i}") for i in range(10)))
    backend = web.accept()
    for i in range(4):
        assert backend.head()[0] == f"GET /{i} HTTP/1.1"
        backend.send(OK)
        assert client.response()[2] == b"ok"
    assert refused(client)["code"] == 429
    door.settle()
    probe = door.client()
    probe.send(get("/probe"))
    assert backend.head()[0] == "GET /probe HTTP/1.1"


@pytest.mark.parametrize(
    "raw",
    [get("/1", Connection="close"), get("/1").replace(b"HTTP/1.1", b"HTTP/1.0"), get("/1", Connection="x, CLOSE")],
    ids=["close", "HTTP/1.0", "in a list"],
)
def test_what_comes_behind_the_last_request_is_nobodys(door: RunningDoor, web: Backend, raw: bytes) -> None:
    client = door.client()
    client.send(raw + get("/2"))
    backend = web.accept()
    assert backend.head()[0] == "GET /1 HTTP/1.1"
    client.send(get("/3"))
    backend.send(OK)
    _, fields, body = client.response()
    assert (fields["connection"], body) == ("close", b"ok")
    assert client.rest() == b""
    probe = door.client()
    probe.send(get("/probe"))
    assert backend.head()[0] == "GET /probe HTTP/1.1"


def test_connections_that_wait_for_work_have_a_number(make_door: Make) -> None:
    door, web = limited(make_door, upstream_idle=2)
    clients = [door.client() for _ in range(3)]
    backends = []
    for client in clients:
        client.send(get("/x"))
        backends.append(web.accept())
        backends[-1].head()
    for client, backend in zip(clients, backends, strict=True):
        backend.send(OK)
        assert client.response()[2] == b"ok"
    assert [backend.is_open() for backend in backends] == [True, True, False]
