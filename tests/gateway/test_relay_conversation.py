"""The relay, as conversations: what the client says, what the backend hears, and back; plain, cut to pieces, and cut
off.
"""

import threading

import pytest

from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get, request

RULE = {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}


def test_a_get_and_its_answer(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/a?b=c", X_Custom="1"))
    backend = web.accept()
    assert backend.until(b"\r\n\r\n") == (
        b"GET /a?b=c HTTP/1.1\r\nX-Forwarded-Uri: /api/v1/namespaces/demo/services/web/proxy/a\r\n"
        b"Host: door.example\r\nX-Custom: 1\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
    )
    backend.send(OK)
    status, fields, body = client.response()
    assert (status, body, fields["content-type"]) == (200, b"ok", "text/plain")
    assert len(fields["audit-id"]) == 36


def test_requests_with_the_same_fields_keep_their_own_targets_and_decisions(door: RunningDoor, web: Backend) -> None:
    other = door.backend()
    door.service("other", other)
    client = door.client()
    wires: dict[str, Wire] = {}
    turns = [("web", "/a?q=1"), ("web", "/a/b"), ("other", "/c"), ("other", "/d"), ("web", "/%41/../e"), ("web", "/f")]
    for name, path in turns:
        client.send(get(f"/api/v1/namespaces/demo/services/{name}/proxy{path}", X_Same="1"))
        if name not in wires:
            wires[name] = (web if name == "web" else other).accept()
        start, fields = wires[name].head()
        assert start == f"GET {'/e' if '..' in path else path} HTTP/1.1"
        assert fields["x-same"] == "1"
        assert fields["x-forwarded-uri"].startswith(f"/api/v1/namespaces/demo/services/{name}/proxy/")
        wires[name].send(OK)
        assert client.response()[0] == 200
    client.send(get("/api/v1/namespaces/demo/services/missing/proxy/x", X_Same="1"))
    assert client.response()[0] == 404
    seen = [line.split('"requestURI":"')[1].split('"')[0] for line in door.audit(len(turns) + 1)]
    assert seen == [
        f"/api/v1/namespaces/demo/services/{name}/proxy{path}" for name, path in (*turns, ("missing", "/x"))
    ]


def test_a_decision_that_changes_between_two_equal_requests_counts(door: RunningDoor, web: Backend) -> None:
    role = {"metadata": {"name": "r", "namespace": "demo"}, "rules": [RULE]}
    binding = {
        "metadata": {"name": "b", "namespace": "demo"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    }
    door.apply("roles", role)
    door.apply("rolebindings", binding)
    client = door.client()
    backend = None
    for _ in range(2):
        client.send(get("/x", token="reader-token"))
        backend = backend or web.accept()
        backend.head()
        backend.send(OK)
        assert client.response()[0] == 200
    door.apply("rolebindings", binding, "DELETED")
    client.send(get("/x", token="reader-token"))
    assert client.response()[0] == 403


def test_the_same_request_again_is_answered_afresh(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    backend = None
    seen = set()
    for turn in range(4):
        client.send(get("/same"))
        backend = backend or web.accept()
        assert backend.head()[0] == "GET /same HTTP/1.1"
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % turn)
        status, fields, body = client.response()
        assert (status, body) == (200, b"%d" % turn)
        seen.add(fields["audit-id"])
    assert len(seen) == 4


@pytest.mark.parametrize("whole", [get("/x"), request("POST", "/x", body=b"hello")], ids=["get", "post"])
def test_split_at_every_byte_in_both_directions(door: RunningDoor, web: Backend, whole: bytes) -> None:
    client = door.client()
    client.send_bytewise(whole)
    backend = web.accept()
    start, fields = backend.head()
    assert start.endswith("/x HTTP/1.1")
    if b"POST" in whole:
        assert backend.exactly(int(fields["content-length"])) == b"hello"
    backend.send_bytewise(
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n...\r\n0\r\nX-T: 9\r\n\r\n"
    )
    status, fields, body = client.response()
    assert (status, fields["x-a"], body, client.trailers) == (200, "1", b"ok...", b"X-T: 9\r\n")


@pytest.mark.parametrize("cut", range(1, 190, 7))
def test_split_in_two_anywhere(door: RunningDoor, web: Backend, cut: int) -> None:
    whole = get("/x", Accept="text/plain")
    client = door.client()
    client.send(whole[:cut])
    client.send(whole[cut:])
    backend = web.accept()
    assert backend.head()[0] == "GET /x HTTP/1.1"
    backend.send(OK[: cut % len(OK)])
    backend.send(OK[cut % len(OK) :])
    assert client.response()[::2] == (200, b"ok")


def test_pipelined_requests_are_answered_in_order_one_at_a_time(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/1") + request("POST", "/2", body=b"two") + get("/3"))
    backend = web.accept()
    for number in (1, 2, 3):
        start, fields = backend.head()
        assert start.split(" ")[1] == f"/{number}"
        if number == 2:
            assert backend.exactly(int(fields["content-length"])) == b"two"
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    assert [client.response()[2] for _ in range(3)] == [b"1", b"2", b"3"]


def test_nothing_of_a_pipelined_request_reaches_the_backend_before_its_turn(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/1") + get("/2"))
    backend = web.accept()
    backend.head()
    assert backend.is_open()  # silent: /2 waits
    assert not web.is_dialled()
    backend.send(OK)
    assert backend.head()[0] == "GET /2 HTTP/1.1"


def test_a_chunked_upload_with_trailers(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    head = request("POST", "/up", Transfer_Encoding="chunked", TE="trailers")
    client.send(head + b"5\r\nhello\r\n")
    backend = web.accept()
    _, fields = backend.head()
    assert fields["transfer-encoding"] == "chunked"
    assert fields["te"] == "trailers"
    assert backend.until(b"hello\r\n") == b"5\r\nhello\r\n"
    client.send(b"1\r\n!\r\n0\r\nX-Sum: 6\r\nX-Remote-User: root\r\nAuthorization: Bearer x\r\n\r\n")
    assert backend.until(b"\r\n\r\n") == b"1\r\n!\r\n0\r\nX-Sum: 6\r\n\r\n"
    backend.send(OK)
    assert client.response()[0] == 200


def test_an_answer_without_length_ends_with_the_connection(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\n\r\nuntil ")
    backend.send(b"close")
    backend.close()
    status, fields, body = client.response()
    assert (status, fields["transfer-encoding"], body) == (200, "chunked", b"until close")


def test_http_1_0_gets_no_chunks_and_a_close(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x").replace(b"HTTP/1.1", b"HTTP/1.0"))
    backend = web.accept()
    assert backend.head()[0] == "GET /x HTTP/1.1"
    backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    head, _, body = client.rest().partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"chunked" not in head
    assert body == b"ok"


def test_http_1_0_keep_alive(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    for _ in range(2):
        client.send(get("/x", Connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
    backend = web.accept()
    for _ in range(2):
        backend.head()
        backend.send(OK)
        status, fields, body = client.response()
        assert (status, fields["connection"], body) == (200, "keep-alive", b"ok")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_leave_the_connection_usable(door: RunningDoor, web: Backend, status: int) -> None:
    client = door.client()
    client.send(get("/1"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 %d Quiet\r\nX-Code: %d\r\n\r\n" % (status, status))
    assert client.response()[0] == status
    client.send(get("/2"))
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"


def test_head_has_the_length_and_no_body(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("HEAD", "/1"))
    backend = web.accept()
    assert backend.head()[0] == "HEAD /1 HTTP/1.1"
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
    start, fields = client.head()
    assert (start, fields["content-length"]) == ("HTTP/1.1 200 OK", "12345")
    client.send(get("/2"))
    assert backend.head()[0] == "GET /2 HTTP/1.1"
    backend.send(OK)
    assert client.response()[2] == b"ok"


def test_interim_answers_and_expect(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", Expect="100-continue", Content_Length="3"))
    backend = web.accept()
    _, fields = backend.head()
    assert fields["expect"] == "100-continue"
    backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.head()[0] == "HTTP/1.1 100 Continue"
    client.send(b"abc")
    assert backend.exactly(3) == b"abc"
    backend.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + OK)
    assert client.head() == ("HTTP/1.1 103 Early Hints", {"link": "</a.css>"})
    assert client.response()[2] == b"ok"


def test_server_sent_events_are_not_held_back(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/events"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert client.head()[0] == "HTTP/1.1 200 OK"
    for number in range(3):
        backend.send(b"9\r\ndata: %d\n\n\r\n" % number)
        assert client.until(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number


def test_a_client_that_leaves_ends_the_backends_work(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/slow"))
    backend = web.accept()
    backend.head()
    client.close()
    assert backend.rest() == b""


def test_a_body_cut_short_is_seen_as_cut_short(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    backend.close()
    _, _, body = client.rest().partition(b"\r\n\r\n")
    assert body == b"only this"


def test_a_chunked_body_cut_short_has_no_last_chunk(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n")
    backend.close()
    assert client.rest().endswith(b"4\r\nonly\r\n")


def test_an_early_answer_ends_an_upload(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", Content_Length="1000000") + b"x" * 1000)
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    status, fields, body = client.response()
    assert (status, fields["connection"], body) == (413, "close", b"big")
    assert client.rest() == b""


def test_a_large_body_is_the_same_on_both_sides(door: RunningDoor, web: Backend) -> None:
    payload = bytes(range(256)) * 20000
    client = door.client()
    client.send(get("/big"))
    backend = web.accept()
    backend.head()
    backend.sock.settimeout(None)
    sender = threading.Thread(
        target=lambda: backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(payload), payload))
    )
    sender.start()
    status, _, body = client.response()
    sender.join()
    assert status == 200
    assert body == payload
    client.send(get("/next"))
    assert backend.head()[0] == "GET /next HTTP/1.1"
    backend.send(OK)
    assert client.response()[2] == b"ok"


def test_a_large_upload_is_the_same_on_both_sides(door: RunningDoor, web: Backend) -> None:
    payload = bytes(range(256)) * 20000
    client = door.client()
    sender = threading.Thread(target=lambda: client.send(request("PUT", "/big", body=payload)))
    sender.start()
    backend = web.accept()
    _, fields = backend.head()
    assert backend.exactly(int(fields["content-length"])) == payload
    sender.join()
    backend.send(OK)
    assert client.response()[0] == 200


def test_a_slow_reader_stops_the_backend(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/endless"))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    backend.sock.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            backend.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
    assert sent < 64_000_000


def test_a_slow_backend_stops_the_client(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", Transfer_Encoding="chunked"))
    web.accept()
    client.sock.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            client.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
    assert sent < 64_000_000
