"""One connection to a backend: it sends what it is given and turns the answer's bytes into calls on the exchange it
serves.

HTTP/1.1 by llhttp. A body of known length goes past the parser once it is long enough to be worth it. A connection
that ever receives a byte it was not asked for is not used again (CVE-2018-1002105's lesson).
"""

import asyncio
import re
import traceback
from typing import TYPE_CHECKING, Protocol

import httptools

from portway.gateway.gone import GONE
from portway.gateway.headers import Fields

if TYPE_CHECKING:
    from portway.gateway.upstream.endpoint import Endpoint

MEMO_LIMIT = 8192
"""Longest head that is remembered."""
_AUDIT_ID = re.compile(rb"\r\nAudit-Id: ([0-9a-f-]{36})(?=\r\n)")
_ID = re.compile(rb"[0-9a-f-]{36}").fullmatch
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
QUIET_LIMIT = 1 << 20
"""Bytes without a byte of body that a backend may send: heads, interim answers, trailers (Go's transport: 10 MiB)."""
LINGER = 10.0
"""Seconds that a backend has to read the end of a tunnel."""
RAW_FROM = 65536
"""Bytes of a body still to come from which the parser is left out."""


class Exchange(Protocol):
    """What a connection tells the exchange that uses it."""

    def response_started(self, upstream: "Upstream", status: int, reason: bytes, fields: Fields) -> int:
        """Head received (1xx included, 101 not). Returns the length of a raw body that may bypass the parser, or 0."""

    def response_whole(self, upstream: "Upstream", memo: "Memo", data: bytes) -> None:
        """A whole answer whose head is known."""

    def response_body(self, data: bytes) -> None:
        """A piece of the body."""

    def response_raw(self, data: bytes) -> None:
        """A piece of the body that is written out at once."""

    def response_flush(self) -> None:
        """The bytes at hand are used up."""

    def response_ended(self, upstream: "Upstream", fields: Fields, reusable: bool) -> None:
        """Whole body received, with its trailers."""

    def response_upgraded(self, upstream: "Upstream", status: int, reason: bytes, fields: Fields, rest: bytes) -> None:
        """101; the connection now belongs to the exchange's tunnel."""

    def upstream_lost(self, upstream: "Upstream", why: str) -> None:
        """The connection ended, or spoke something else than HTTP, before the answer was whole."""

    def pause_upload(self) -> None:
        """The backend reads slower than the client sends."""

    def resume_upload(self) -> None:
        """It caught up."""

    def tunnel_received(self, data: bytes) -> None:
        """Bytes after an upgrade."""

    def tunnel_ended(self) -> bool:
        """The backend will send no more; True keeps our direction open."""


class ImpossibleStatus(ValueError):  # noqa: N818 - what it is, to llhttp's caller
    """A status below 100: whoever reads our copy of it could take it for another message."""


class Memo:
    """A response head that was read before: the same bytes again mean the same, and need no parser.

    `head` is what it was turned into, `skip` its length as received, `total` that of the message. An API server gives
    each answer an Audit-Id of its own, which nobody is sent: whichever it is, the rest means the same.
    """

    __slots__ = ("_end", "_raw", "_rest", "head", "length", "skip", "status", "total")

    def __init__(self, raw: bytes, length: int, status: int, head: bytes) -> None:
        audit = _AUDIT_ID.search(raw)
        self._raw, self._rest, self._end = raw, b"", 0
        if audit is not None:
            self._raw, self._rest, self._end = raw[: audit.start(1)], raw[audit.end() :], audit.end()
        self.skip = len(raw)
        self.length = length
        self.total = self.skip + length
        self.status = status
        self.head = head

    def fits(self, data: bytes) -> bool:
        """Whether it is the head of a message that is all of `data`."""
        if len(data) != self.total or not data.startswith(self._raw):
            return False
        return not self._end or (
            data.startswith(self._rest, self._end) and _ID(data, len(self._raw), self._end) is not None
        )


class Upstream(asyncio.Protocol):
    """A connection to one endpoint; serves one exchange at a time."""

    __slots__ = (
        "_fresh",
        "_length",
        "_parser",
        "_quiet",
        "_raw",
        "_raw_left",
        "closed",
        "dirty",
        "ended",
        "endpoint",
        "exchange",
        "fields",
        "head_only",
        "heading",
        "keep_alive",
        "paused",
        "plain_head",
        "reason",
        "served",
        "since",
        "transport",
        "tunnel",
        "until_close",
    )

    def __init__(self, endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.exchange: Exchange | None = None
        self.served = 0
        self.since = 0.0
        self.closed = False
        self.tunnel = False
        self.paused = False
        self._raw = False
        self._reset()
        self._parser = httptools.HttpResponseParser(self)

    def _reset(self) -> None:
        self.fields: Fields = []
        self.reason = b""
        self.heading = True
        self.ended = False
        self.dirty = False
        self.head_only = False
        self.until_close = False
        self.keep_alive = False
        self.plain_head: bytes | None = None
        """Set by the exchange: what the head became, when nothing but its bytes decided that."""
        self._fresh = True
        self._quiet = 0
        self._length = 0
        """Of a body of known length."""
        self._raw_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport (asyncio)."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def begin(self, exchange: Exchange, head: bytes, head_only: bool, memorable: bool) -> None:
        """Starts an exchange: `head_only` says that the answer has no body whatever its head says (HEAD), `memorable`
        that an answer that was seen before means now what it meant then.
        """
        self.exchange = exchange
        self.head_only = head_only
        self._fresh = memorable and not head_only
        self.served += 1
        self.transport.write(head)

    def data_received(self, data: bytes) -> None:
        """Bytes from the backend (asyncio)."""
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        fresh = self._fresh
        if fresh:
            memo = self.endpoint.memo
            if memo is not None and memo.fits(data):
                self.exchange = None
                exchange.response_whole(self, memo, data)
                return
            self._fresh = False
        elif self.tunnel:
            exchange.tunnel_received(data)
            return
        elif self._raw:
            self._receive_raw(exchange, data)
            return
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self.tunnel = True
            exchange.response_upgraded(self, 101, self.reason, self.fields, data[stop.args[0] :])
            return
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
                error.__context__, ImpossibleStatus
            ):
                traceback.print_exception(error)  # a bug of ours, which the client sees as the backend's
            if not self.ended:
                self._failed(f"malformed HTTP response: {error}")
                return
            self.dirty = True
        if self.ended:
            if fresh and self.plain_head is not None and self.keep_alive and not self.dirty:
                self._remember(data)
            self._finish(exchange)
        elif self._quiet > QUIET_LIMIT:
            self._failed("malformed HTTP response: head or trailers are too large")
        elif self.exchange is exchange:
            exchange.response_flush()
            self._raw = self._raw_left > RAW_FROM

    def _remember(self, data: bytes) -> None:
        """Keeps the head of an answer that was all of `data`: what stands before its first empty line, provided that
        just the body's length is left behind it. Otherwise that was an interim answer's, or nobody's.
        """
        raw = data[: data.find(b"\r\n\r\n") + 4]
        if self.plain_head is not None and len(raw) <= MEMO_LIMIT and len(data) - len(raw) == self._length:
            self.endpoint.memo = Memo(raw, len(data) - len(raw), self._parser.get_status_code(), self.plain_head)

    def _receive_raw(self, exchange: Exchange, data: bytes) -> None:
        left = self._raw_left - len(data)
        if left < 0:
            data, self.dirty, left = data[:left], True, 0
        self._raw_left = left
        exchange.response_raw(data)
        if not left:
            self._raw = False
            self._parser = httptools.HttpResponseParser(self)
            self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        trailers = self.fields
        reusable = self.keep_alive and not (self.dirty or self.closed or self.until_close)
        if self.head_only:
            self._parser = httptools.HttpResponseParser(self)
        self._reset()
        self.exchange = None
        exchange.response_ended(self, trailers, reusable)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """A message starts; after the one that was asked for it is unsolicited."""
        if self.ended:
            self.dirty = True

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, maybe in pieces; llhttp lets control characters through."""
        if _CONTROL.search(reason):
            raise ValueError("control character in the reason phrase")
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer section."""
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        exchange = self.exchange
        if exchange is None or self.ended:
            self.dirty = True
            return
        parser = self._parser
        status = parser.get_status_code()
        if status == 101:
            return
        if status < 100:
            raise ImpossibleStatus(status)
        fields, self.fields = self.fields, []
        if status < 200:
            exchange.response_started(self, status, self.reason, fields)
            self.reason = b""
            return
        self.heading = False
        self.keep_alive = parser.should_keep_alive()
        self._length = self._raw_left = exchange.response_started(self, status, self.reason, fields)
        if self.head_only:
            self.ended = True

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.ended or self.exchange is None:
            self.dirty = True
            return
        self._quiet = 0
        self.exchange.response_body(data)
        if self._raw_left:
            self._raw_left -= len(data)

    def on_message_complete(self) -> None:
        """The message is whole; an interim one (1xx) leaves us waiting for the final one."""
        if not self.heading:
            self.ended = True

    # the connection's life

    def eof_received(self) -> bool:
        """The backend sends no more (asyncio)."""
        exchange = self.exchange
        if exchange is not None and self.tunnel:
            return exchange.tunnel_ended()
        if exchange is not None and self.until_close and not self.heading:
            self.ended = True
            self._finish(exchange)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone (asyncio)."""
        self.closed = True
        if self.exchange is not None:
            self._failed("EOF" if error is None else _text(error))
        elif self in self.endpoint.idle:
            self.endpoint.idle.remove(self)
        self.transport = GONE
        del self._parser

    def _failed(self, why: str) -> None:
        exchange, self.exchange = self.exchange, None
        self.close()
        if exchange is not None:
            exchange.upstream_lost(self, why)

    def pause_writing(self) -> None:
        """Our writes pile up (asyncio)."""
        if self.exchange is not None:
            self.exchange.pause_upload()

    def resume_writing(self) -> None:
        """They drained (asyncio)."""
        if self.exchange is not None:
            self.exchange.resume_upload()

    def pause(self) -> None:
        """Reads no more for now."""
        if not (self.paused or self.closed):
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self.paused and not self.closed:
            self.paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Ends the connection, after what was written."""
        if not self.closed:
            self.closed = True
            self.transport.close()

    def abandon(self) -> None:
        """Ends it at once: nobody waits for the answer any more."""
        self.exchange = None
        self.closed = True
        self.transport.abort()

    def release(self) -> None:
        """Ends a tunnel's connection: what was written still arrives, unless the backend does not read it soon."""
        self.exchange = None
        self.close()
        asyncio.get_running_loop().call_later(LINGER, self.transport.abort)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
