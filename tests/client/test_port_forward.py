"""PortForwarder against a node's streaming server, in each form: bytes, ends, refusals, what breaks, what is slow."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from portway.client.portforward.carrier import Carrier
from portway.client.portforward.forwarder import CHANNEL, FORMS, SPDY, TUNNEL, PortForwarder
from portway.client.portforward.session import Patience, Session
from portway.client.portforward.transport import PortForwardError, SessionLostError
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import Forbidden, NotFound, StatusError, Unauthorized, not_found
from portway.testing.streams import Node, echo, open_socket, refusal, until

STREAMED = (TUNNEL, SPDY)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
IMPATIENT = Patience(tick=0.02, ping=0.05, dead=0.3, awake=0.1, fresh=0.0, alive=0.1, idle=0.2, linger=0.1)
Test = Callable[[Node, PortForwarder], Awaitable[None]]


def run(
    directory: Path, test: Test, form: str | None = None, patience: Patience | None = None, *, uv: bool = True
) -> None:
    """Run a test with a node and a forwarder that speaks one form."""

    async def main() -> None:
        async with asyncio.timeout(40), Node(directory) as node:
            forwarder = PortForwarder(node.config, patience) if patience else PortForwarder(node.config)
            forwarder.form = form
            try:
                await test(node, forwarder)
            finally:
                await forwarder.close()
            await until(lambda: not node.server.connections, "the server keeps connections")
            await until(lambda: not node.programs, "programs keep connections")

    (uvloop.run if uv else asyncio.run)(main())


class Recorder(asyncio.Protocol):
    """Notes what a transport tells it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.events: list[str] = []
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        return True

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.events.append("lost")


async def exchange(forwarder: PortForwarder, port: int, data: bytes, pod: str = "pod") -> bytes:
    """Send data through a socket, half-close where that can be, and return as much as was sent."""
    reader, writer = await open_socket(await forwarder.socket("default", pod, port))
    reply = asyncio.create_task(reader.readexactly(len(data)))
    for at in range(0, len(data), 1 << 16):
        writer.write(data[at : at + (1 << 16)])
        await writer.drain()
    if forwarder.form != CHANNEL:
        writer.write_eof()
    received = await reply
    if forwarder.form != CHANNEL:
        assert await reader.read() == b""
    writer.close()
    return received


@pytest.mark.parametrize("uv", [True, False], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("form", FORMS)
def test_bytes_go_both_ways_whole_and_in_order(tmp_path: Path, form: str, uv: bool) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        port = await node.listen(echo)
        large = bytes(range(256)) * (32 << 10)
        assert await exchange(forwarder, port, large) == large
        small = [b"%d" % index * 1000 for index in range(20)]
        assert await asyncio.gather(*(exchange(forwarder, port, one) for one in small)) == small

    run(tmp_path, test, form, uv=uv)


@pytest.mark.parametrize("form", STREAMED)
def test_a_half_close_reaches_the_pod_and_its_answer_comes_back(tmp_path: Path, form: str) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))

    async def test(node: Node, forwarder: PortForwarder) -> None:
        port = await node.listen(answer_at_the_end)
        transport, seen = await forwarder.connect("default", "pod", port, Recorder)
        transport.writelines([b"a" * 70000, b"b"])
        transport.write_eof()
        transport.write(b"dropped")
        await until(lambda: "lost" in seen.events, "the stream does not end")
        assert (bytes(seen.data), seen.events, seen.error) == (b"70001", ["made", "eof", "lost"], None)

    run(tmp_path, test, form)


@pytest.mark.parametrize("form", FORMS)
def test_a_pod_that_speaks_first_and_ends(tmp_path: Path, form: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    async def test(node: Node, forwarder: PortForwarder) -> None:
        reader, writer = await open_socket(await forwarder.socket("default", "pod", await node.listen(greet)))
        assert await reader.read() == b"hello"
        writer.close()

    run(tmp_path, test, form)


@pytest.mark.parametrize("form", FORMS)
def test_a_port_that_nobody_listens_on(tmp_path: Path, form: str) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            _, seen = await forwarder.connect("default", "pod", port, Recorder)
            await until(lambda: "lost" in seen.events, "the stream does not end")
        assert isinstance(seen.error, PortForwardError)
        words = (
            f"error forwarding port {port} to pod pod, uid : dial tcp4 127.0.0.1:{port}: connect: connection refused"
        )
        assert str(seen.error) == words
        assert await exchange(forwarder, await node.listen(echo), b"others go on") == b"others go on"

    run(tmp_path, test, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["close", "abort"])
def test_an_end_of_ours_reaches_the_pod(tmp_path: Path, form: str, how: str) -> None:
    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    async def test(node: Node, forwarder: PortForwarder) -> None:
        transport, seen = await forwarder.connect("default", "pod", await node.listen(chatter), Recorder)
        await until(lambda: len(seen.data) > 100_000, "no data comes")
        getattr(transport, how)()
        assert transport.is_closing()
        await until(lambda: "lost" in seen.events, "the protocol is not told")
        await until(lambda: not node.programs, "the pod is not told")

    run(tmp_path, test, form)


def test_streams_of_a_pod_share_a_session(tmp_path: Path) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        port = await node.listen(echo)
        await asyncio.gather(*(exchange(forwarder, port, b"x" * 1000) for _ in range(10)))
        assert len(node.heads) == 1
        await exchange(forwarder, port, b"x", pod="other")
        assert len(node.heads) == 2
        forwarder.drop("default", "pod")
        await exchange(forwarder, port, b"x")
        assert len(node.heads) == 3

    run(tmp_path, test, TUNNEL)


# Which form


def refusing(*forms: str) -> Callable[[bytes], bytes | None]:
    """What a server answers that does not know some of the forms."""
    error = refusal(Forbidden("unable to upgrade"))

    def refuse(head: bytes) -> bytes | None:
        asked = TUNNEL if TUNNEL.encode() in head else CHANNEL if CHANNEL.encode() in head else SPDY
        return error if asked in forms else None

    return refuse


@pytest.mark.parametrize(
    ("refused", "chosen", "asked"),
    [((), TUNNEL, 1), ((TUNNEL,), SPDY, 2), ((TUNNEL, SPDY), CHANNEL, 4)],
    ids=["all", "no tunnel", "channels only"],
)
def test_the_form_that_works_is_found_and_remembered(
    tmp_path: Path, refused: tuple[str, ...], chosen: str, asked: int
) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        node.refuse = refusing(*refused)
        port = await node.listen(echo)
        assert await exchange(forwarder, port, b"one") == b"one"
        assert (forwarder.form, len(node.heads)) == (chosen, asked)
        node.heads.clear()
        assert await exchange(forwarder, port, b"two", pod="other") == b"two"
        assert len(node.heads) == 1

    run(tmp_path, test)


@pytest.mark.parametrize("first", [TUNNEL, CHANNEL])
def test_a_form_that_stops_working_is_looked_for_again(tmp_path: Path, first: str) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        node.refuse = refusing(first)
        port = await node.listen(echo)
        if first == CHANNEL:
            with pytest.raises(Forbidden):
                await forwarder.socket("default", "pod", port)
        assert await exchange(forwarder, port, b"still") == b"still"
        assert forwarder.form != first

    run(tmp_path, test, first)


@pytest.mark.parametrize("error", [Unauthorized(), not_found("pods", "pod")], ids=["401", "404"])
def test_what_every_form_would_be_answered_is_asked_once(tmp_path: Path, error: StatusError) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        node.refuse = lambda _: refusal(error)
        with pytest.raises(type(error), match=error.message):
            await forwarder.socket("default", "pod", 80)
        assert len(node.heads) == 1

    run(tmp_path, test)


def test_a_refusal_of_all_forms_is_the_answer(tmp_path: Path) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        node.refuse = lambda _: refusal(Forbidden("pods is forbidden"))
        with pytest.raises(Forbidden, match="pods is forbidden"):
            await forwarder.socket("default", "pod", 80)
        node.refuse = lambda _: None
        assert await exchange(forwarder, await node.listen(echo), b"x") == b"x"

    run(tmp_path, test)


def test_no_such_pod(tmp_path: Path) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        node.missing.add("gone")
        with pytest.raises(NotFound, match='pods "gone" not found'):
            await forwarder.socket("default", "gone", 80)

    run(tmp_path, test)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n",
        SWITCH + b"\r\n",
        SWITCH + b"Sec-WebSocket-Accept: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 70000,
    ],
    ids=["nothing", "not HTTP", "no accept", "wrong accept", "200", "endless"],
)
def test_a_server_that_answers_strangely_is_an_error_in_one_line(tmp_path: Path, answer: bytes) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        node.refuse = lambda _: answer
        with pytest.raises((ApiUnreachable, StatusError)) as caught:
            await forwarder.socket("default", "pod", 80)
        assert "\n" not in str(caught.value)

    async def with_channel(node: Node, forwarder: PortForwarder) -> None:
        forwarder.form = CHANNEL
        await test(node, forwarder)

    run(tmp_path, with_channel)


def test_nobody_there(tmp_path: Path) -> None:
    async def test(node: Node, _: PortForwarder) -> None:
        (tmp_path / "door.sock").unlink()
        with pytest.raises(ApiUnreachable, match=r"door\.sock"):
            await PortForwarder(node.config).socket("default", "pod", 80)

    run(tmp_path, test)


# What breaks


@pytest.mark.parametrize("form", FORMS)
def test_a_session_that_breaks_ends_its_streams_visibly_and_the_next_is_new(tmp_path: Path, form: str) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        port = await node.listen(echo)
        seen = [(await forwarder.connect("default", "pod", port, Recorder))[1] for _ in range(3)]
        reader, writer = await open_socket(await forwarder.socket("default", "pod", port))
        await until(lambda: node.programs == 4, "not connected")
        node.cut()
        await until(lambda: all("lost" in one.events for one in seen), "a stream was not told")
        assert all(isinstance(one.error, SessionLostError) for one in seen)
        with pytest.raises(ConnectionError):
            while await reader.read(1):
                pass
            raise ConnectionResetError  # socket pairs know no reset: an end is all that shows
        writer.close()
        assert await exchange(forwarder, port, b"again") == b"again"

    run(tmp_path, test, form)


@pytest.mark.parametrize("form", STREAMED)
def test_a_session_that_is_silently_dead_is_not_used(tmp_path: Path, form: str) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        port = await node.listen(echo)
        assert await exchange(forwarder, port, b"x") == b"x"
        node.freeze()
        assert await exchange(forwarder, port, b"y") == b"y"
        assert len(node.heads) == 2

    run(tmp_path, test, form, Patience(fresh=0.0, alive=0.05))


@pytest.mark.parametrize("form", FORMS)
def test_silence_ends_a_session(tmp_path: Path, form: str) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        _, seen = await forwarder.connect("default", "pod", await node.listen(echo), Recorder)
        await until(lambda: node.programs == 1, "not connected")
        await asyncio.sleep(2 * IMPATIENT.dead)  # what is tested is that nothing happens: the pings are answered
        assert seen.events == ["made"]
        node.freeze()
        await until(lambda: "lost" in seen.events, "the session does not end")
        assert "silent" in str(seen.error)
        node.cut()

    run(tmp_path, test, form, IMPATIENT)


def test_a_session_without_streams_ends(tmp_path: Path) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        assert await exchange(forwarder, await node.listen(echo), b"x") == b"x"
        await until(lambda: not node.server.connections, "the session stays")

    run(tmp_path, test, TUNNEL, IMPATIENT)


def test_a_closed_stream_that_the_pod_keeps_open_is_reset(tmp_path: Path) -> None:
    over = asyncio.Event()

    async def deaf(_: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await over.wait()

    async def test(node: Node, forwarder: PortForwarder) -> None:
        transport, seen = await forwarder.connect("default", "pod", await node.listen(deaf), Recorder)
        await until(lambda: node.programs == 1, "not connected")
        transport.close()
        await until(lambda: "lost" in seen.events, "the protocol is not told")
        await until(lambda: not transport.session.streams, "the stream stays")  # type: ignore[attr-defined]
        over.set()

    run(tmp_path, test, SPDY, IMPATIENT)


# What is slow


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends 32 MiB, whoever reads."""
    for _ in range(512):
        writer.write(b"f" * (1 << 16))
        await writer.drain()


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_that_is_not_read_holds_little_and_stops_nobody_for_long(tmp_path: Path, form: str) -> None:
    async def test(node: Node, forwarder: PortForwarder) -> None:
        slow, seen = await forwarder.connect("default", "pod", await node.listen(flood), Recorder)
        slow.pause_reading()
        await until(lambda: slow.waiting > 256 << 10, "nothing comes")
        port = await node.listen(echo)
        answers = await asyncio.gather(*(exchange(forwarder, port, b"y" * 100_000) for _ in range(5)))
        assert answers == [b"y" * 100_000] * 5
        assert slow.waiting < 2 << 20
        slow.resume_reading()
        await until(lambda: len(seen.data) == 32 << 20, "not all of it comes")
        slow.close()

    run(tmp_path, test, form)


@pytest.mark.parametrize("opened_before", [True, False])
def test_a_stream_that_begins_while_nothing_can_be_sent_is_told_at_once(opened_before: bool) -> None:
    async def main() -> None:
        session = Session(client=True)
        session.start(Carrier(session))
        if opened_before:
            stream = session.open({})
            session.pause_writing()
        else:
            session.pause_writing()
            stream = session.open({})
        seen = Recorder()
        stream.begin(seen)
        assert seen.events == ["made", "pause"]
        session.resume_writing()
        assert seen.events == ["made", "pause", "resume"]
        session.ended(None)

    asyncio.run(main())


@pytest.mark.parametrize("form", FORMS)
def test_a_pod_that_does_not_read_pauses_the_writer(tmp_path: Path, form: str) -> None:
    may_read = asyncio.Event()
    total = 0

    async def late(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal total
        await may_read.wait()
        while data := await reader.read(1 << 16):
            total += len(data)

    async def test(node: Node, forwarder: PortForwarder) -> None:
        transport, seen = await forwarder.connect("default", "pod", await node.listen(late), Recorder)
        written = 0
        async with asyncio.timeout(20):
            while "pause" not in seen.events:
                transport.write(b"w" * (1 << 16))
                written += 1 << 16
                await asyncio.sleep(0)
        may_read.set()
        await until(lambda: "resume" in seen.events, "the writer is not told to go on")
        await until(lambda: total == written, "not everything arrives")
        transport.close()

    run(tmp_path, test, form)
