"""The node's streaming server: its answers before an upgrade, and conversations in each form, byte by byte."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from portway.kube.errors import BadRequest, StatusError
from portway.kube.spdy import Data, Decoder, Encoder, Frame, GoAway, Ping, RstStream, SynReply, SynStream
from portway.node.streaming import handshake
from portway.node.streaming.handshake import Form, negotiate
from portway.node.streaming.server import MAX_HEAD
from portway.testing.streams import Node, echo, until

PATH = "/api/v1/namespaces/default/pods/pod/portforward"
WEBSOCKET = {
    "connection": ["Upgrade"],
    "upgrade": ["websocket"],
    "sec-websocket-key": ["dGhlIHNhbXBsZSBub25jZQ=="],
    "sec-websocket-version": ["13"],
}
SPDY = {"connection": ["Upgrade"], "upgrade": ["SPDY/3.1"], "x-stream-protocol-version": ["portforward.k8s.io"]}
Headers = dict[str, list[str]]


def websocket(*protocols: str, **changes: list[str]) -> Headers:
    more = {"sec-websocket-protocol": list(protocols)} if protocols else {}
    return WEBSOCKET | more | {name.replace("_", "-"): value for name, value in changes.items()}


# The handshake, without a server


@pytest.mark.parametrize(
    ("method", "query", "headers", "form", "said"),
    [
        ("POST", "", SPDY, Form.SPDY, "X-Stream-Protocol-Version: portforward.k8s.io"),
        ("GET", "", SPDY, Form.SPDY, "Upgrade: SPDY/3.1"),
        ("GET", "", websocket("SPDY/3.1+portforward.k8s.io"), Form.TUNNEL, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("GET", "", websocket("x, SPDY/3.1+portforward.k8s.io"), Form.TUNNEL, "Protocol: SPDY/3.1+portforward.k8s.io"),
        ("GET", "ports=80", websocket(), Form.CHANNELS, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("GET", "ports=80&ports=81,82", websocket("v4.channel.k8s.io"), Form.CHANNELS, "Protocol: v4.channel.k8s.io"),
        ("GET", "ports=1", websocket("v4.base64.channel.k8s.io"), Form.CHANNELS, "Protocol: v4.base64.channel.k8s.io"),
    ],
)
def test_what_is_granted(method: str, query: str, headers: Headers, form: Form, said: str) -> None:
    granted = negotiate(method, query, headers)
    head = granted.head.decode()
    assert granted.form is form
    assert head.startswith("HTTP/1.1 101 ")
    assert head.endswith("\r\n\r\n")
    assert said in head
    assert granted.text == ("base64" in head)
    assert granted.ports == ((80, 81, 82) if "81" in query else (80,) if "80" in query else (1,) if query else ())


@pytest.mark.parametrize(
    ("method", "query", "headers", "code", "words"),
    [
        ("GET", "", {}, 400, "Upgrade request required"),
        ("POST", "", {"upgrade": ["SPDY/3.1"]}, 400, "Upgrade request required"),
        (
            "POST",
            "",
            {"connection": ["upgrade"], "upgrade": ["h2c"]},
            400,
            "unable to upgrade: missing upgrade headers",
        ),
        ("POST", "", SPDY | {"x-stream-protocol-version": []}, 400, "X-Stream-Protocol-Version header is required"),
        (
            "POST",
            "",
            SPDY | {"x-stream-protocol-version": ["v4, v5"]},
            403,
            r"client supports \[v4 v5\], server accepts",
        ),
        ("GET", "", websocket("SPDY/3.1+v9.k8s.io"), 400, "no tunneling spdy protocols provided"),
        ("GET", "", websocket("v4.channel.k8s.io"), 400, 'query parameter "port" is required'),
        ("GET", "ports=0", websocket(), 400, 'port "0" must be > 0'),
        ("GET", "ports=a", websocket(), 400, 'unable to parse "a" as a port'),
        ("GET", "ports=65536", websocket(), 400, "unable to parse"),
        ("GET", "ports=", websocket(), 400, "unable to parse"),
        ("GET", "ports=1" + ",1" * 100, websocket(), 400, "more than 100 ports"),
        ("GET", "ports=80", websocket("v5.channel.k8s.io"), 403, "not supported"),
        ("POST", "", websocket("SPDY/3.1+portforward.k8s.io"), 400, "no WebSocket handshake"),
        ("GET", "", websocket(sec_websocket_version=["8"]), 400, "no WebSocket handshake"),
        ("GET", "", websocket(sec_websocket_key=["short"]), 400, "no WebSocket handshake"),
    ],
)
def test_what_is_refused(method: str, query: str, headers: Headers, code: int, words: str) -> None:
    with pytest.raises(StatusError, match=words) as caught:
        negotiate(method, query, headers)
    assert caught.value.code == code


def test_ports_are_numbers_in_ascii() -> None:
    with pytest.raises(BadRequest):
        handshake.port_number("८०")


# Conversations


class Wire:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = Encoder(), Decoder()
        self.frames: list[Frame] = []

    async def ask(self, method: str, path: str = PATH, headers: Headers | None = None, body: str = "") -> str:
        """Send a request; the answer's head."""
        lines = [f"{name}: {value}" for name, values in (headers or {}).items() for value in values]
        self.writer.write("\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", body]).encode())
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def refused(self, method: str, path: str) -> str:
        head = await self.ask(method, path)
        return head.partition("\r\n")[0] + " " + (await self.reader.read()).decode()

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(self.encoder.encode(frame) for frame in frames))

    async def expect(self, *frames: Frame) -> None:
        """These come next; the server's own pings don't count."""
        while len(self.frames) < len(frames):
            data = await self.reader.read(1 << 16)
            assert data, f"the connection ended after {self.frames}"
            self.frames += [
                frame for frame in self.decoder.feed(data) if not isinstance(frame, Ping) or frame.ping_id % 2
            ]
        assert tuple(self.frames[: len(frames)]) == frames
        del self.frames[: len(frames)]


def run(directory: Path, test: Callable[[Node, Wire], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), Node(directory) as node:
            wire = Wire(*await asyncio.open_unix_connection(node.config.unix_socket))
            try:
                await test(node, wire)
            finally:
                wire.writer.close()
            await until(lambda: not node.server.connections, "the server keeps the connection")

    uvloop.run(main())


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            ("GET", PATH),
            '400 Bad Request {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Upgrade',
        ),
        (("PUT", PATH), "405 Method Not Allowed"),
        (("GET", PATH + "/more"), "404 Not Found"),
        (("GET", "/api/v1/watch/namespaces/default/pods/pod/portforward"), "404 Not Found"),
        (("GET", "/api/v1/namespaces/default/pods/pod/exec"), "404 Not Found"),
        (("GET", "/api/v1/namespaces/default/services/pod/portforward"), "404 Not Found"),
        (("GET", "/api/v1/namespaces/default/pods/gone/portforward"), "404 Not Found"),
        (("GET", "/"), "404 Not Found"),
        (("NONSENSE", PATH), "400 Bad Request"),
    ],
)
def test_answers_that_are_no_upgrade(tmp_path: Path, request_: tuple[str, str], said: str) -> None:
    async def test(node: Node, wire: Wire) -> None:
        node.missing.add("gone")
        assert (await wire.refused(*request_)).startswith(f"HTTP/1.1 {said}")

    run(tmp_path, test)


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    async def test(_: Node, _wire: Wire) -> None:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "streams.sock")
        writer.write(f"GET {PATH} HTTP/1.1\r\nX: ".encode() + b"x" * (MAX_HEAD + 1))
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
        writer.close()

    run(tmp_path, test)


def pair(port: int, first: int = 1, request: str = "0") -> tuple[SynStream, SynStream]:
    fields = (("port", str(port)), ("requestid", request))
    return SynStream(first, (("streamtype", "error"), *fields)), SynStream(first + 2, (("streamtype", "data"), *fields))


def test_a_pair_of_streams_is_a_connection(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        assert "101" in await wire.ask("POST", headers=SPDY)
        error, data = pair(await node.listen(echo))
        wire.send(error, Data(1, b"", True), data, Data(3, b"early"))
        await wire.expect(SynReply(1), SynReply(3), Data(3, b"early"))
        wire.send(Ping(7), Data(3, b"last", True))
        await wire.expect(Ping(7), Data(3, b"last"), Data(3, b"", True), Data(1, b"", True))
        wire.send(GoAway(0))

    run(tmp_path, test)


def test_the_data_stream_may_come_first_and_have_no_request_id(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        port = str(await node.listen(echo))
        error, data = pair(int(port))
        wire.send(SynStream(1, data.headers), SynStream(3, error.headers), Data(1, b"a"))
        await wire.expect(SynReply(1), SynReply(3), Data(1, b"a"))
        old = (("port", port),)
        wire.send(
            SynStream(5, (("streamtype", "error"), *old)), SynStream(7, (("streamtype", "data"), *old)), Data(7, b"b")
        )
        await wire.expect(SynReply(5), SynReply(7), Data(7, b"b"))

    run(tmp_path, test)


def test_a_refused_port_is_said_on_the_error_stream_and_others_go_on(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        wire.send(*pair(1))
        words = b"error forwarding port 1 to pod pod, uid : dial tcp4 127.0.0.1:1: connect: connection refused"
        await wire.expect(SynReply(1), SynReply(3), Data(1, words), Data(1, b"", True), Data(3, b"", True))
        wire.send(*pair(await node.listen(echo), 5, "1"), Data(7, b"x"))
        await wire.expect(SynReply(5), SynReply(7), Data(7, b"x"))

    run(tmp_path, test)


@pytest.mark.parametrize(
    "fields",
    [
        {"streamtype": "data"},
        {"streamtype": "data", "port": "0"},
        {"streamtype": "data", "port": "70000"},
        {"streamtype": "stdin", "port": "80"},
        {"port": "80"},
    ],
)
def test_a_stream_that_makes_no_sense_is_reset(tmp_path: Path, fields: dict[str, str]) -> None:
    async def test(_: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        wire.send(SynStream(1, tuple(fields.items())))
        await wire.expect(RstStream(1, 5))

    run(tmp_path, test)


def test_stream_ids_must_grow_and_be_the_clients(tmp_path: Path) -> None:
    async def test(_: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        fields = pair(80)[0].headers
        wire.send(SynStream(3, fields), SynStream(1, fields), SynStream(2, fields))
        await wire.expect(SynReply(3), RstStream(1, 1), RstStream(2, 1))

    run(tmp_path, test)


def test_garbage_ends_the_session_and_nothing_else(tmp_path: Path) -> None:
    async def test(_: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        wire.writer.write(b"\x80\x03\x00\x03" + b"\0" * 12)
        assert await wire.reader.read() in (b"", Encoder().encode(GoAway(0, 1)))

    run(tmp_path, test)


def test_a_client_that_resets_closes_the_pods_connection(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        wire.send(*pair(await node.listen(echo)), Data(3, b"x"))
        await wire.expect(SynReply(1), SynReply(3), Data(3, b"x"))
        wire.send(RstStream(3, 5))
        await wire.expect(Data(1, b"", True))
        await until(lambda: not node.programs, "the pod is not told")

    run(tmp_path, test)


def test_a_pod_that_is_deleted_ends_its_sessions(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        await wire.ask("POST", headers=SPDY)
        wire.send(*pair(await node.listen(echo)), Data(3, b"x"))
        await wire.expect(SynReply(1), SynReply(3), Data(3, b"x"))
        node.server.pod_gone("default", "other")
        node.server.pod_gone("default", "pod")
        await wire.expect(GoAway(3))
        assert await wire.reader.read() == b""

    run(tmp_path, test)


class Messages:
    """The client's side of a WebSocket."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._frames = ClientProtocol(WebSocketURI(False, "x", 80, "/", ""), state=State.OPEN)
        self._waiting: list[tuple[Opcode, bytes]] = []

    def send(self, data: bytes, *, text: bool = False, fin: bool = True, first: bool = True) -> None:
        if not first:
            self._frames.send_continuation(data, fin)
        else:
            (self._frames.send_text if text else self._frames.send_binary)(data, fin)
        self._wire.writer.write(b"".join(self._frames.data_to_send()))

    async def next(self) -> tuple[Opcode, bytes]:
        while not self._waiting:
            data = await self._wire.reader.read(1 << 16)
            assert data, "the connection ended"
            self._frames.receive_data(data)
            found = self._frames.events_received()
            self._waiting += [(frame.opcode, bytes(frame.data)) for frame in found]  # type: ignore[union-attr]
        return self._waiting.pop(0)


def test_channels_in_binary_messages(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        port = await node.listen(echo)
        await wire.ask("GET", f"{PATH}?ports={port}&ports=1", websocket("v4.channel.k8s.io"))
        messages = Messages(wire)
        number = port.to_bytes(2, "little")
        for expected in (b"\0" + number, b"\1" + number, b"\2\1\0", b"\3\1\0"):
            assert await messages.next() == (Opcode.BINARY, expected)
        assert (await messages.next())[1].startswith(b"\3error forwarding port 1 to pod pod, uid : dial")
        messages.send(b"\0hello")
        assert await messages.next() == (Opcode.BINARY, b"\0hello")
        messages.send(b"\0wo", fin=False)
        messages.send(b"rld", first=False)
        world = b""
        while len(world) < 5:
            world += (await messages.next())[1].removeprefix(b"\0")
        assert world == b"world"
        messages.send(b"\1for nobody")
        messages.send(b"\xffnor this")
        messages.send(b"")
        messages.send(b"\0end")
        assert (await messages.next())[1] == b"\0end"
        for writer in list(node._programs):
            writer.close()
        assert (await messages.next())[0] is Opcode.CLOSE

    run(tmp_path, test)


def test_channels_in_base64(tmp_path: Path) -> None:
    async def test(node: Node, wire: Wire) -> None:
        port = await node.listen(echo)
        await wire.ask("GET", f"{PATH}?ports={port}", websocket("v4.base64.channel.k8s.io"))
        messages = Messages(wire)
        number = base64.b64encode(port.to_bytes(2, "little"))
        assert [await messages.next(), await messages.next()] == [
            (Opcode.TEXT, b"0" + number),
            (Opcode.TEXT, b"1" + number),
        ]
        encoded = b"0" + base64.b64encode(b"hello")
        messages.send(encoded[:4], text=True, fin=False)
        messages.send(encoded[4:], first=False)
        assert await messages.next() == (Opcode.TEXT, encoded)
        messages.send(b"0not base64!", text=True)
        assert (await messages.next())[0] is Opcode.CLOSE

    run(tmp_path, test)


def test_a_message_that_is_too_large_ends_the_websocket(tmp_path: Path) -> None:
    async def test(_: Node, wire: Wire) -> None:
        await wire.ask("GET", headers=websocket("SPDY/3.1+portforward.k8s.io"))
        wire.writer.write(b"\x82\xff" + (5 << 20).to_bytes(8, "big") + b"\0\0\0\0")
        assert (await Messages(wire).next())[0] is Opcode.CLOSE

    run(tmp_path, test)
