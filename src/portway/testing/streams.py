"""A node's streaming server without a cluster, for tests of port-forward from either end; and programs to talk to.

    async with Node(tmp_path) as node:
        forwarder = PortForwarder(node.config)
        port = await node.listen(echo)
        sock = await forwarder.socket("default", "pod", port)

`node.refuse` makes it answer some requests as an older server would, `node.cut` breaks all connections to it and
`node.freeze` keeps them and lets nothing through.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from portway.client.api import ClusterConfig
from portway.kube.errors import StatusError, not_found
from portway.node.streaming.relay import RunningPod
from portway.node.streaming.server import StreamingServer

Program = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SECONDS = 20.0


async def until(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Waits until something is the case."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
    assert condition(), what


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it gets, and ends when the other side does."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def open_socket(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams on one of `PortForwarder.socket`'s sockets."""
    return await asyncio.open_connection(sock=sock)


class Node:
    """A streaming server, and a door in front of it that only passes bytes on; pods are all at 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        self.server = StreamingServer(self)
        self.config = ClusterConfig.local(str(directory / "door.sock"), "admin")
        self.refuse: Callable[[bytes], bytes | None] = lambda _head: None
        """Given a request's head, the whole answer instead of the server's; None = pass it on."""
        self.heads: list[bytes] = []
        self.missing: set[str] = set()
        self._path = str(directory / "streams.sock")
        self._stack = contextlib.AsyncExitStack()
        self._writers: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self._programs: set[asyncio.StreamWriter] = set()

    async def find(self, namespace: str, name: str) -> RunningPod:
        """See streaming.server.Pods."""
        if name in self.missing:
            raise not_found("pods", name)
        return RunningPod(namespace, name, "127.0.0.1")

    async def __aenter__(self) -> Node:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._path)
        listener.listen(64)
        self._stack.callback(listener.close)
        task = asyncio.create_task(self.server.run(listener), name="streaming server")
        self._stack.push_async_callback(_ended, task)
        assert self.config.unix_socket is not None
        door = await asyncio.start_unix_server(self._door, self.config.unix_socket)
        self._stack.callback(door.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        for writer in list(self._programs):
            writer.transport.abort()
        await self._stack.aclose()

    async def listen(self, program: Program, port: int = 0) -> int:
        """Starts a program on a port of the pod; the port."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._programs.add(writer)
            try:
                await program(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                self._programs.discard(writer)
                writer.close()

        server = await asyncio.start_server(run, "127.0.0.1", port)
        self._stack.callback(server.close)
        chosen: int = server.sockets[0].getsockname()[1]
        return chosen

    @property
    def programs(self) -> int:
        """How many connections programs have at the moment."""
        return len(self._programs)

    def cut(self) -> None:
        """Breaks every connection to the door."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Lets nothing through any more on the connections that there are, and keeps them."""
        self._frozen |= self._writers

    async def _door(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            answer = self.refuse(head)
            if answer is not None:
                writer.write(answer)
                return
            upstream, onward = await asyncio.open_unix_connection(self._path)
            onward.write(head)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(reader, onward, writer), name="to the node")
                    group.create_task(self._copy(upstream, writer, writer), name="from the node")
            finally:
                onward.close()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(1 << 16):
            if client not in self._frozen:
                writer.write(data)
                await writer.drain()
        writer.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def refusal(error: StatusError) -> bytes:
    """A whole answer with a Status."""
    import orjson

    body = orjson.dumps(error.status())
    return b"HTTP/1.1 %d No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (error.code, len(body), body)
