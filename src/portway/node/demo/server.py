"""The HTTP/1.1 server under the demo's programs: a function from Request to Response, and no framework to load.

A process is up in a tenth of a second, which is what the whole demo is about. Parsing is llhttp's (httptools).
Not for anything but the demo: no timeouts, because the door in front has them.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

import httptools

from portway.node.orphan import die_with_parent

MAX_BODY = 1 << 20
JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower-case, the path is decoded and starts with a slash."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = b""

    def argument(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; content-length is added."""

    body: bytes
    content_type: str = TEXT
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]
Upgrade = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Takes over a connection whose request asked for another protocol; what it needs to answer is in the request."""


def run(handler: Handler, upgrade: Upgrade | None = None, tls: ssl.SSLContext | None = None) -> None:
    """Serve on POD_IP:PORT until the process is ended, which is what SIGTERM does by itself."""
    die_with_parent()
    asyncio.run(_serve(handler, upgrade, tls, os.environ["POD_IP"], int(os.environ["PORT"])))


async def _serve(handler: Handler, upgrade: Upgrade | None, tls: ssl.SSLContext | None, host: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(reader, writer, handler, upgrade)
        except (ConnectionError, httptools.HttpParserError):
            pass  # the peer went away, or doesn't speak HTTP: nothing to tell it
        finally:
            writer.close()

    async with await asyncio.start_server(connected, host, port, ssl=tls, backlog=512) as server:
        await server.serve_forever()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler, upgrade: Upgrade | None
) -> None:
    incoming = _Incoming()
    parser = httptools.HttpRequestParser(incoming)
    incoming.parser = parser
    while data := await reader.read(65536):
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if upgrade is not None and incoming.complete:
                await upgrade(incoming.complete[0], reader, writer)
                return
        for request in incoming.take():
            response = await handler(request) if len(request.body) <= MAX_BODY else Response(b"too large\n", TEXT, 413)
            writer.write(_render(request, response))
            await writer.drain()
        if not incoming.keep_alive:
            return


class _Incoming:
    """httptools' callbacks → complete requests. A body over the limit is read but not kept."""

    parser: httptools.HttpRequestParser

    def __init__(self) -> None:
        self.complete: list[Request] = []
        self.keep_alive = True
        self._reset()

    def take(self) -> list[Request]:
        found, self.complete = self.complete, []
        return found

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_body(self, body: bytes) -> None:
        if len(self._body) <= MAX_BODY:
            self._body += body

    def on_message_complete(self) -> None:
        path, _, query = self._target.decode("latin-1").partition("?")
        method = self.parser.get_method().decode("ascii")
        arguments = parse_qs(query, keep_blank_values=True)
        self.complete.append(Request(method, unquote(path), arguments, self._headers, bytes(self._body)))
        self.keep_alive = self.parser.should_keep_alive()
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = bytearray()


def _render(request: Request, response: Response) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"content-type: {response.content_type}",
        f"content-length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if request.method == "HEAD" else head + response.body
