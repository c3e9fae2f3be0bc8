"""Idle WebSockets: a backend that keeps them, and a client that opens many and counts what a door's processes hold."""

import asyncio
import resource
import sys
from typing import cast

from bench.cluster import together
from bench.load import unverified
from bench.peers import Door
from bench.portway import Portway
from bench.process import BenchError, Memory, accepts, free_port, memory
from bench.stage import Stage

# RFC 6455 section 1.3: the key of the standard's own example, and the answer to it.
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_SWITCH = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {_ACCEPT}\r\n\r\n"
)
_PING = b"\x89\x80\x00\x00\x00\x00"
_AT_ONCE = 100
_SETTLE = 3.0


def start_holder(stage: Stage) -> int:
    """Starts the backend that accepts WebSockets; its port."""
    port = free_port(stage.address)
    code = "import sys; from bench.websockets import hold; hold(sys.argv[1], int(sys.argv[2]))"
    path = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    stage.processes.start("holder", [sys.executable, "-c", code, stage.address, str(port)], path)
    stage.processes.wait_for("holder", lambda: accepts(stage.address, port))
    return port


def hold(address: str, port: int) -> None:
    """The backend's process: takes any upgrade and sends back what comes after it, until it is ended."""
    import uvloop

    raise_file_limit()

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Holder, address, port, backlog=4096)
        await server.serve_forever()

    uvloop.run(serve())


class _Holder(asyncio.Protocol):
    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._head is None:
            self._transport.write(data)
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._head = None
            self._transport.write(_SWITCH.encode())


class _Client(asyncio.Protocol):
    """One WebSocket: `opened` is set with its 101, `echoed` with the first bytes after it."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._received = b""
        self.opened: asyncio.Future[None] = loop.create_future()
        self.echoed: asyncio.Future[None] = loop.create_future()
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            if not self.echoed.done():
                self.echoed.set_result(None)
            return
        self._received += data
        if b"\r\n\r\n" in self._received:
            if self._received.startswith(b"HTTP/1.1 101"):
                self.opened.set_result(None)
            else:
                self.opened.set_exception(BenchError(self._received[:60].decode("latin-1")))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(BenchError(f"a WebSocket was refused: {exc or 'closed'}"))


def measure(portway: Portway, service: str, count: int, *, tls: bool) -> tuple[Memory, Memory]:
    """What the workers hold before, and with `count` idle WebSockets, all of which are alive at the end."""
    import uvloop

    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(portway, portway.door(service), count, tls))


async def _measure(portway: Portway, door: Door, count: int, tls: bool) -> tuple[Memory, Memory]:
    before = memory(portway.workers())
    clients = await _open(door, count, tls)
    try:
        await asyncio.sleep(_SETTLE)
        during = memory(portway.workers())
        for client in clients[:: max(1, count // 100)]:
            if client.transport is not None:
                client.transport.write(_PING)
            await asyncio.wait_for(client.echoed, 10)
        if lost := sum(client.lost for client in clients):
            raise BenchError(f"{lost} of {count} WebSockets were closed")
        return before, during
    finally:
        for client in clients:
            if client.transport is not None:
                client.transport.abort()
        await asyncio.sleep(0.5)


async def _open(door: Door, count: int, tls: bool) -> list[_Client]:
    fields = {"Host": door.address, **door.headers, "Connection": "Upgrade", "Upgrade": "websocket"}
    fields |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": _KEY}
    lines = [f"GET {door.prefix}/ HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    loop, context = asyncio.get_running_loop(), unverified() if tls else None
    turns, clients = asyncio.Semaphore(_AT_ONCE), list[_Client]()

    async def one() -> None:
        async with turns:
            port = door.tls_port if tls else door.plain_port
            _, client = await loop.create_connection(lambda: _Client(request), door.address, port, ssl=context)
            clients.append(client)
            await asyncio.wait_for(client.opened, 30)

    await together(one() for _ in range(count))
    return clients


def raise_file_limit(needed: int = 16000) -> None:
    """Lets this process, and those it starts, open as many files as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"needs {needed} open files, may have {hard}: ulimit -Hn")
