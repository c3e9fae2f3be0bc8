"""A connection remembers the header fields of its last request and parses only the line before them when they come
again. That must never show: whatever is sent means the same to a connection that knows its fields and to a new one.
"""

import select

import pytest

from portway.testing.conversation import OK, TIMEOUT, Backend, RunningDoor, Wire, get

PATH = "/api/v1/namespaces/demo/services/web/proxy/x"
FIELDS = "\r\nHost: d\r\nAuthorization: Bearer admin-token\r\nX-Same: 1\r\n\r\n"
FIRST = f"GET {PATH} HTTP/1.1{FIELDS}"
GONE = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

LINES = [
    f"GET {PATH} HTTP/1.1",
    f"GET {PATH}?q=%00 HTTP/1.1",
    f"GET {PATH}?q=%zz HTTP/1.1",
    f"GET {PATH}? HTTP/1.1",
    f"GET {PATH}?a?b HTTP/1.1",
    f"GET {PATH}?<> HTTP/1.1",
    f"HEAD {PATH} HTTP/1.1",
    f"DELETE {PATH} HTTP/1.1",
    f"OPTIONS {PATH} HTTP/1.1",
    f"POST {PATH} HTTP/1.1",
    f"PROPFIND {PATH} HTTP/1.1",
    f"TRACE {PATH} HTTP/1.1",
    f"CONNECT {PATH} HTTP/1.1",
    f"get {PATH} HTTP/1.1",
    f" GET {PATH} HTTP/1.1",
    f"GET  {PATH} HTTP/1.1",
    f"GET {PATH}  HTTP/1.1",
    f"GET {PATH} HTTP/1.1 ",
    f"GET {PATH} HTTP/1.0",
    f"GET {PATH} HTTP/1.2",
    f"GET {PATH} HTTP/2.0",
    f"GET {PATH} http/1.1",
    f"GET {PATH}",
    f"GET {PATH}#f HTTP/1.1",
    f"GET {PATH}?q#f HTTP/1.1",
    f"GET {PATH}/../y HTTP/1.1",
    f"GET {PATH}/./y/. HTTP/1.1",
    f"GET {PATH}/%2e%2e/y HTTP/1.1",
    f"GET {PATH}/.y HTTP/1.1",
    f"GET {PATH}//y HTTP/1.1",
    f"GET {PATH}/%zz HTTP/1.1",
    f"GET {PATH}\\y HTTP/1.1",
    f'GET {PATH}"y HTTP/1.1',
    f"GET {PATH}\0 HTTP/1.1",
    f"GET {PATH}\x7f HTTP/1.1",
    f"GET {PATH}\xe9 HTTP/1.1",
    f"GET {PATH}\tHTTP/1.1",
    f"GET {PATH}\nX: y HTTP/1.1",
    f"GET {PATH} HTTP/1.1\nX: y",
    f"GET {PATH} HTTP/1.1\r\nX: y",
    f"GET {PATH} HTTP/1.1\r\nContent-Length: 5",
    f"GET {PATH} HTTP/1.1\r\nTransfer-Encoding: chunked",
    f"GET {PATH} HTTP/1.1\r\nHost: other",
    f"GET {PATH} HTTP/1.1\r\nGET {PATH} HTTP/1.1",
    f"GET {PATH} HTTP/1.1\r\n",
    f"GET {PATH} HTTP/1.1\r",
    f"GET http://e{PATH} HTTP/1.1",
    f"GET /{PATH} HTTP/1.1",
    f"GET {PATH.replace('web', 'none')} HTTP/1.1",
    f"GET {PATH.replace('web', 'http:web:80')} HTTP/1.1",
    f"GET {PATH.replace('web', 'a:b:c:d')} HTTP/1.1",
    f"GET {PATH.replace('web', '%77eb')} HTTP/1.1",
    f"GET {PATH.replace('web', '..')} HTTP/1.1",
    f"GET {PATH[:-2]} HTTP/1.1",
    f"GET {PATH[:-2]}y HTTP/1.1",
    "GET /livez HTTP/1.1",
    "GET / HTTP/1.1",
    "*",
    "",
    "\r\n",
]


def outcome(web: Backend, client: Wire) -> tuple[list[bytes], bytes]:
    """What the backend heard, and the code that the client was answered with."""
    heard: list[bytes] = []
    while True:
        ready, _, _ = select.select([client.sock, web.listener], [], [], TIMEOUT)
        if web.listener in ready:
            backend = web.accept()
            heard.append(backend.until(b"\r\n\r\n"))
            backend.send(GONE)
        elif ready:
            start, fields = client.head()
            if not heard or not heard[0].startswith(b"HEAD "):
                client.exactly(int(fields["content-length"]))
            return heard, start.encode().split(b" ")[1]
        else:
            return heard, b"nothing"


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
@pytest.mark.parametrize("before", ["", "\r\n"], ids=["bare", "behind an empty line"])
def test_what_is_known_changes_nothing(door: RunningDoor, web: Backend, line: str, before: str) -> None:
    first = (before + FIRST).encode()
    for known in {FIELDS, before + FIRST}:
        raw = (line + known).encode("latin-1")
        warm, cold = door.client(), door.client()
        warm.send(first)
        assert outcome(web, warm)[1] == b"200"
        cold.send(raw)
        expected = outcome(web, cold)
        warm.send(raw)
        assert outcome(web, warm) == expected
        assert expected[1] != b"nothing"


def test_fields_of_somebody_else_are_not_known(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(FIRST.encode())
    assert outcome(web, client)[1] == b"200"
    client.send(FIRST.replace("admin-token", "nobody-token").encode())
    assert outcome(web, client) == ([], b"403")
    client.send(FIRST.encode())
    assert outcome(web, client)[1] == b"200"
    client.send(FIRST.replace("admin-token", "wrong").encode())
    assert outcome(web, client) == ([], b"401")


@pytest.mark.parametrize(
    "refused", ["/api/v1/namespaces/demo/services/none/proxy/x", PATH[:-2], f"{PATH}/%zz", "/livez"]
)
def test_fields_of_a_request_that_went_nowhere_are_forwarded_whole(
    door: RunningDoor, web: Backend, refused: str
) -> None:
    other, client = door.client(), door.client()
    other.send(FIRST.encode())
    expected = outcome(web, other)
    client.send(f"GET {refused} HTTP/1.1{FIELDS}".encode())
    assert outcome(web, client)[0] == []
    client.send(FIRST.encode())
    assert outcome(web, client) == expected


def test_the_host_of_an_absolute_target_is_that_requests_alone(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/x").replace(b"GET /", b"GET http://evil.example/", 1))
    backend = web.accept()
    assert backend.head()[1]["host"] == "evil.example"
    backend.send(OK)
    client.response()
    client.send(get("/x"))
    assert backend.head()[1]["host"] == "door.example"
