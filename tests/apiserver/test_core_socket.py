"""The server on a unix socket under uvicorn: streams, departures, limits, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from portway.apiserver import Application, create_app
from portway.apiserver.yamlbody import MAX_VALUES
from portway.storage import MemoryStore
from portway.testing.api import settings

MAPS = "http://api/api/v1/namespaces/default/configmaps"
ADMIN = {"X-Remote-User": "admin", "X-Remote-Group": "system:masters"}
PATIENCE = 10.0


@asynccontextmanager
async def listening(path: Path, **changes: Any) -> AsyncIterator[tuple[Application, uvicorn.Server]]:
    """Serves a fresh API server on a socket, lifespan included."""
    app = create_app(MemoryStore(), settings(**changes))
    options = uvicorn.Config(
        app, uds=str(path), lifespan="on", log_level="warning", server_header=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(options)
    task = asyncio.create_task(server.serve(), name="uvicorn")
    try:
        async with asyncio.timeout(PATIENCE):
            while not server.started:
                assert not task.done()
                await asyncio.sleep(0.005)
        yield app, server
    finally:
        app.drain()
        server.should_exit = True
        await task


def serve(path: Path, test: Callable[[Application, aiohttp.ClientSession], Awaitable[None]], **changes: Any) -> None:
    async def run() -> None:
        async with listening(path, **changes) as (app, _):
            connector = aiohttp.UnixConnector(path=str(path))
            async with aiohttp.ClientSession(connector=connector, headers=ADMIN) as session:
                await test(app, session)

    asyncio.run(run())


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def test_events_come_line_by_line_as_they_happen(tmp_path: Path) -> None:
    async def test(_: Application, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{MAPS}?watch=1&resourceVersion=") as stream:
            assert stream.headers["content-type"] == "application/json"
            assert stream.headers["transfer-encoding"] == "chunked"
            for name in ("a", "b"):
                async with session.post(MAPS, json={"metadata": {"name": name}}) as made:
                    assert made.status == 201
                async with asyncio.timeout(PATIENCE):
                    line = await stream.content.readline()
                assert b'"type":"ADDED"' in line
                assert f'"name":"{name}"'.encode() in line

    serve(tmp_path / "api.sock", test)


def test_a_watcher_that_hangs_up_is_noticed_at_once(tmp_path: Path) -> None:
    async def test(app: Application, session: aiohttp.ClientSession) -> None:
        def watching() -> int:
            return sum("watch:" in task.get_name() for task in asyncio.all_tasks())

        stream = await session.get(f"{MAPS}?watch=1")
        await eventually(lambda: watching() == 1)
        stream.close()
        await eventually(lambda: watching() == 0)

    serve(tmp_path / "api.sock", test)


def test_a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes(tmp_path: Path) -> None:
    async def test(_: Application, session: aiohttp.ClientSession) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"x" * 1000

        for body in (b"x" * 5000, chunks()):
            async with session.post(MAPS, data=body, headers={"Content-Type": "application/json"}) as answer:
                assert answer.status == 413
                assert (await answer.json())["message"] == "Request entity too large: limit is 4096"

    serve(tmp_path / "api.sock", test, max_body_bytes=4096)


def test_a_reader_that_stops_reading_holds_up_nobody(tmp_path: Path) -> None:
    async def test(_: Application, session: aiohttp.ClientSession) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "api.sock"), limit=1024)
        head = "GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: api\r\nX-Remote-User: x\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        async with session.get(f"{MAPS}?watch=1") as stream:
            for i in range(60):
                obj = {"metadata": {"name": f"m{i}"}, "data": {"x": "y" * 50_000}}
                async with session.post(MAPS, json=obj) as made:
                    assert made.status == 201
                async with asyncio.timeout(PATIENCE):
                    while not (await stream.content.readuntil(b"\n")).endswith(b"\n"):
                        pass
        writer.close()

    serve(tmp_path / "api.sock", test)


def test_draining_lets_the_server_end_at_once_though_watches_are_open(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "api.sock"
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(path)), headers=ADMIN) as session:
            async with listening(path):
                stream = await session.get(f"{MAPS}?watch=1")
                begun = time.monotonic()
            assert time.monotonic() - begun < 4
            assert await stream.content.read() == b""

    asyncio.run(run())


def test_others_are_answered_while_bodies_of_yaml_are_read(tmp_path: Path) -> None:
    """Several at once, each as slow as it may be."""

    async def test(_: Application, session: aiohttp.ClientSession) -> None:
        async def post(content_type: str, method: str, url: str) -> int:
            body = b"data: {%b}" % b",".join(b"k%d: v" % i for i in range(MAX_VALUES // 2 - 2))
            async with session.request(method, url, data=body, headers={"content-type": content_type}) as answer:
                return answer.status

        slow = [
            asyncio.create_task(post(kind, *where), name=f"slow {i}")
            for i in range(2)
            for kind, *where in (
                ("application/yaml", "POST", MAPS),
                ("application/apply-patch+yaml", "PATCH", f"{MAPS}/a?fieldManager=me"),
            )
        ]
        waits = []
        while not all(task.done() for task in slow):
            began = time.perf_counter()
            async with session.get(MAPS) as answer:
                assert answer.status == 200
            waits.append(time.perf_counter() - began)
        # No name (422), no kind (400): they were read all the same.
        assert sorted(task.result() for task in slow) == [400] * 2 + [422] * 2
        # Read in the loop, they would leave room for four.
        assert len(waits) > 40
        assert max(waits) < 1

    serve(tmp_path / "api.sock", test)
