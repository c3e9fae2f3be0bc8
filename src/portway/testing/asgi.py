"""An ASGI application called in-process: requests in, whole answers or lines of a stream out. For tests.

No sockets. What a real server adds (framing, connections, their loss) is tested over a unix socket elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

PATIENCE = 10.0
"""Seconds that anything waited for may take."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer; `headers` in the order sent, names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    def header(self, name: str) -> str:
        """All values of a header, joined; "" when there is none."""
        return ", ".join(value for key, value in self.headers if key == name)


class Caller:
    """Calls an application as one user, the way the door does (X-Remote-*)."""

    def __init__(self, app: App, user: str = "admin", groups: tuple[str, ...] = ("system:masters",)) -> None:
        self._app = app
        self._identity = [("x-remote-user", user), *(("x-remote-group", group) for group in groups)]

    def _scope(self, method: str, target: str, headers: Mapping[str, str]) -> dict[str, Any]:
        path, _, query = target.partition("?")
        sent = [*self._identity, *((name.lower(), value) for name, value in headers.items())]
        return {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent],
        }

    async def request(
        self, method: str, target: str, body: Any = None, *, content_type: str = "application/json", **headers: str
    ) -> Answer:
        """Sends one request; `body` is bytes, or a value that is sent as JSON. Header names: `if_none_match`."""
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if raw:
            named["content-type"] = content_type
        pending: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if pending:
                return pending.pop()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def send(message: Message) -> None:
            sent.append(message)

        async with asyncio.timeout(PATIENCE):
            await self._app(self._scope(method, target, named), receive, send)
        return _answer(sent)

    @asynccontextmanager
    async def stream(self, target: str, **headers: str) -> AsyncIterator[Lines]:
        """Opens a GET whose answer does not end by itself; leaving the block is the client's departure."""
        gone = asyncio.Event()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = Lines()

        async def receive() -> Message:
            if not lines.asked:
                lines.asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        task = asyncio.create_task(
            _run(self._app, self._scope("GET", target, named), receive, lines), name=f"stream {target}"
        )
        try:
            await lines.begun()
            yield lines
        finally:
            gone.set()
            async with asyncio.timeout(PATIENCE):
                await task


class Lines:
    """The lines of a stream, as they come; or its frames, where it has those (`headers` say which)."""

    def __init__(self) -> None:
        self.asked = False
        self.status = 0
        self.headers: tuple[tuple[str, str], ...] = ()
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._start = asyncio.Event()
        self._rest = b""
        self._whole: list[bytes] = []

    async def take(self, message: Message) -> None:
        """Takes one message of the application."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = tuple((name.decode(), value.decode()) for name, value in message["headers"])
            self._start.set()
        else:
            self._chunks.put_nowait(message.get("body", b""))
            if not message.get("more_body", False):
                self._chunks.put_nowait(None)

    def end(self) -> None:
        """The application returned."""
        self._start.set()
        self._chunks.put_nowait(None)

    async def begun(self) -> None:
        """Returns when the answer's head is there."""
        async with asyncio.timeout(PATIENCE):
            await self._start.wait()

    async def next(self) -> Any:
        """Returns the next line as JSON, None at the end of the stream."""
        while not self._whole:
            async with asyncio.timeout(PATIENCE):
                chunk = await self._chunks.get()
            if chunk is None:
                return orjson.loads(self._rest) if self._rest else None
            *self._whole, self._rest = (self._rest + chunk).split(b"\n")
        return orjson.loads(self._whole.pop(0))

    async def frame(self) -> bytes | None:
        """Returns the next frame, without the four bytes of its length; None at the end of the stream."""
        while len(self._rest) < 4 or len(self._rest) < 4 + int.from_bytes(self._rest[:4], "big"):
            async with asyncio.timeout(PATIENCE):
                chunk = await self._chunks.get()
            if chunk is None:
                assert not self._rest, "the stream ends within a frame"
                return None
            self._rest += chunk
        end = 4 + int.from_bytes(self._rest[:4], "big")
        found, self._rest = self._rest[4:end], self._rest[end:]
        return found


async def _run(app: App, scope: dict[str, Any], receive: Callable[[], Awaitable[Message]], lines: Lines) -> None:
    try:
        await app(scope, receive, lines.take)
    finally:
        lines.end()


def _answer(sent: list[Message]) -> Answer:
    head = sent[0]
    headers = tuple((name.decode(), value.decode()) for name, value in head["headers"])
    return Answer(head["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))
