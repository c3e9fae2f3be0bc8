"""What a connection to a backend remembers or keeps of one request must not show in the next: heads that were seen
before, a pause for somebody's slow client, work on a large page.
"""

import gzip
import socket

import pytest

from portway.gateway.rewrite import Links, body_rewriter
from portway.gateway.rewrite.encoding import OVERHEAD, STEP
from portway.gateway.rewritten import TURN, RewrittenBody
from portway.gateway.upstream.connection import Memo
from portway.testing.conversation import OK, Backend, RunningDoor, Wire, get

VICTIM = "/api/v1/namespaces/demo/services/victim/proxy/secret"


@pytest.mark.parametrize(
    "before",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"\r\n\r\n", b"\r\n"],
    ids=["100", "103", "two empty lines", "an empty line"],
)
def test_what_comes_before_a_head_is_not_remembered_as_one(door: RunningDoor, web: Backend, before: bytes) -> None:
    """The first answer sets a trap: were `before` taken for its head, the rest of the second would go out as it is."""
    victim = door.backend()
    door.service("victim", victim)
    client = door.client()
    size = 500
    client.send(get("/a"))
    backend = web.accept()
    backend.head()
    padded = b"HTTP/1.1 200 OK\r\nX-Pad: %b\r\nContent-Length: 2\r\n\r\nok" % (b"p" * (size - 51))
    backend.send(before + padded)
    assert client.response()[2] == b"ok"
    client.send(get("/b") + get(VICTIM))
    backend.head()
    stolen = b"HTTP/1.1 200 OK\r\nSet-Cookie: s=evil; Path=/\r\nContent-Length: 5\r\n\r\nstole"
    backend.send(before + b"ok" + stolen.ljust(len(padded) - 2))
    again = web.accept()  # what came was no answer: a GET may be asked again
    again.head()
    again.send(OK)
    assert client.response()[2] == b"ok"
    serving = victim.accept()
    assert serving.head()[0] == "GET /secret HTTP/1.1"
    serving.send(OK)
    status, fields, body = client.response()
    assert (status, body, "set-cookie" in fields) == (200, b"ok", False)


AUDITED = b"HTTP/1.1 200 OK\r\nAudit-Id: %b\r\nX-Other: 1\r\nContent-Length: 2\r\n\r\nok"
AUDIT_IDS = b"4f0a2b1c-0000-4000-8000-000000000001", b"4f0a2b1c-0000-4000-8000-0000000000ff"


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (AUDITED % AUDIT_IDS[0], True),
        (AUDITED % AUDIT_IDS[1], True),
        (AUDITED % b"4f0a2b1c\r\nSet-Cookie: a=b; path=/; a=b", False),
        (AUDITED % AUDIT_IDS[1][:-1], False),
        (AUDITED % AUDIT_IDS[1] + b"x", False),
        ((AUDITED % AUDIT_IDS[1]).replace(b"X-Other: 1", b"X-Other: 2"), False),
        ((AUDITED % AUDIT_IDS[1]).replace(b"Audit-Id: ", b"Audit-If: "), False),
    ],
)
def test_only_the_audit_id_of_a_remembered_head_may_differ(data: bytes, fits: bool) -> None:
    head = (AUDITED % AUDIT_IDS[0])[:-2]
    assert Memo(head, 2, 200, b"").fits(data) is fits


def test_answers_that_differ_in_their_audit_id_go_out_with_our_own(door: RunningDoor, web: Backend) -> None:
    client = door.client()
    seen = set()
    backend = None
    for their in (*AUDIT_IDS, AUDIT_IDS[0]):
        client.send(get("/a"))
        backend = backend or web.accept()
        backend.head()
        backend.send(AUDITED % their)
        status, fields, body = client.response()
        assert (status, body, fields["x-other"]) == (200, b"ok", "1")
        assert fields["audit-id"].encode() not in AUDIT_IDS
        seen.add(fields["audit-id"])
    assert len(seen) == 3


def narrow_client(door: RunningDoor) -> Wire:
    """A client whose connection holds a few KiB on its way: whatever it does not read waits in the door."""
    client = door.client()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def narrow() -> None:
        (down,) = (d for d in door.door.crowd.connections if not d.served)
        down.transport.set_write_buffer_limits(0)
        down.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    door.settle()
    door.on_loop(narrow)
    return client


def blocked_at_the_end(door: RunningDoor, web: Backend, raw: bytes) -> tuple[Wire, Wire, int]:
    """(client, backend, bytes), with an answer that the backend has sent whole, of which the client must read so many
    bytes yet.
    """
    size = 400_000
    client = narrow_client(door)
    client.send(raw)
    backend = web.accept()
    backend.head()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size)
    backend.send(b"x" * size)
    client.head()
    read = 0
    while not door.on_loop(lambda: any(d.blocked and d.served for d in door.door.crowd.connections)):
        client.exactly(1000)
        read += 1000
        assert read < size, "the last piece did not block"
    return client, backend, size - read


def test_a_connection_that_waited_for_a_slow_client_reads_again(door: RunningDoor, web: Backend) -> None:
    _, backend, _ = blocked_at_the_end(door, web, get("/big"))
    other = door.client()
    other.send(get("/small"))
    backend.head()
    backend.send(OK)
    assert other.response()[2] == b"ok"


def test_what_was_asked_before_nonsense_is_answered_also_to_a_slow_client(door: RunningDoor, web: Backend) -> None:
    client, backend, left = blocked_at_the_end(door, web, get("/big") + get("/small") + b"BROKEN request\r\n\r\n")
    client.exactly(left)
    backend.head()
    backend.send(OK)
    assert client.response()[2] == b"ok"
    assert client.response()[0] == 405


def test_a_page_that_unpacks_to_a_lot_lets_others_have_their_turn() -> None:
    """However fast its client reads: one turn of the loop looks at a bounded piece of the document."""
    packed = gzip.compress(b"<p>" * 1_000_000)
    rewriter = body_rewriter(Links("/p", "10.0.0.1:80", "door"), b"gzip", b"gzip")
    assert rewriter is not None
    body = RewrittenBody(rewriter)
    body.add(packed)
    body.finish(lambda: None)
    made: list[bytes] = []
    turns = 1
    while body.pump(made.append, lambda: False):
        assert rewriter.work <= turns * (TURN + STEP + OVERHEAD)
        turns += 1
    assert turns > 3_000_000 // (TURN + STEP)
    assert gzip.decompress(b"".join(made)) == b"<p>" * 1_000_000


def test_a_small_page_is_made_in_one_turn() -> None:
    rewriter = body_rewriter(Links("/p", "10.0.0.1:80", "door"), b"", None)
    assert rewriter is not None
    body = RewrittenBody(rewriter)
    made: list[bytes] = []
    body.add(b'<a href="/x">')
    assert not body.pump(made.append, lambda: False)
    body.finish(lambda: made.append(b"!"))
    assert not body.pump(made.append, lambda: False)
    assert b"".join(made) == b'<a href="/p/x">!'
