"""HTTP as the handlers see it: one request in, one answer or stream of chunks out, over ASGI.

No routing (`routing`), no decoding of objects (`body`). `app` makes a Request from each ASGI call, gives it to a
handler and sends what comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from portway.kube.errors import RequestEntityTooLarge, Unauthorized
from portway.kube.identity import User
from portway.kube.query import query_parameters

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
COMPRESS_BEYOND = 128 * 1024
"""Upstream's threshold for objects and lists."""
SEND_TIMEOUT = 60.0
"""Seconds for a peer to take what a stream has sent before it is cut off."""


class ClientGone(Exception):  # noqa: N818 - it says what happened; nobody is to blame
    """The client closed the connection before its answer began."""


@dataclass(slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    compress_beyond: int = COMPRESS_BEYOND
    """Bytes of a body that are sent as they are, even to whom accepts gzip."""


@dataclass(slots=True)
class Stream:
    """An answer without an end of its own: each chunk is sent at once."""

    chunks: AsyncGenerator[bytes, None]
    content_type: str = JSON
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Request:
    """One request of an authenticated and authorised caller."""

    __slots__ = ("_headers", "_receive", "max_body", "method", "params", "path", "query", "scope", "user")

    def __init__(self, scope: Scope, receive: Receive, max_body: int) -> None:
        """Raises Unauthorized when the door named no user. `params` holds the first value of each query parameter."""
        self.scope = scope
        self._receive = receive
        self.max_body = max_body
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope["query_string"].decode("latin-1")
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.params = {name: values[0] for name, values in query_parameters(self.query).items()}
        self.user = _user(self._headers)

    def header(self, name: bytes) -> str:
        """Returns the first header of that (lower-case) name, "" when there is none."""
        return next((_text(value) for key, value in self._headers if key == name), "")

    def headers(self, name: bytes) -> str:
        """Returns all headers of that name, joined as one list."""
        return ",".join(_text(value) for key, value in self._headers if key == name)

    async def body(self) -> bytes:
        """Returns the whole body; raises RequestEntityTooLarge beyond the limit, ClientGone when it never ends."""
        if self.header(b"content-length").isdigit() and int(self.header(b"content-length")) > self.max_body:
            raise RequestEntityTooLarge(f"Request entity too large: limit is {self.max_body}")
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self.max_body:
                raise RequestEntityTooLarge(f"Request entity too large: limit is {self.max_body}")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def disconnected(self) -> None:
        """Returns when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def send(answer: Response | Stream, method: str, send: Send) -> None:
    """Sends an answer; a HEAD gets the head of it."""
    headers = [(b"content-type", answer.content_type.encode("latin-1")), *answer.headers]
    if isinstance(answer, Stream):
        await _send_stream(answer, headers, send)
        return
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


async def _send_stream(answer: Stream, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    """Sends chunk by chunk; a peer that takes none for SEND_TIMEOUT makes it raise TimeoutError."""
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    async with aclosing(answer.chunks) as chunks, _Patience(SEND_TIMEOUT) as patience:
        async for chunk in chunks:
            patience.begin()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            patience.end()
    await send({"type": "http.response.body", "body": b""})


class _Patience:
    """Ends the task that is in its block with TimeoutError when one of the many steps in there takes too long.

    As `asyncio.timeout` around each of them, but with one timer for all: there are thousands a second.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> _Patience:
        await self._timeout.__aenter__()
        self._look()
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(*error)

    def begin(self) -> None:
        """A step begins."""
        self._began = self._loop.time()

    def end(self) -> None:
        """It has ended in time."""
        self._began = None

    def _look(self) -> None:
        """Looks again when a step that is under way, or could begin now, will have taken too long."""
        now = self._loop.time()
        until = (now if self._began is None else self._began) + self._seconds
        if until <= now:
            self._timer = None
            self._timeout.reschedule(now)
        else:
            self._timer = self._loop.call_at(until, self._look)


def _user(headers: list[tuple[bytes, bytes]]) -> User:
    """Who the door says it is (X-Remote-*; the socket's mode keeps everybody else out)."""
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for key, value in headers:
        if not key.startswith(b"x-remote-"):
            continue
        if key == b"x-remote-user":
            name = _text(value)
        elif key == b"x-remote-uid":
            uid = _text(value)
        elif key == b"x-remote-group":
            groups.append(_text(value))
        elif key.startswith(b"x-remote-extra-"):
            extra.setdefault(unquote(key[len(b"x-remote-extra-") :].decode("latin-1")), []).append(_text(value))
    if not name:
        raise Unauthorized("Unauthorized")
    return User(name, uid, tuple(groups), {key: tuple(values) for key, values in extra.items()})


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
