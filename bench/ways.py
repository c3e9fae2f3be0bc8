"""The two ways to Portway's API that are measured, and the plainest client there is: bytes of HTTP/1.1 on a socket.

Straight at the API server's own unix socket, as the door comes to it, or through the door: TLS, a token, RBAC, audit.
A client with comforts would be most of what is measured.
"""

import asyncio
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench import cluster
from bench.load import unverified
from bench.portway import ADMIN, Portway
from bench.process import BenchError, descendants
from bench.stage import Stage

SOCKET, DOOR = "at its socket", "through the door, TLS"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_AS_ADMIN = "X-Remote-User: bench\r\nX-Remote-Group: system:masters\r\n"


@dataclass(frozen=True)
class Way:
    """How to reach the API: a unix socket, or a TLS port of this machine. `fields` are the lines that say who asks."""

    name: str
    path: Path | None
    port: int
    fields: str

    def request(self, method: str, target: str, body: bytes = b"", accept: str = "application/json") -> bytes:
        """A request as it is on the wire."""
        head = f"{method} {target} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n{self.fields}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Opens a connection for a protocol; BenchError."""
        loop = asyncio.get_running_loop()
        try:
            if self.path is not None:
                await loop.create_unix_connection(protocol, str(self.path))
            else:
                await loop.create_connection(protocol, "127.0.0.1", self.port, ssl=unverified())
        except OSError as error:
            raise BenchError(f"no connection {self.name}: {error or type(error).__name__}") from error

    def open(self) -> socket.socket:
        """A blocking connection."""
        if self.path is None:
            return unverified().wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=60))
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(60)
        plain.connect(str(self.path))
        return plain


def ways(stage: Stage, portway: Portway) -> tuple[Way, Way]:
    """Both ways to a running Portway."""
    path = portway.data(stage) / "run" / "api.sock"
    return Way(SOCKET, path, 0, _AS_ADMIN), Way(DOOR, None, portway.tls_port, f"Authorization: Bearer {ADMIN}\r\n")


def api_server(portway: Portway) -> int:
    """The id of the process that the API server is in."""
    for pid in descendants(portway.pid):
        if b"portway.up.control" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise BenchError("Portway has no control process")


def fetch(connection: socket.socket, request: bytes) -> tuple[bytes, bytes]:
    """One request on a blocking connection: the answer's head and body."""
    connection.sendall(request)
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _some(connection)
    head = bytes(received[: end + 4])
    length = _LENGTH.search(head)
    if b" 20" not in head[:14] or length is None:
        raise BenchError(f"an answer of {head[:60]!r}")
    parts = [bytes(received[end + 4 :])]
    missing = int(length[1]) - len(parts[0])
    while missing > 0:
        parts.append(_some(connection))
        missing -= len(parts[-1])
    return head, b"".join(parts)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 20)
    if not data:
        raise BenchError("the connection ended before the answer")
    return data


def get(way: Way, target: str) -> Any:
    """The JSON that a path answers."""
    with way.open() as connection:
        return json.loads(fetch(connection, way.request("GET", target))[1])


class Connection(asyncio.Protocol):
    """One request at a time. `ask` raises BenchError for whatever isn't a success."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer."""
        if self._transport is None or self._transport.is_closing():
            raise BenchError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's don't inherit from it

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or length is None or len(body) < int(length[1]) or self._answer is None:
            return
        self._received = b""
        if b" 20" in head[:14]:
            self._answer.set_result(body)
        else:
            self._answer.set_exception(BenchError(f"{head[:40].decode('latin-1')} {body[:200].decode()}"))

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError("the connection ended"))


async def ask_all(way: Way, requests: Iterable[bytes], at_once: int) -> list[float]:
    """Sends requests over so many connections, each when the one before it is answered; the seconds that each took."""
    waiting, times = iter(requests), []

    async def work() -> None:
        connection = Connection()
        await way.connect(lambda: connection)
        for request in waiting:
            started = time.perf_counter()
            await connection.ask(request)
            times.append(time.perf_counter() - started)
        connection.close()

    await cluster.together(work() for _ in range(at_once))
    return times


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
