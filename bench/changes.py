"""How long a change of endpoints takes to reach every worker: from sending the write to the first answer from the new
place on each of several connections.
"""

import asyncio
import time

from bench import cluster
from bench.load import request_bytes, unverified
from bench.portway import ADMIN, Portway
from bench.process import BenchError

_CONNECTIONS = 8
_PAUSE = 0.002
_TIMEOUT = 10.0

Place = tuple[str, int]
"""Address and port of a backend that answers /who with its port."""


def measure(portway: Portway, service: str, places: tuple[Place, Place], count: int) -> list[float]:
    """Seconds each of `count` changes took, sorted. The service begins at the first place."""
    return sorted(asyncio.run(_measure(portway, service, places, count)))


async def _measure(portway: Portway, service: str, places: tuple[Place, Place], count: int) -> list[float]:
    request = request_bytes(portway.door(service), "/who")
    context = unverified()
    pollers = [await asyncio.open_connection("127.0.0.1", portway.tls_port, ssl=context) for _ in range(_CONNECTIONS)]
    times = []
    async with cluster.api(portway.url, ADMIN) as session:
        for turn in range(count):
            address, port = places[(turn + 1) % 2]
            started = time.perf_counter()
            write = asyncio.create_task(
                cluster.apply(session, [cluster.move(service, address, port)]), name="endpoint change"
            )
            seen = await asyncio.gather(*(_until(*poller, request, str(port).encode()) for poller in pollers))
            await write
            times.append(max(seen) - started)
            await asyncio.sleep(0.01)
    for _, writer in pollers:
        writer.close()
    return times


async def _until(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, expected: bytes) -> float:
    """Asks until the answer is `expected`; when that was."""
    deadline = time.perf_counter() + _TIMEOUT
    while time.perf_counter() < deadline:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if await reader.readexactly(length) == expected:
            return time.perf_counter()
        await asyncio.sleep(_PAUSE)
    raise BenchError(f"an endpoint change was not seen within {_TIMEOUT:.0f} s")
