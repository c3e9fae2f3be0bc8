"""Creates a second on every store, beside etcd's own puts of the same values in the same turns; all are synced."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from statistics import median

from bench import cluster, portway
from bench.cluster import NAMESPACE
from bench.figures import Check, ratio
from bench.portway import Portway
from bench.process import BenchError, accepts, free_port
from bench.programs import ETCD
from bench.stage import Stage
from bench.ways import Way, ask_all, ways

AT_ONCE = 64
_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_PUT = "/etcdserverpb.KV/Put"
_ETCD, _STORED = "etcd", "portway-store"

Write = Callable[[int, int], float]
"""(first number, how many) → writes a second."""


def value(number: int) -> bytes:
    """A config map of about 1 KB."""
    data = {"application.yaml": "level: info\n" * 70, "number": str(number)}
    return json.dumps({"metadata": {"name": f"written-{number:07d}"}, "data": data}).encode()


def measure(stage: Stage, small: Portway, rounds: int, count: int) -> list[Check]:
    """`count` writes of each kind a turn, 64 at once."""
    writers: dict[str, Write] = {f"SQLite, {way.name}": _creates(way) for way in ways(stage, small)}
    endpoint = start_etcd(stage, _ETCD)
    try:
        other = portway.start(stage, "Portway on etcd", {}, f"--store=etcd://{start_etcd(stage, _STORED)}")
        writers |= {f"etcd, {way.name}": _creates(way) for way in ways(stage, other)}
        note = ""
    except BenchError as error:
        note = f"; on etcd: {error}"
    writers["etcd put"] = lambda first, many: asyncio.run(_puts(endpoint, first, many))
    rates: dict[str, list[float]] = {name: [] for name in writers}
    for turn in range(rounds):
        for name, write in writers.items():
            rates[name].append(write(turn * count, count))
    puts = rates.pop("etcd put")
    found = ", ".join(f"{name} {median(each):,.0f} ({ratio(each, puts) or 0:.2f})" for name, each in rates.items())
    what = f"creates/s of 1 KB, {AT_ONCE} at once (of etcd's puts, {median(puts):,.0f}/s)"
    return [Check(what, "", found + note, None)]


def start_etcd(stage: Stage, name: str) -> str:
    """One etcd member with its data in the stage's directory; where it serves clients."""
    path = ETCD.find()
    if path is None:
        raise BenchError(f"not installed: {ETCD.install}")
    port, peer = free_port(), free_port()
    client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    settings = {
        "name": name,
        "data-dir": stage.directory / f"{name}.etcd",
        "listen-client-urls": client_url,
        "advertise-client-urls": client_url,
        "listen-peer-urls": peer_url,
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": f"{name}={peer_url}",
    }
    stage.processes.start(name, [path, *(f"--{flag}={word}" for flag, word in settings.items())])
    stage.processes.wait_for(name, lambda: accepts("127.0.0.1", port))
    return f"127.0.0.1:{port}"


def _creates(way: Way) -> Write:
    def write(first: int, many: int) -> float:
        requests = [way.request("POST", _PATH, value(number)) for number in range(first, first + many)]
        started = time.perf_counter()
        _run(ask_all(way, requests, AT_ONCE))
        rate = many / (time.perf_counter() - started)
        _run(ask_all(way, [way.request("DELETE", _PATH)], 1))
        return rate

    return write


def _run(work: Coroutine[None, None, list[float]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def _puts(endpoint: str, first: int, many: int) -> float:
    """The same values under the keys that a Kubernetes API gives them."""
    try:
        from grpc import aio
    except ImportError as error:
        raise BenchError("not installed: pip install grpcio") from error
    async with aio.insecure_channel(endpoint) as channel:
        await channel.channel_ready()
        put = channel.unary_unary(_PUT)
        waiting = iter(range(first, first + many))

        async def work() -> None:
            for number in waiting:
                key = f"/registry/configmaps/{NAMESPACE}/written-{number:07d}".encode()
                await put(_field(1, key) + _field(2, value(number)))

        started = time.perf_counter()
        await cluster.together(work() for _ in range(AT_ONCE))
        return many / (time.perf_counter() - started)


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes in protobuf's encoding: tag, length, content."""
    length, size = b"", len(data)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data
