"""A backend that remembers what reached it, on addresses and a port of the test's choice; plain or TLS.

    with backend(("127.64.0.9",)) as web:
        ...
        assert web.seen[0].fields["host"] == "web"

/ws echoes a WebSocket (its first message is what the request looked like), /events streams, /upload and /download move
bytes, /abort breaks off; everything else is answered with the address that answered and the raw target.
"""

import asyncio
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from aiohttp import WSMsgType, web

from portway.testing.cluster import free_port

BLOCK = bytes(range(256)) * 256


class Seen(NamedTuple):
    """One request: names of fields in lower case, repeated ones joined by a newline."""

    method: str
    target: str
    fields: dict[str, str]


class Backend:
    """Runs in a thread of its own. `seen` is every request, in order."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.port = 0
        self.aborted = 0
        """Uploads that ended before they were whole."""
        self.loop = asyncio.new_event_loop()
        self._go = asyncio.Event()

    def go(self) -> None:
        """Lets /events send its second event."""
        self.loop.call_soon_threadsafe(self._go.set)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        fields: dict[str, str] = {}
        for name, value in request.headers.items():
            key = name.lower()
            fields[key] = f"{fields[key]}\n{value}" if key in fields else value
        self.seen.append(Seen(request.method, request.raw_path, fields))
        known = {"/ws": self._ws, "/events": self._events, "/upload": self._upload, "/download": self._download}
        known["/abort"] = self._abort
        handler = known.get(request.path)
        if handler is not None:
            return await handler(request)
        assert request.transport is not None
        return web.json_response(
            {"address": request.transport.get_extra_info("sockname")[0], "target": request.raw_path}
        )

    async def _ws(self, request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(protocols=("chat",))
        await response.prepare(request)
        await response.send_json({"target": request.raw_path})
        async for message in response:
            if message.type == WSMsgType.TEXT:
                await response.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await response.send_bytes(message.data)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await asyncio.wait_for(self._go.wait(), 30)
        self._go.clear()
        await response.write(b"data: two\n\n")
        return response

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        size, digest = 0, hashlib.sha256()
        try:
            async for data in request.content.iter_any():
                size += len(data)
                digest.update(data)
        except Exception:
            self.aborted += 1
            raise
        return web.json_response({"size": size, "sha256": digest.hexdigest()})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        left = int(request.query["size"])
        response = web.StreamResponse()
        if "chunked" not in request.query:
            response.content_length = left
        await response.prepare(request)
        while left:
            block = BLOCK[:left]
            await response.write(block)
            left -= len(block)
        return response

    async def _abort(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"0123456789")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def serve(self, addresses: tuple[str, ...], tls: ssl.SSLContext | None) -> web.AppRunner:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, shutdown_timeout=1.0, access_log=None)
        await runner.setup()
        for address in addresses:
            await web.TCPSite(runner, address, self.port, ssl_context=tls, reuse_address=True).start()
        return runner


@contextmanager
def backend(addresses: tuple[str, ...], tls: ssl.SSLContext | None = None) -> Iterator[Backend]:
    """One backend on all addresses, for the time of the block."""
    made = Backend()
    made.port = free_port()
    loop = made.loop
    thread = threading.Thread(target=loop.run_forever, name="backend")
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(made.serve(addresses, tls), loop).result(20)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        asyncio.run_coroutine_threadsafe(quiet(), loop).result(40)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def quiet() -> None:
    """Waits until nothing is open on the loop: connections say goodbye, and linger for the answer."""
    loop: Any = asyncio.get_running_loop()
    async with asyncio.timeout(35):
        while len(loop._selector.get_map()) > 1:  # the loop's own pipe
            await asyncio.sleep(0.01)


def secrets_in(seen: list[Seen], *secrets: str) -> list[str]:
    """Which of these words reached the backend anywhere."""
    text = json.dumps(seen)
    return [secret for secret in secrets if secret and secret in text]
