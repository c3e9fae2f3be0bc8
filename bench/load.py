"""Load on one door: wrk at saturation, a paced client for latency, one big body."""

import asyncio
import functools
import re
import socket
import ssl
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

from bench.peers import Door
from bench.process import BenchError
from bench.programs import WRK

CONNECTIONS = 32
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@dataclass(frozen=True)
class Saturation:
    """One run of wrk: requests a second, latencies in ms."""

    rate: float
    p50: float
    p99: float


def saturate(door: Door, seconds: float, *, tls: bool = True, path: str = "/") -> Saturation:
    """As many requests as the door answers over 32 kept-alive connections."""
    command = [str(WRK.find() or "wrk"), "-t2", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency"]
    for name, value in door.headers.items():
        command += ["-H", f"{name}: {value}"]
    url = door.url(path, tls=tls)
    answer = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 30, check=False)
    return _read_wrk(door.name, answer.stdout + answer.stderr)


def _read_wrk(name: str, text: str) -> Saturation:
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None or (bad and not (bad[2] and _only_timeouts_at_end(bad[2]))):
        raise BenchError(f"{name}: {bad[0] if bad else text.strip()[-200:] or 'wrk said nothing'}")
    return Saturation(float(rate[1]), _percentile(text, 50), _percentile(text, 99))


def _only_timeouts_at_end(errors: str) -> bool:
    counts = [int(count) for count in re.findall(r"\d+", errors)]
    return sum(counts) <= CONNECTIONS


def _percentile(text: str, which: int) -> float:
    match = re.search(rf"{which}%\s+([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise BenchError(f"wrk printed no {which}th percentile")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Latency:
    """Milliseconds from when a request was due to its whole answer."""

    p50: float
    p99: float


def paced(door: Door, seconds: float, *, tls: bool, rate: int = 1000) -> Latency:
    """`rate` requests a second over 32 connections, sent when due, whether or not earlier ones have been answered."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        latencies = sorted(runner.run(_pace(door, seconds, rate, tls)))
    return Latency(latencies[len(latencies) // 2] * 1e3, latencies[len(latencies) * 99 // 100] * 1e3)


class _Connection(asyncio.Protocol):
    """Sends one request after another; times each from when it was due, not from when its turn came."""

    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self._request = request
        self._latencies = latencies
        self._due: deque[float] = deque()
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's don't inherit from it

    def ask(self) -> None:
        self._due.append(time.perf_counter())
        if len(self._due) == 1:
            self._send()

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not separator or length is None or len(body) < int(length[1]):
            return
        if b" 200 " not in head[:16]:
            raise BenchError(head[:80].decode("latin-1"))
        self._received = b""
        self._latencies.append(time.perf_counter() - self._due.popleft())
        if self._due:
            self._send()


async def _pace(door: Door, seconds: float, rate: int, tls: bool) -> list[float]:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    request = request_bytes(door, "/")
    port = door.tls_port if tls else door.plain_port
    context = unverified() if tls else None
    connections = []
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(
            lambda: _Connection(request, latencies), door.address, port, ssl=context
        )
        connections.append(connection)
    start, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        while sent < elapsed * rate:
            connections[sent % CONNECTIONS].ask()
            sent += 1
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.2)
    if len(latencies) < sent * 0.99:
        raise BenchError(f"{door.name}: {sent - len(latencies)} of {sent} requests were not answered")
    return latencies[rate // 2 :]  # the first ones open the way


def request_bytes(door: Door, path: str) -> bytes:
    """A GET as it is on the wire."""
    fields = {"Host": f"{door.address}", **door.headers}
    lines = [f"GET {door.prefix}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@functools.cache
def unverified() -> ssl.SSLContext:
    """A client's TLS that takes any certificate: what is measured is not who it is, nor reading authorities (40 ms)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def download(door: Door, size: int, *, tls: bool) -> float:
    """One body of `size` bytes on one connection; its speed in GB/s."""
    buffer = memoryview(bytearray(1 << 20))
    port = door.tls_port if tls else door.plain_port
    with (
        socket.create_connection((door.address, port), timeout=60) as plain,
        unverified().wrap_socket(plain) if tls else plain as connection,
    ):
        started = time.perf_counter()
        connection.sendall(request_bytes(door, "/file"))
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise BenchError(f"{door.name}: {head[:60].decode('latin-1')}")
        received = len(body)
        while received < size:
            count = connection.recv_into(buffer)
            if not count:
                raise BenchError(f"{door.name}: the body ended after {received} of {size} bytes")
            received += count
        return size / (time.perf_counter() - started) / 1e9
