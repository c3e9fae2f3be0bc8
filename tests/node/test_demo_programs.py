"""The demo's programs as processes: what they serve over real sockets."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.node.demo import charts, websocket
from portway.node.demo.charts import Bar
from portway.testing.cluster import free_port

HOST = "127.0.0.1"


@contextlib.contextmanager
def program(name: str, **environment: str) -> Iterator[int]:
    """A demo program on a port of its own, once it accepts."""
    port = free_port()
    given = {"POD_IP": HOST, "PORT": str(port), "POD_NAME": f"{name}-0"} | environment
    with subprocess.Popen([sys.executable, "-m", f"portway.node.demo.{name}"], env=os.environ | given) as process:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                    break
                time.sleep(0.01)
            yield port
        finally:
            process.terminate()
            assert process.wait(10) == -15


def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], answer.read().decode()


def test_hello_says_who_answers_to_programs_and_to_browsers() -> None:
    with program("hello") as port:
        assert get(port, "/any") == (200, "text/plain; charset=utf-8", "hello from hello-0\n")
        status, kind, page = get(port, "/", accept="text/html,*/*", x="<b>")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert "Hello from hello-0" in page
        assert "&lt;b&gt;" in page
        assert "<b>" not in page
        assert "x-seen: 1" in get(port, "/headers", **{"X-Seen": "1"})[2]


def test_secure_speaks_tls_only() -> None:
    with program("secure") as port:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(HOST, port, timeout=10, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello from secure-0\n"
        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, "/")


def test_the_dashboard_draws_what_its_backend_answers_under_any_prefix() -> None:
    with program("elasticsearch") as backend, contextlib.ExitStack() as stack:
        known = {
            "ELASTICSEARCH_LOGGING_SERVICE_HOST": HOST,
            "ELASTICSEARCH_LOGGING_SERVICE_PORT": str(backend),
        }
        port = stack.enter_context(program("dashboard", **known))
        _, _, text = get(backend, "/_count?q=user:kimchy%20AND%20level:warn")
        count = json.loads(text)["count"]
        status, kind, page = get(port, "/?q=user:kimchy%20AND%20level:warn&hours=24")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert f'<h2>Lines</h2><div class="big">{count}</div>' in page
        assert page.count("<svg") == 3
        assert "<script" not in page
        assert re.findall(r'(?:href|action|src)="(?!\./|#)', page) == []
        status, _, page = get(port, "/?q=%22%3Cscript%3E")
        assert status == 502
        assert "<script>" not in page
        assert get(port, "/absent")[0] == 404
        _, _, empty = get(port, "/?q=nothing-like-this")
        assert "Nothing matches." in empty


def test_the_dashboard_says_when_its_backend_is_gone() -> None:
    known = {"ELASTICSEARCH_LOGGING_SERVICE_HOST": HOST, "ELASTICSEARCH_LOGGING_SERVICE_PORT": str(free_port())}
    with program("dashboard", **known) as port:
        status, _, page = get(port, "/")
        assert status == 502
        assert "does not answer" in page


def test_the_server_takes_chunked_bodies_pipelines_and_large_bodies() -> None:
    with program("elasticsearch") as port, socket.create_connection((HOST, port), 10) as peer:
        body = b'{"user":"x"}'
        chunked = b"POST /n/_doc/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        large = b"POST /n/_doc/2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2 << 20) + b"x" * (2 << 20)
        peer.sendall(chunked + large + b"GET /n/_count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: peer.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"201", b"413", b"200"]
    assert b'{"count":1,' in answers


def frame(opcode: int, payload: bytes, *, final: bool = True, mask: bytes = b"\1\2\3\4") -> bytes:
    """A client's frame."""
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    return bytes([(0x80 if final else 0) | opcode]) + length + mask + masked


def test_the_websocket_echoes_joins_fragments_answers_pings_and_closes() -> None:
    with program("echo") as port, socket.create_connection((HOST, port), 10) as peer:
        key = base64.b64encode(b"0123456789abcdef").decode()
        peer.sendall(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, other\r\n\r\n".encode()
        )
        stream = peer.makefile("rb")
        head = b"".join(iter(stream.readline, b"\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 ")
        assert f"sec-websocket-accept: {websocket.accept_key(key)}" in head
        assert "sec-websocket-protocol: chat\r\n" in head
        peer.sendall(frame(1, b"hello"))
        assert stream.read(7) == b"\x81\x05hello"
        peer.sendall(frame(2, b"a" * 100, final=False) + frame(9, b"hi") + frame(0, b"b" * 100))
        assert stream.read(4) == b"\x8a\x02hi"
        assert stream.read(4 + 200) == b"\x82\x7e\x00\xc8" + b"a" * 100 + b"b" * 100
        peer.sendall(frame(8, struct.pack("!H", 1000)))
        assert stream.read() == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x81\x02hi", 1002),
        (b"\xc1\x82\0\0\0\0hi", 1002),
        (b"\x09\x80\0\0\0\0", 1002),
        (b"\x80\x82\0\0\0\0hi", 1002),
        (b"\x81\xff" + struct.pack("!Q", 1 << 40) + b"\0\0\0\0", 1009),
    ],
)
def test_a_client_that_breaks_the_protocol_is_closed_with_its_code(sent: bytes, code: int) -> None:
    async def read() -> int:
        reader = asyncio.StreamReader()
        reader.feed_data(sent)
        reader.feed_eof()
        try:
            found = await websocket.read_frame(reader)
            return 1002 if found.opcode == 0 else 0
        except websocket.ProtocolViolationError as error:
            return error.code

    assert asyncio.run(read()) == code


def test_the_accept_key_is_the_rfcs() -> None:
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.binary(max_size=70000), st.binary(min_size=4, max_size=4))
def test_what_is_masked_comes_out_as_it_was(payload: bytes, mask: bytes) -> None:
    masked = websocket._unmask(payload, mask)
    assert websocket._unmask(masked, mask) == payload


@given(st.integers(0, 10**9))
def test_a_scale_holds_its_value_in_four_whole_steps(value: int) -> None:
    top = charts.nice_ceiling(value)
    assert top >= value
    assert top % 4 == 0
    assert top <= max(4, value * 2.5)


def test_a_histogram_draws_each_part_and_escapes_labels() -> None:
    drawn = charts.histogram([Bar("<10:00>", (3, 0, 1)), Bar("11:00", (0, 0, 0))], ("info", "warn", "error"))
    assert drawn.count("<rect") == 2
    assert "&lt;10:00&gt;: 4" in drawn
    assert "<10" not in drawn
    assert "Nothing matches" in charts.histogram([], ("info",))
