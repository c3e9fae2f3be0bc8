"""Rewritten bodies on the wire: links get their prefix, and a page that unpacks to a lot never waits in memory."""

import gzip
from pathlib import Path

from portway.testing.conversation import Backend, RunningDoor, get

PREFIX = b"/api/v1/namespaces/demo/services/web/proxy"


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_links_are_rewritten_and_the_connection_lives_on(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    backend = None
    for _ in range(2):
        client.send(get("/page"))
        backend = backend or web.accept()
        backend.head()
        page = b'<a href="/next">next</a>'
        backend.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page))
        status, fields, body = client.response()
        assert (status, body) == (200, b'<a href="%b/next">next</a>' % PREFIX)
        assert fields["transfer-encoding"] == "chunked"


def test_a_page_that_unpacks_to_a_lot_waits_for_its_reader(door: RunningDoor, web: Backend) -> None:
    size = 60_000_000
    packed = gzip.compress(b"<p>" + b" " * size + b"</p>", 9)
    client = door.client()
    client.send(get("/bomb"))
    backend = web.accept()
    backend.head()
    before = resident()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    backend.send(head % len(packed) + packed)
    client.head()
    door.settle()
    assert resident() - before < 30_000_000
    received = 0
    while chunk := int(client.until(b"\r\n"), 16):
        client.exactly(chunk + 2)
        received += chunk
    assert received == size + 7
    client.exactly(2)
    client.send(get("/next"))
    assert backend.head()[0] == "GET /next HTTP/1.1"


def test_a_broken_page_is_an_error_or_visibly_cut(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/broken"))
    backend = web.accept()
    backend.head()
    backend.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!"
    )
    assert client.response()[0] == 500


def test_a_part_of_a_page_is_left_alone(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    client.send(get("/part", Range="bytes=0-9"))
    backend = web.accept()
    backend.head()
    part = b'<a href="/n'
    backend.send(
        b"HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (len(part), part)
    )
    assert client.response()[::2] == (206, part)
