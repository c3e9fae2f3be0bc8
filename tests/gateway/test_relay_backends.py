"""Backends that lie, dawdle, die and hang up: what the client sees, and that nothing of it reaches another request."""

import json
import re
import select
import socket
from collections.abc import Callable

import pytest

from portway.gateway.settings import Limits
from portway.testing.conversation import OK, TIMEOUT, Backend, RunningDoor, Wire, get, request


def exchanged(door: RunningDoor, web: Backend, answer: bytes, raw: bytes = b"") -> tuple[Wire, Wire]:
    """A request that a backend heard and answered with these bytes."""
    client = door.client()
    client.send(raw or get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(answer)
    return client, backend


def unavailable(client: Wire) -> str:
    """Reads upstream's 503; returns what comes after its prefix."""
    code, fields, body = client.response()
    status = json.loads(body)
    assert (code, status["reason"], fields["content-type"]) == (503, "ServiceUnavailable", "application/json")
    prefix, _, why = status["message"].partition(": ")
    assert prefix == "error trying to reach service"
    return str(why)


def next_is_dialled(door: RunningDoor, web: Backend, client: Wire | None = None) -> None:
    """The next request goes over a new connection."""
    client = client or door.client()
    client.send(get("/next"))
    backend = web.accept()
    assert backend.head()[0] == "GET /next HTTP/1.1"
    backend.send(OK)
    assert client.response()[2] == b"ok"


GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTML without a head": b"<html>hello</html>",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "HTTP/3.0": b"HTTP/3.0 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a field without colon": b"HTTP/1.1 200 OK\r\nXabc\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nX : abc\r\n\r\n",
    "CR in a value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\n\r\n",
    "nul in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "nul in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "+5": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "-5": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
    "an unsolicited upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "an upgrade to nothing": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_503_and_the_connection_is_dropped(door: RunningDoor, web: Backend, answer: bytes) -> None:
    client, backend = exchanged(door, web, answer, request("POST", "/x", body=b""))
    why = unavailable(client)
    assert "malformed HTTP response" in why or "101" in why
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


@pytest.mark.parametrize("cut", [0, 1, 10, 20, 30, len(OK) - 3])
def test_a_hang_up_before_the_answer_is_whole(door: RunningDoor, web: Backend, cut: int) -> None:
    client, backend = exchanged(door, web, OK[:cut], request("POST", "/x", body=b""))
    backend.close()
    assert unavailable(client) == "EOF"
    next_is_dialled(door, web, client)


def test_a_reset_before_the_answer(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, b"", request("POST", "/x", body=b""))
    backend.reset()
    assert "reset" in unavailable(client)
    next_is_dialled(door, web, client)


EXTRA = {
    "bytes after a length": OK + b"X",
    "a second answer": OK + OK,
    "a second answer to another": OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "bytes after the last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nX",
    "half a head": OK + b"HTTP/1.1 200",
}


@pytest.mark.parametrize("answer", EXTRA.values(), ids=EXTRA.keys())
@pytest.mark.parametrize("warm", [False, True], ids=["first", "known head"])
def test_more_than_was_asked_for_is_nobodys(door: RunningDoor, web: Backend, answer: bytes, warm: bool) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    if warm:
        backend.send(OK)
        assert client.response()[2] == b"ok"
        client.send(get("/x"))
        backend.head()
    backend.send(answer)
    assert client.response()[::2] == (200, b"ok")
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


def test_an_answer_that_comes_before_the_question_is_nobodys(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, OK)
    assert client.response()[2] == b"ok"
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


def test_a_head_answer_with_a_body_is_not_the_next_ones(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, OK, request("HEAD", "/x"))
    assert client.head()[0] == "HTTP/1.1 200 OK"
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


@pytest.mark.parametrize("status", [204, 304])
def test_a_body_where_none_may_be(door: RunningDoor, web: Backend, status: int) -> None:
    client, backend = exchanged(door, web, b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nevil" % status)
    assert client.response()[0] == status
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


def test_a_raw_body_with_bytes_behind_it(door: RunningDoor, web: Backend) -> None:
    body = b"x" * 300_000
    client, backend = exchanged(door, web, b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
    backend.send(body + OK)
    assert client.response()[2] == body
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


def test_a_raw_body_cut_short(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 1000)
    backend.send(b"x" * 200_000)
    backend.close()
    assert client.rest().endswith(b"x" * 201_000)


def test_interim_answers_without_end_are_bounded(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100 + OK)
    heard = client.until(b"\r\n\r\nok")
    assert heard.count(b"HTTP/1.1 103 ") == 16
    assert heard.count(b"HTTP/1.1 200 ") == 1
    client.send(request("POST", "/flood", body=b""))
    backend.head()
    with pytest.raises(ConnectionError):
        for _ in range(200):
            backend.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000)
    while (status := client.head()[0].split(" ")[1]) == "103":
        pass
    assert status == "503"


@pytest.mark.parametrize(
    "part",
    [b"X-%d: y\r\n", b"y" * 12],
    ids=["fields without end", "a value without end"],
)
def test_a_head_without_end_is_cut_off(door: RunningDoor, web: Backend, part: bytes) -> None:
    client, backend = exchanged(door, web, b"HTTP/1.1 200 OK\r\nX: ", request("POST", "/x", body=b""))
    with pytest.raises(ConnectionError):
        for _ in range(200):
            backend.send(part.replace(b"%d", b"12") * 10_000)
    assert "too large" in unavailable(client)


def test_trailers_without_end_are_cut_off(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: ")
    with pytest.raises(ConnectionError):
        for _ in range(200):
            backend.send(b"y" * 100_000)
    assert client.rest().endswith(b"2\r\nok\r\n")


def test_an_interim_answer_does_not_lend_its_fields(door: RunningDoor, web: Backend) -> None:
    client, _ = exchanged(door, web, b"HTTP/1.1 103 Early\r\nLink: </a>\r\nSet-Cookie: a=b\r\n\r\n" + OK)
    assert client.head() == ("HTTP/1.1 103 Early", {"link": "</a>"})
    _, fields, _ = client.response()
    assert "link" not in fields
    assert "set-cookie" not in fields


def test_what_is_between_backend_and_door_stays_there(door: RunningDoor, web: Backend) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"
        b"Proxy-Connection: close\r\nTrailer: X\r\nAudit-Id: theirs\r\nAccess-Control-Allow-Origin: *\r\n"
        b"Access-Control-Allow-Credentials: true\r\nService-Worker-Allowed: /\r\nX-Kept: 1\r\n"
        b"Content-Security-Policy: default-src 'self'\r\nContent-Length: 2\r\n\r\nok"
    )
    client, _ = exchanged(door, web, head)
    _, fields, _ = client.response()
    assert fields.pop("audit-id") != "theirs"
    assert fields == {"x-kept": "1", "content-security-policy": "default-src 'self'", "content-length": "2"}


def test_a_location_that_cannot_be_read_is_refused(door: RunningDoor, web: Backend) -> None:
    client, _ = exchanged(door, web, b"HTTP/1.1 302 Found\r\nLocation: /a\tb\r\nContent-Length: 0\r\n\r\n")
    code, _, body = client.response()
    status = json.loads(body)
    assert (code, status["reason"]) == (500, "InternalError")
    assert status["message"].startswith("Internal error occurred: error trying to parse Location header: ")


# connections that end


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_kept_connection_that_ends_when_used_is_tried_again(door: RunningDoor, web: Backend, method: str) -> None:
    client, backend = exchanged(door, web, OK)
    assert client.response()[2] == b"ok"
    client.send(request(method, "/again"))
    assert backend.head()[0] == f"{method} /again HTTP/1.1"
    backend.close()
    second = web.accept()
    assert second.head()[0] == f"{method} /again HTTP/1.1"
    second.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.response()[0] == 204
    assert not web.is_dialled()


@pytest.mark.parametrize(
    "raw",
    [
        request("POST", "/again"),
        request("PATCH", "/again", body=b"x"),
        request("PUT", "/again", body=b"x"),
        request("PUT", "/again", Transfer_Encoding="chunked") + b"0\r\n\r\n",
    ],
    ids=["POST", "PATCH", "PUT with a body", "PUT in chunks"],
)
def test_what_may_have_been_done_is_not_done_twice(door: RunningDoor, web: Backend, raw: bytes) -> None:
    client, backend = exchanged(door, web, OK)
    assert client.response()[2] == b"ok"
    client.send(raw)
    assert backend.head()[0].endswith("/again HTTP/1.1")
    backend.close()
    assert unavailable(client) == "EOF"
    assert not web.is_dialled()


def test_a_kept_connection_that_ended_before_is_not_used(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, OK)
    assert client.response()[2] == b"ok"
    backend.close()
    door.settle()
    client.send(request("POST", "/again"))
    second = web.accept()
    assert second.head()[0] == "POST /again HTTP/1.1"


def test_an_answer_that_ends_the_connection_ends_it(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert client.response()[2] == b"ok"
    assert backend.rest() == b""
    next_is_dialled(door, web, client)


# several endpoints


def test_a_refused_dial_goes_to_another_endpoint(door: RunningDoor) -> None:
    dead, live = door.backend(), door.backend()
    door.service("web", dead, live)
    dead.close()
    client = door.client()
    backend = None
    for i in range(6):
        client.send(request("POST", f"/{i}", body=b"once"))
        backend = backend or live.accept()
        assert backend.head()[0] == f"POST /{i} HTTP/1.1"
        assert backend.exactly(4) == b"once"
        backend.send(OK)
        assert client.response()[2] == b"ok"


def test_when_nobody_can_be_dialled_it_is_said(door: RunningDoor) -> None:
    backends = [door.backend() for _ in range(6)]
    door.service("web", *backends)
    for backend in backends:
        backend.close()
    client = door.client()
    client.send(get("/x"))
    why = unavailable(client)
    assert re.fullmatch(r"dial tcp 127\.90\.\d+\.\d+:\d+: .*[Rr]efused.*", why)


def test_an_endpoint_that_keeps_failing_rests(door: RunningDoor) -> None:
    dead, live = door.backend(), door.backend()
    door.service("web", dead, live)
    address, port = dead.address, dead.port
    dead.close()
    client = door.client()
    wires: list[Wire] = []
    for i in range(40):
        client.send(get(f"/{i}"))
        backend = wires[0] if wires else live.accept()
        wires = [backend]
        backend.head()
        backend.send(OK)
        assert client.response()[2] == b"ok"
    revived = socket.create_server((address, port))
    revived.settimeout(0.1)
    for i in range(10):
        client.send(get(f"/{i}"))
        backend.head()
        backend.send(OK)
        assert client.response()[2] == b"ok"
    with pytest.raises(TimeoutError):
        revived.accept()
    revived.close()


def test_requests_go_where_the_fewest_are(door: RunningDoor) -> None:
    backends = [door.backend() for _ in range(3)]
    door.service("web", *backends)
    clients = [door.client() for _ in range(6)]
    for client in clients:
        client.send(get("/wait"))
        door.settle()
    wires = [backend.accept() for backend in backends for _ in range(2)]
    for wire in wires:
        wire.head()
        wire.send(OK)
    assert [client.response()[2] for client in clients] == [b"ok"] * 6


def test_requests_that_nobody_waits_for_are_not_counted(door: RunningDoor, web: Backend) -> None:
    for _ in range(5):
        client = door.client()
        client.send(get("/x"))
        client.reset()
    door.settle()
    client = exchanged_any(door, web)
    assert client.response()[2] == b"ok"
    endpoints = list(door.door.cluster.endpoints._known.values())
    assert [e.active for e in endpoints if e.port] == [0]


def exchanged_any(door: RunningDoor, web: Backend) -> Wire:
    """A request that is answered on whichever connection it comes."""
    client = door.client()
    client.send(get("/last"))
    wires: list[Wire] = []
    while True:
        ready, _, _ = select.select([web.listener, *(w.sock for w in wires)], [], [], TIMEOUT)
        assert ready
        if web.listener in ready:
            wires.append(web.accept())
        for wire in [w for w in wires if w.sock in ready]:
            try:
                start, _ = wire.head()
            except (EOFError, ConnectionError):
                wires.remove(wire)
                continue
            if start == "GET /last HTTP/1.1":
                wire.send(OK)
                return client
            wires.remove(wire)


# time


def test_an_answer_that_does_not_come_is_a_504(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, b"")
    door.sweep(later=door.settings.limits.response_timeout - 5)
    assert client.is_open()
    door.sweep(later=door.settings.limits.response_timeout + 5)
    code, _, body = client.response()
    assert (code, json.loads(body)["reason"]) == (504, "Timeout")
    assert backend.rest() == b""


def test_an_answer_that_stops_in_the_middle_is_cut(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n")
    client.until(b"some\r\n")
    door.sweep(later=door.settings.limits.response_timeout + 5)
    assert client.rest() == b""
    assert backend.rest() == b""


def test_without_a_response_timeout_it_waits(make_door: Callable[..., RunningDoor]) -> None:
    door = make_door(limits=Limits(response_timeout=0))
    web = door.backend()
    door.service("web", web)
    client, backend = exchanged(door, web, b"")
    door.sweep(later=1e6)
    backend.send(OK)
    assert client.response()[2] == b"ok"


def test_idle_connections_to_backends_are_given_back(door: RunningDoor, web: Backend) -> None:
    client, backend = exchanged(door, web, OK)
    assert client.response()[2] == b"ok"
    door.sweep(later=door.settings.limits.upstream_idle_timeout + 5)
    assert backend.rest() == b""


def test_answers_that_nobody_reads_are_not_kept_for_ever(make_door: Callable[..., RunningDoor]) -> None:
    """A client that asks and asks and reads nothing gets no more memory than a window."""
    door = make_door(limits=Limits(pipelined=1_000_000))
    client = door.client()
    client.sock.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 100_000_000:
            sent += client.sock.send(get("/x", token="nobody-token") * 1000)
    door.settle()
    assert len(door.door.crowd.connections) == 1
    door.sweep(later=door.settings.limits.idle_timeout + 5)
    door.sweep(later=2 * door.settings.limits.idle_timeout + 10)
    door.settle()
    assert not door.door.crowd.connections


def test_a_head_that_was_framed_for_an_old_client_is_not_anothers(door: RunningDoor, web: Backend) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    old, new = door.client(), door.client()
    old.send(get("/x").replace(b"HTTP/1.1", b"HTTP/1.0"))
    backend = web.accept()
    backend.head()
    backend.send(answer)
    assert old.rest().endswith(b"\r\n\r\nok")
    new.send(get("/x"))
    backend.head()
    backend.send(answer)
    status, fields, body = new.response()
    assert (status, fields["transfer-encoding"], body) == (200, "chunked", b"ok")


@pytest.mark.parametrize("status", ["000", "001", "099"])
def test_a_status_that_cannot_be_is_no_interim_answer(door: RunningDoor, web: Backend, status: str) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(f"HTTP/1.1 {status} X\r\n\r\n".encode() + OK)
    assert client.response()[0] == 503


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"identity", b"chunked\r\nTransfer-Encoding: chunked"])
def test_a_transfer_coding_that_is_not_known_is_no_answer(door: RunningDoor, web: Backend, coding: bytes) -> None:
    raw = request("POST", "/x", body=b"")
    client, _ = exchanged(
        door, web, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n2\r\nok\r\n0\r\n\r\n" % coding, raw
    )
    assert unavailable(client).startswith("malformed HTTP response")
