"""Request smuggling: whatever two parsers could read differently is refused, the connection ends, and nothing of what
follows reaches a backend (RFC 9112 sections 2.2, 3, 5, 6, 7 and 11.2).
"""

import json

import pytest

from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get, request

PATH = "/api/v1/namespaces/demo/services/web/proxy/x"
SMUGGLED = get("/smuggled")
CHUNKS = b"0\r\n\r\n"


def lines(start: str, *fields: str) -> bytes:
    """A head with a credential and these raw fields."""
    raw = "\r\n".join((start, "Host: d", "Authorization: Bearer admin-token", *fields)) + "\r\n\r\n"
    return raw.encode("latin-1")


def post(*fields: str, body: bytes = CHUNKS) -> bytes:
    return lines(f"POST {PATH} HTTP/1.1", *fields) + body


def start(line: str) -> bytes:
    return lines(line)


TE = "Transfer-Encoding: "
CL = "Content-Length: "
FRAMING = {
    "length and chunked": post(CL + "5", TE + "chunked"),
    "chunked and length": post(TE + "chunked", CL + "5"),
    "chunked twice": post(TE + "chunked", TE + "chunked"),
    "chunked, then identity": post(TE + "chunked", TE + "identity"),
    "identity, then chunked": post(TE + "identity", TE + "chunked"),
    "chunked twice in a list": post(TE + "chunked, chunked"),
    "chunked and a comma": post(TE + "chunked,"),
    "vertical tab before chunked": post(TE + "\x0bchunked"),
    "vertical tab after chunked": post(TE + "chunked\x0b"),
    "nul after chunked": post(TE + "chunked\0"),
    "quoted chunked": post(TE + '"chunked"'),
    "chunked with a parameter": post(TE + "chunked;q=1"),
    "xchunked": post(TE + "xchunked"),
    "chunkedx": post(TE + "chunkedx"),
    "identity": post(TE + "identity"),
    "gzip alone": post(TE + "gzip"),
    "an empty coding": post(TE),
    "chunked folded": post("Transfer-Encoding:\r\n chunked"),
    "space before the colon": post("Transfer-Encoding : chunked"),
    "tab before the colon": post("Transfer-Encoding\t: chunked"),
    "chunked in HTTP/1.0": lines(f"POST {PATH} HTTP/1.0", TE + "chunked") + CHUNKS,
    "+5": post(CL + "+5", body=b"hello"),
    "-5": post(CL + "-5", body=b"hello"),
    "5,5": post(CL + "5,5", body=b"hello"),
    "5 5": post(CL + "5 5", body=b"hello"),
    "0x5": post(CL + "0x5", body=b"hello"),
    "5.0": post(CL + "5.0", body=b"hello"),
    "5_0": post(CL + "5_0", body=b"hello"),
    "an arabic five": post(CL + "\xd9\xa5", body=b"hello"),
    "an empty length": post(CL, body=b""),
    "a huge length": post(CL + "9" * 30, body=b"hello"),
    "a length of 2**64": post(CL + "18446744073709551616", body=b"hello"),
    "the same length twice": post(CL + "5", CL + "5", body=b"hello"),
    "two lengths": post(CL + "5", CL + "6", body=b"hello"),
    "a length folded": post("Content-Length:\r\n 5", body=b"hello"),
}
CHUNKED = {
    "no end of chunk": b"5\r\nhelloXX0\r\n\r\n",
    "chunk longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "lines end in LF": b"5\nhello\n0\n\n",
    "data ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "size ends in CR": b"5\rhello\r\n0\r\n\r\n",
    "space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"1_0\r\nhello\r\n0\r\n\r\n",
    "size of 2**64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "extension ends in LF": b"5;a\nhello\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "nul in an extension": b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "junk after the last chunk": b"5\r\nhello\r\n0\r\nX",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nXX\r\n\r\n",
    "trailer ends in LF": b"5\r\nhello\r\n0\r\nX: 1\n\r\n",
    "folded trailer": b"5\r\nhello\r\n0\r\nX: 1\r\n Y: 2\r\n\r\n",
}
HEADS = {
    "lines end in LF": start(f"GET {PATH} HTTP/1.1").replace(b"\r\n", b"\n"),
    "a field ends in LF": lines(f"GET {PATH} HTTP/1.1", "X: a\nY: b"),
    "CR in a field": lines(f"GET {PATH} HTTP/1.1", "X: a\rY: b"),
    "the request line ends in CR": start(f"GET {PATH} HTTP/1.1").replace(b"\r\nHost", b"\rHost"),
    "a folded field": lines(f"GET {PATH} HTTP/1.1", "X: a\r\n b"),
    "a fold as first field": start(f"GET {PATH} HTTP/1.1").replace(b"\r\nHost", b"\r\n Host"),
    "nul in a value": lines(f"GET {PATH} HTTP/1.1", "X: a\0b"),
    "nul in a name": lines(f"GET {PATH} HTTP/1.1", "X\0: a"),
    "nul in the target": start(f"GET {PATH}\0 HTTP/1.1"),
    "nul in the method": start(f"G\0ET {PATH} HTTP/1.1"),
    "no colon": lines(f"GET {PATH} HTTP/1.1", "Xabc"),
    "space before the colon": lines(f"GET {PATH} HTTP/1.1", "X : abc"),
    "tab before the colon": lines(f"GET {PATH} HTTP/1.1", "X\t: abc"),
    "an empty name": lines(f"GET {PATH} HTTP/1.1", ": abc"),
    "a control character in a name": lines(f"GET {PATH} HTTP/1.1", "X\x01: abc"),
    "a control character in a value": lines(f"GET {PATH} HTTP/1.1", "X: \x01"),
    "DEL in a value": lines(f"GET {PATH} HTTP/1.1", "X: \x7f"),
    "a name that is not ASCII": lines(f"GET {PATH} HTTP/1.1", "X\xff: 1"),
    "a bracket in a name": lines(f"GET {PATH} HTTP/1.1", "X(: 1"),
    "tab after the method": start(f"GET\t{PATH} HTTP/1.1"),
    "space before the method": start(f" GET {PATH} HTTP/1.1"),
    "junk after the version": start(f"GET {PATH} HTTP/1.1 junk"),
    "space in the target": start(f"GET {PATH} y HTTP/1.1"),
    "a target that is not ASCII": start(f"GET {PATH}\xff HTTP/1.1"),
    "a control character in the target": start(f"GET {PATH}\x01 HTTP/1.1"),
    "a fragment": start(f"GET {PATH}#f HTTP/1.1"),
    "a fragment behind the query": start(f"GET {PATH}?q#f HTTP/1.1"),
    "a relative target": start("GET x HTTP/1.1"),
    "no target": start("GET HTTP/1.1"),
    "HTTP/0.9": f"GET {PATH}\r\n".encode(),
    "HTTP/0.9 by name": start(f"GET {PATH} HTTP/0.9"),
    "HTTP/1.2": start(f"GET {PATH} HTTP/1.2"),
    "HTTP/1.10": start(f"GET {PATH} HTTP/1.10"),
    "HTTP/2.0": start(f"GET {PATH} HTTP/2.0"),
    "HTTP/9.9": start(f"GET {PATH} HTTP/9.9"),
    "HTTp": start(f"GET {PATH} HTTp/1.1"),
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a lower-case method": start(f"get {PATH} HTTP/1.1"),
    "an unknown method": start(f"FOO {PATH} HTTP/1.1"),
    "TRACE": start(f"TRACE {PATH} HTTP/1.1"),
    "CONNECT": start("CONNECT d:80 HTTP/1.1"),
    "CONNECT to a path": start(f"CONNECT {PATH} HTTP/1.1"),
    "no Host": start(f"GET {PATH} HTTP/1.1").replace(b"Host: d\r\n", b""),
    "two Hosts": lines(f"GET {PATH} HTTP/1.1", "Host: e"),
    "two credentials": lines(f"GET {PATH} HTTP/1.1", "Authorization: Bearer other"),
}


def refused(client: Wire) -> int:
    """Reads the one answer, a Status, and the end of the connection; returns its code."""
    code, fields, body = client.response()
    status = json.loads(body)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", code)
    assert fields["connection"] == "close"
    assert client.rest() == b""
    return code


def assert_untouched(door: RunningDoor, web: Backend) -> None:
    """The next thing that the backend hears is a request of somebody else."""
    probe = door.client()
    probe.send(get("/probe"))
    backend = web.accept()
    assert backend.head()[0] == "GET /probe HTTP/1.1"
    backend.send(OK)
    assert probe.response()[0] == 200


@pytest.mark.parametrize("raw", FRAMING.values(), ids=FRAMING.keys())
def test_doubtful_framing_is_refused(door: RunningDoor, web: Backend, raw: bytes) -> None:
    client = door.client()
    client.send(raw + SMUGGLED)
    assert refused(client) in (400, 501)
    assert_untouched(door, web)


@pytest.mark.parametrize("raw", HEADS.values(), ids=HEADS.keys())
def test_a_malformed_head_is_refused(door: RunningDoor, web: Backend, raw: bytes) -> None:
    client = door.client()
    client.send(raw + SMUGGLED)
    assert refused(client) in (400, 405, 505)
    assert_untouched(door, web)


@pytest.mark.parametrize("body", CHUNKED.values(), ids=CHUNKED.keys())
def test_a_malformed_chunk_is_refused(door: RunningDoor, web: Backend, body: bytes) -> None:
    client = door.client()
    client.send(post(TE + "chunked", body=body) + SMUGGLED)
    assert refused(client) == 400
    assert_untouched(door, web)


@pytest.mark.parametrize("body", CHUNKED.values(), ids=CHUNKED.keys())
def test_a_malformed_chunk_under_way_never_becomes_a_whole_request(
    door: RunningDoor, web: Backend, body: bytes
) -> None:
    client = door.client()
    client.send(post(TE + "chunked", body=b"3\r\nabc\r\n"))
    backend = web.accept()
    backend.until(b"3\r\nabc\r\n")
    client.send(body + SMUGGLED)
    assert refused(client) == 400
    heard = backend.rest()
    assert b"0\r\n" not in heard
    assert b"smuggled" not in heard
    assert_untouched(door, web)


def test_every_refusal_comes_byte_by_byte_too(door: RunningDoor, web: Backend) -> None:
    for raw in (FRAMING["chunked and length"], HEADS["space before the colon"], FRAMING["+5"]):
        client = door.client()
        for i in range(len(raw)):
            try:
                client.send(raw[i : i + 1])
            except ConnectionError:
                break
        assert client.rest().startswith(b"HTTP/1.1 400 ")
    assert_untouched(door, web)


def test_a_chunk_extension_without_end_is_refused(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(post(TE + "chunked", body=b"5;"))
    web.accept()
    client.send(b"a" * 1_000_000)
    assert client.response()[0] == 431
    assert client.rest() == b""


@pytest.mark.parametrize("name", ["Content_Length", "Transfer_Encoding", "content_length", "TRANSFER_ENCODING"])
def test_framing_in_other_spellings_is_not_passed_on(door: RunningDoor, web: Backend, name: str) -> None:
    client = door.client()
    client.send(post(f"{name}: 5", f"{CL}2", body=b"hi"))
    backend = web.accept()
    _, fields = backend.head()
    assert fields["content-length"] == "2"
    assert name.lower() not in fields
    assert backend.exactly(2) == b"hi"


@pytest.mark.parametrize("named", ["content-length", "Content-Length, x", "close, content-length", "host", "HOST"])
def test_the_connection_list_cannot_hide_the_framing(door: RunningDoor, web: Backend, named: str) -> None:
    client = door.client()
    client.send(post(f"Connection: {named}", f"{CL}{len(SMUGGLED)}", body=SMUGGLED))
    backend = web.accept()
    _, fields = backend.head()
    assert int(fields["content-length"]) == len(SMUGGLED)
    assert fields["host"] == "d"
    assert backend.exactly(len(SMUGGLED)) == SMUGGLED


def test_the_body_of_a_refused_upload_is_not_a_request(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", token="nobody-token", Content_Length=str(len(SMUGGLED) + 10)))
    code, fields, _ = client.response()
    assert (code, fields["connection"]) == (403, "close")
    client.send(SMUGGLED + SMUGGLED)
    assert client.rest() == b""
    assert_untouched(door, web)


def test_the_body_behind_an_early_answer_is_not_a_request(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(request("POST", "/x", Content_Length=str(len(SMUGGLED) + 10)))
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    assert client.response()[::2] == (413, b"big")
    client.send(SMUGGLED + SMUGGLED)
    assert client.rest() == b""
    assert backend.rest() == b""
    assert_untouched(door, web)


@pytest.mark.parametrize(
    "rest",
    [b"GE", b"G", b"POST ", get("/x")[:-1], get("/x")[:-2], get("/x")[:40], b"X", b"\0"],
    ids=["GE", "G", "POST", "all but LF", "all but CRLF", "the request line", "X", "nul"],
)
def test_bytes_left_over_are_part_of_the_next_request(door: RunningDoor, web: Backend, rest: bytes) -> None:
    """A repeated request is recognised by its bytes; bytes before it make it another one."""
    client, whole = door.client(), get("/x")
    client.send(whole)
    backend = web.accept()
    for _ in range(2):
        backend.head()
        backend.send(OK)
        assert client.response()[2] == b"ok"
        client.send(whole)
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    client.send(rest)
    door.settle()
    client.send(whole)
    assert refused(client) in (400, 405)
    assert_untouched_on(backend, door)


def test_bytes_left_over_behind_a_request_under_way(door: RunningDoor, web: Backend) -> None:
    client, whole = door.client(), get("/x")
    client.send(whole)
    backend = web.accept()
    backend.head()
    client.send(b"GE")
    door.settle()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    client.send(whole)
    assert refused(client) == 405
    assert_untouched_on(backend, door)


def assert_untouched_on(backend: Wire, door: RunningDoor) -> None:
    """As assert_untouched, on the connection that is kept."""
    probe = door.client()
    probe.send(get("/probe"))
    assert backend.head()[0] == "GET /probe HTTP/1.1"


def test_a_repeated_refusal_is_a_refusal_again(door: RunningDoor, web: Backend) -> None:
    """What was answered by the door itself has nothing to repeat to a backend."""
    client = door.client()
    for raw, code in ((get(""), 301), (get("/%zz"), 400), (get("/x", token="nobody-token"), 403)):
        for _ in range(3):
            client.send(raw)
            assert client.response()[0] == code
    assert_untouched(door, web)
