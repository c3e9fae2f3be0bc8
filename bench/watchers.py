"""Many watchers of one kind while objects of it change: what share of the events arrives, how late, at what cost.

Each change carries the time at which its write was sent. Every watcher counts its events; a few read the time in each,
and their latencies are the figures (to read all of them would take more than to send them).
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from bench.cluster import NAMESPACE
from bench.process import BenchError, memory
from bench.ways import Connection, Way, ask_all, cpu_seconds, get

OBJECTS = 500
SAMPLED = 20
_WRITERS = 16
_ARRIVAL = 20.0
"""Seconds after the last write in which everything must have arrived."""
_CORE = "/api/v1/namespaces"
_SENT = re.compile(rb'"sent":"([0-9.]+)"')


@dataclass(frozen=True)
class Scene:
    """`watchers` of config maps: all of one namespace, or (`apart`) each of its own, with `changes` a second in all."""

    watchers: int
    changes: int
    apart: bool = False

    def namespace(self, number: int) -> str:
        return f"{NAMESPACE}-{number % self.watchers}" if self.apart else NAMESPACE


@dataclass(frozen=True)
class Watched:
    """Latencies in ms from sending a write to its event, events a second that arrived in all, cores and MiB of the API
    server's process meanwhile; `wrote`: writes a second that were made.
    """

    p50: float
    p99: float
    events: float
    wrote: float
    cores: float
    rss: float


class _Watcher(asyncio.Protocol):
    """Counts lines; keeps what arrived, with the time, when it is one of the sampled."""

    def __init__(self, request: bytes, sampled: bool) -> None:
        self._request = request
        self.kept: list[tuple[float, bytes]] | None = [] if sampled else None
        self.events = 0
        self.begun = False
        self.ended = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.begun:
            self.begun = True
            if b" 200 " not in data[:16]:
                raise BenchError(f"a watch was answered {data[:60]!r}")
        self.events += data.count(b'{"type":"')
        if self.kept is not None:
            self.kept.append((time.time(), data))

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def measure(way: Way, pid: int, scene: Scene, seconds: float) -> Watched:
    """One run; `pid` is the API server's process."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(way, pid, scene, seconds))


async def _measure(way: Way, pid: int, scene: Scene, seconds: float) -> Watched:
    await _populate(way, scene)
    version = get(way, f"{_CORE}/{NAMESPACE}/configmaps?limit=1")["metadata"]["resourceVersion"]
    watchers = []
    for number in range(scene.watchers):
        target = f"{_CORE}/{scene.namespace(number)}/configmaps?watch=1&resourceVersion={version}"
        watcher = _Watcher(way.request("GET", target), scene.apart or number < SAMPLED)
        watchers.append(watcher)
        await way.connect(lambda watcher=watcher: watcher)  # type: ignore[misc]
    await _until(lambda: all(watcher.begun for watcher in watchers), "the watches did not begin")
    count = int(scene.changes * seconds)
    before, started = cpu_seconds(pid), time.monotonic()
    await _write(way, scene, count)
    wrote = time.monotonic() - started
    expected = count if scene.apart else count * scene.watchers
    await _until(lambda: sum(watcher.events for watcher in watchers) >= expected, "events are missing")
    took = time.monotonic() - started
    cores, rss = (cpu_seconds(pid) - before) / took, memory([pid]).rss
    for watcher in watchers:
        watcher.close()
    late = sorted(late for watcher in watchers if watcher.kept for late in _latencies(watcher.kept))
    p50, p99 = (late[len(late) * which // 100] * 1e3 for which in (50, 99))
    return Watched(p50, p99, expected / took, count / wrote, cores, rss)


async def _populate(way: Way, scene: Scene) -> None:
    """The namespaces and config maps that don't exist yet."""
    names = {scene.namespace(number) for number in range(scene.watchers)}
    there = {one["metadata"]["name"] for one in get(way, _CORE)["items"]}
    made = [{"metadata": {"name": name}} for name in sorted(names - there)]
    await ask_all(way, [way.request("POST", _CORE, json.dumps(one).encode()) for one in made], _WRITERS)
    await _write_all(way, scene, range(max(OBJECTS, scene.watchers if scene.apart else 0)))


async def _write_all(way: Way, scene: Scene, numbers: range) -> None:
    existing = {
        (one["metadata"]["namespace"], one["metadata"]["name"]) for one in get(way, "/api/v1/configmaps")["items"]
    }
    requests = [
        way.request("POST", f"{_CORE}/{scene.namespace(number)}/configmaps", _body(number))
        for number in numbers
        if (scene.namespace(number), f"changing-{number}") not in existing
    ]
    await ask_all(way, requests, _WRITERS)


def _body(number: int) -> bytes:
    """About 300 bytes as stored; `sent` is the time."""
    data = {"sent": repr(time.time()), "level": "info", "colour": "green"}
    return json.dumps({"metadata": {"name": f"changing-{number}"}, "data": data}).encode()


async def _write(way: Way, scene: Scene, count: int) -> None:
    """Changes one object after the other, each when it is due or as soon after that as a connection is free."""
    objects = scene.watchers if scene.apart else OBJECTS
    connections = [Connection() for _ in range(_WRITERS)]
    for connection in connections:
        await way.connect(lambda connection=connection: connection)  # type: ignore[misc]
    started, sent = time.monotonic(), 0
    ready: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def due() -> None:
        nonlocal sent
        while sent < count:
            while sent < min(count, (time.monotonic() - started) * scene.changes):
                number = sent % objects
                target = f"{_CORE}/{scene.namespace(number)}/configmaps/changing-{number}"
                ready.put_nowait(way.request("PUT", target, _body(number)))
                sent += 1
            await asyncio.sleep(0.002)
        for _ in range(_WRITERS):
            ready.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(due(), name="changes that are due")
        for connection in connections:
            group.create_task(_writer(connection, ready), name="writer")


async def _writer(connection: Connection, ready: "asyncio.Queue[bytes | None]") -> None:
    while (request := await ready.get()) is not None:
        await connection.ask(request)
    connection.close()


def _latencies(kept: list[tuple[float, bytes]]) -> Iterator[float]:
    """How late each event was, by the time in it: an event is there when its line is whole."""
    rest = b""
    for arrived, data in kept:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if found := _SENT.search(line):
                yield arrived - float(found[1])


async def _until(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + _ARRIVAL
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(failure)
        await asyncio.sleep(0.01)
