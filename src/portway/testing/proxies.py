"""Proxies for tests, on loopback: HTTP CONNECT (over TLS too) and SOCKS5, which lead every target to one port."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class FakeProxy:
    """What it was asked for is in `targets` (host:port) and `heads` (what came before). `answer` replaces its own."""

    def __init__(self, port: int, *, socks: bool = False, answer: bytes | None = None) -> None:
        self.targets: list[str] = []
        self.heads: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._port, self._socks, self._answer = port, socks, answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await (self._by_socks(reader, writer) if self._socks else self._by_connect(reader, writer))
            onward = await asyncio.open_connection("127.0.0.1", self._port)
            writers.append(onward[1])
            await asyncio.gather(_pump(reader, onward[1]), _pump(onward[0], writer))
        for each in writers:
            each.transport.abort()
        self._tasks.discard(task)

    async def close(self) -> None:
        """Break off all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _by_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        self.targets.append(head.split(b" ")[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if self._answer is None else self._answer)

    async def _by_socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        self.heads.append(await reader.readexactly(count))
        writer.write(b"\x05\x00")
        *_, kind = await reader.readexactly(4)
        size = 4 if kind == 1 else (await reader.readexactly(1))[0]
        host, port = await reader.readexactly(size), int.from_bytes(await reader.readexactly(2))
        self.targets.append(f"{'.'.join(map(str, host)) if kind == 1 else host.decode()}:{port}")
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00" if self._answer is None else self._answer)


@asynccontextmanager
async def proxying(proxy: FakeProxy, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve it; the port."""
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await proxy.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
