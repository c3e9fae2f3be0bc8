"""The downstream connection: a client's bytes to requests, one answered after the other, and back.

llhttp in strict mode is the only parser; what it rejects is answered and the connection ends. Requests that arrive
behind an unanswered one wait, bounded by one read; nothing more is read meanwhile.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import httptools

from portway.gateway import answers
from portway.gateway import headers as h
from portway.gateway.gone import GONE
from portway.gateway.relay import Exchange
from portway.kube.errors import (
    BadRequest,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    StatusError,
    TooManyRequests,
    method_not_allowed,
)
from portway.kube.proxyurl import plain_request, plain_request_at_host, plain_rest

if TYPE_CHECKING:
    from portway.gateway.authentication import Identity
    from portway.gateway.pipeline import Door

LINGER = 5.0
"""Seconds that a refused upload may go on before the connection is cut (RFC 9112 section 9.6)."""
NEVER = float("inf")
VERSION = b" HTTP/1.1"
_LAST = frozenset((b"CONNECT", b"TRACE"))
"""Methods that are refused; what follows the first is no HTTP to whoever sent it."""


class Downstream(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_clean",
        "_fields",
        "_forwarded",
        "_head_bytes",
        "_large",
        "_last",
        "_last_fields",
        "_lingering",
        "_parser",
        "_paused",
        "_queue",
        "_receiving",
        "_rest",
        "_stopped",
        "_url",
        "active",
        "advancing",
        "blocked",
        "certificate",
        "closed",
        "deadline",
        "door",
        "peer",
        "secure",
        "served",
        "transport",
        "tunnel",
    )  # fmt: skip

    def __init__(self, door: "Door", secure: bool) -> None:
        self.door = door
        self.secure = secure
        self.certificate: Identity | None = None
        self.active: Exchange | None = None
        self.tunnel: Exchange | None = None
        self.served = 0
        self.closed = False
        self.advancing = False
        self.deadline = NEVER
        self.peer = ""
        self._queue: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        self._fields: h.Fields = []
        self._url = b""
        self._head_bytes = 0
        self._large = False
        self.blocked = False
        self._lingering = False
        self._paused = False
        self._stopped = False
        self._rest = b""
        self._clean = True
        self._last: Exchange | None = None
        self._last_fields = b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client (asyncio; with TLS, after the handshake)."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        name = transport.get_extra_info("peername")
        self.peer = name[0] if isinstance(name, tuple) else ""
        self._forwarded = b"X-Forwarded-For: %b\r\n" % self.peer.encode()
        if self.secure:
            self.certificate = self.door.crowd.certificate(transport.get_extra_info("ssl_object"))
        self.deadline = self.door.now + self.door.limits.header_timeout
        if not self.door.crowd.admit(self):
            self._refuse(TooManyRequests("too many connections from this address", retry_after=1))
            self.advance()
            self.close()  # at once: nobody counts it, so nobody would sweep it away

    def data_received(self, data: bytes) -> None:
        """Bytes from the client (asyncio)."""
        if self.tunnel is not None:
            self.tunnel.client_sent(data)
            return
        if self._lingering or self.closed:
            return
        if self._stopped:
            self._rest += data
            self.pause()
            return
        if self._clean and self.active is None and self._last is not None and self._repeat(self._last, data):
            return
        begins = not self._head_bytes and self.active is None and self._receiving is None
        self._head_bytes += len(data)
        self._large = self._head_bytes > self.door.limits.header_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._stopped = True
            self._rest = data[stop.args[0] :]
        except httptools.HttpParserInvalidMethodError:
            self._refuse(method_not_allowed())
        except httptools.HttpParserCallbackError as error:
            self._callback_failed(error)
        except httptools.HttpParserError as error:
            self._malformed(error)
        if self._head_bytes > self.door.limits.header_bytes and not self._stopped and self._in_fields():
            self._refuse(RequestHeaderFieldsTooLarge("request line and headers are too large"))
        if self._queue and self.active is None:
            self._notice(data)
            self.advance()
        else:
            self._clean = False
            if self._queue:
                self.pause()
            elif begins:
                self.deadline = self.door.now + self.door.limits.header_timeout
        if self._receiving is not None and self._receiving is self.active and not self._paused:
            self.deadline = self.door.now + self.door.limits.body_timeout

    def _notice(self, data: bytes) -> None:
        """Remembers a request that was all of one read and nothing else, as all before it were: see `_repeat`."""
        exchange = self._queue[0]
        line = data.find(b"\r\n")  # 0 = an empty line before the request, which is none of its fields
        alone = len(self._queue) == 1 and data.find(b"\r\n\r\n") == len(data) - 4
        # An absolute target names its own host, which is no part of the fields.
        self._clean = self._clean and alone and exchange.plain and line > 0 and exchange.target.startswith(b"/")
        if self._clean:
            self._last, self._last_fields = exchange, data[line:]

    def forget(self) -> None:
        """The next request is read in full, whatever it has in common with the last one."""
        self._last = None

    def _repeat(self, last: Exchange, data: bytes) -> bool:
        """Serves a request whose header fields are byte for byte those of the one before: no need to parse them again.

        Sound because each read since the connection began was exactly one request without a body, so that the parser is
        between messages, and because the line before the fields can be read in one way only.
        """
        fields = self._last_fields
        end = len(data) - len(fields)
        if end <= 0 or not last.done or not data.endswith(fields) or end > self.door.limits.url_bytes:
            return False
        deadline, self.deadline = self.deadline, NEVER
        self.active = last
        opening = last.opening
        if opening and data.startswith(opening):
            rest = plain_rest(data, len(opening), end)
            if rest is not None:
                path, query = rest.groups(b"")
                if last.again(data[len(last.method) + 1 : end - len(VERSION)], path, query):
                    return True
        else:
            line = (plain_request if last.site is None else plain_request_at_host)(data, 0, end)
            if line is not None:
                method, target, prefix, path, query = line.groups(b"")  # CPython 3.11 is slow to call with a star
                if last.again_elsewhere(method, target, prefix, path, query):
                    return True
        self.active, self.deadline = None, deadline
        return False

    def _in_head(self) -> bool:
        return bool(self._url or self._fields)

    def _in_fields(self) -> bool:
        """A head, or what is no body of a body: trailers and chunk extensions, which nobody else bounds."""
        return self._receiving is not None or self._in_head()

    def _callback_failed(self, error: Exception) -> None:
        cause = error.__context__ or error.__cause__
        if not isinstance(cause, StatusError):
            raise error
        self._refuse(cause)

    def _malformed(self, error: Exception) -> None:
        last = self._queue[-1] if self._queue else self.active
        if self._receiving is None and last is not None and last.close and not self._in_head():
            return  # bytes behind a request that asked to close: nobody's
        if _codings(self._fields) - {b"chunked"}:
            self._refuse(StatusError("unsupported transfer encoding", code=501, reason="NotImplemented"))
        else:
            self._refuse(BadRequest(f"malformed HTTP request: {error}"))

    def _refuse(self, error: StatusError) -> None:
        """Answers what could not be parsed, behind what waits, and reads no further."""
        if self._lingering:
            return
        self._lingering = True
        self._fields, self._url = [], b""
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            exchange = Exchange(self, b"", b"", [], old=False)
            self._queue.append(exchange)
        exchange.close = True
        exchange.body_done = False
        if exchange is self.active:
            exchange.refuse(error)
        else:
            exchange.problem = error

    # llhttp's callbacks

    def on_url(self, url: bytes) -> None:
        """The request target, maybe in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer section."""
        receiving = self._receiving
        if receiving is None:
            self._fields.append((name, value))
        elif len(receiving.trailers) < self.door.limits.header_count:
            receiving.trailers.append((name, value))
        else:
            raise RequestHeaderFieldsTooLarge("too many trailer fields")

    def on_headers_complete(self) -> None:
        """A head is whole: it becomes an exchange."""
        parser = self._parser
        limits = self.door.limits
        url, self._url = self._url, b""
        fields, self._fields = self._fields, []
        if len(url) > limits.url_bytes:
            raise StatusError("the request target is too long", code=414, reason="RequestURITooLong")
        if b"#" in url:
            # No target has one (RFC 9112 section 3.2); whoever cut it off would see another path than we decide on.
            raise BadRequest("the request target has a fragment")
        if len(self._queue) >= limits.pipelined:
            raise TooManyRequests("too many requests wait on this connection")
        if len(fields) > limits.header_count or (self._large and _size(url, fields) > limits.header_bytes):
            raise RequestHeaderFieldsTooLarge("request line and headers are too large")
        version = parser.get_http_version()
        if version != "1.1" and version != "1.0":
            raise StatusError(f"HTTP version {version} is not supported", code=505, reason="HTTPVersionNotSupported")
        method = parser.get_method()
        exchange = Exchange(self, method, url, fields, version == "1.0")
        exchange.close = method in _LAST or not parser.should_keep_alive()
        self._head_bytes = 0
        self._receiving = exchange
        self._queue.append(exchange)

    def on_body(self, data: bytes) -> None:
        """A piece of a body."""
        self._head_bytes = 0
        exchange = self._receiving
        if exchange is None:
            return
        if exchange is self.active:
            self.deadline = self.door.now + self.door.limits.body_timeout
            exchange.request_body(data)
        else:
            exchange.received += len(data)
            exchange.body.append(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        exchange, self._receiving = self._receiving, None
        self._head_bytes = 0
        if exchange is None:
            return
        if exchange is self.active:
            self.deadline = NEVER
            exchange.request_ended()
        else:
            exchange.body_done = True

    # one after the other

    def advance(self) -> None:
        """Starts the next waiting request."""
        if self.advancing:
            return
        self.advancing = True
        while self._queue and self.active is None and not self.closed and not self.blocked:
            exchange = self.active = self._queue.popleft()
            self.deadline = NEVER if exchange.body_done else self.door.now + self.door.limits.body_timeout
            if self.served + 1 >= self.door.limits.requests_per_connection:
                exchange.close = True
            self.door.handle(exchange)
        self.advancing = False
        if self.active is None and not self.closed and not self.blocked:
            self.resume()

    def answered(self, exchange: Exchange) -> None:
        """The active exchange is done, its answer written."""
        door, limits = self.door, self.door.limits
        self.active = None
        self.served += 1
        if exchange.close or self.closed or door.draining:
            self._queue.clear()
            self._part(exchange)
            return
        if self.served + 1 >= limits.requests_per_connection:
            self._clean = False  # the last one is served by `advance`, which says so
        self.deadline = door.now + limits.idle_timeout
        if self.blocked:
            self.pause()
        elif self._queue or self._stopped or self._paused:
            self._proceed()

    def _proceed(self) -> None:
        if self._stopped and not self._queue:
            self._continue_plain()
        if self._queue:
            self.advance()
        elif self._paused and not self.advancing:
            self.resume()

    def _continue_plain(self) -> None:
        """An upgrade was not granted, but the connection lives on: read what came behind it."""
        rest, self._rest = self._rest, b""
        self._stopped = False
        self._parser = httptools.HttpRequestParser(self)
        self.resume()
        if rest:
            self.data_received(rest)

    def _part(self, exchange: Exchange) -> None:
        if exchange.body_done or self.closed:
            self.close()
            return
        # The client may still be sending: closing now would reset the connection and take the answer with it.
        self._lingering = True
        self._receiving = None
        self.deadline = self.door.now + LINGER
        self.resume()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    # upgrades

    @property
    def scheme(self) -> bytes:
        """By which the client came."""
        return b"https" if self.secure else b"http"

    def start_tunnel(self, exchange: Exchange) -> bytes:
        """From here on the client's bytes are the exchange's; returns those that are here already."""
        self.tunnel = exchange
        self._last, self._last_fields = None, b""
        self.deadline = NEVER
        rest, self._rest = self._rest, b""
        self.resume()
        return rest

    def forwarded_for(self, earlier: bytes | None) -> bytes:
        """The X-Forwarded-For line: who said so before, and whom we see."""
        if earlier is None:
            return self._forwarded
        return b"X-Forwarded-For: %b, %b\r\n" % (earlier, self.peer.encode())

    def finish_writing(self) -> bool:
        """Sends the end of our direction; False when the transport can't (TLS) and must close whole."""
        if self.closed or not self.transport.can_write_eof():
            self.close()
            return False
        self.transport.write_eof()
        return True

    # writing, flow and end

    def write(self, data: bytes) -> None:
        """Bytes for the client."""
        if not self.closed:
            self.transport.write(data)

    def pause(self) -> None:
        """Stops reading."""
        if not self._paused and not self.closed:
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._paused and not self.closed:
            self._paused = False
            self.transport.resume_reading()
            if self._receiving is not None and self._receiving is self.active:
                self.deadline = self.door.now + self.door.limits.body_timeout

    def pause_writing(self) -> None:
        """The client reads slowly (asyncio): no more is asked of a backend, or begun, until it has caught up."""
        self.blocked = True
        if self.active is not None:
            self.active.pause_download()
        else:
            self.pause()

    def resume_writing(self) -> None:
        """It caught up (asyncio)."""
        self.blocked = False
        if self.active is not None:
            self.active.resume_download()
        elif not self.closed:
            self._proceed()

    def eof_received(self) -> bool:
        """The client sends no more (asyncio). Outside a tunnel that means it left, as net/http and nginx take it."""
        return self.tunnel is not None and self.tunnel.client_finished()

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone (asyncio)."""
        self.closed = True
        self.door.crowd.leave(self)
        self._queue.clear()
        active, self.active = self.active, None
        if active is not None:
            active.client_gone()
        self.tunnel = self._last = None
        self.transport = GONE
        del self._parser

    def cut(self, abruptly: bool) -> None:
        """Ends an answer that can't be finished; `abruptly` where only a reset can show it."""
        self.active = None
        if abruptly:
            self.closed = True
            self.transport.abort()
        else:
            self.close()

    def close_if_idle(self) -> None:
        """Ends a connection that serves nobody at the moment."""
        if self.active is None and not self._queue and self._receiving is None and not self._in_head():
            self.close()

    def close(self) -> None:
        """Ends the connection after what was written; a client that does not read that is cut off in the end."""
        if not self.closed:
            self.closed = True
            self.deadline = self.door.now + self.door.limits.idle_timeout
            self.transport.close()

    def expire(self) -> None:
        """The deadline passed: nothing asked in time, or nothing more to wait for."""
        if self.closed:
            self.transport.abort()
            return
        exchange = self._receiving
        if exchange is not None and exchange is self.active:
            self._body_overdue(exchange)
            return
        if self._in_head() and not self._lingering:
            self.write(b"".join(_too_slow()))
        self.close()

    def _body_overdue(self, exchange: Exchange) -> None:
        if self._paused or exchange.head_sent:
            # It is the backend that keeps the client waiting, or the two converse.
            self.deadline = self.door.now + self.door.limits.body_timeout
        else:
            exchange.refuse(RequestTimeout("the request body did not arrive in time"))


def _too_slow() -> tuple[bytes, bytes, bytes]:
    error = RequestTimeout("the request did not arrive in time")
    head, body = answers.status(error, "", as_page=False, extra=b"Connection: close\r\n")
    return head, b"\r\n", body


def _codings(fields: h.Fields) -> set[bytes]:
    return {value.strip().lower() for name, value in fields if name.lower() == b"transfer-encoding"}


def _size(url: bytes, fields: h.Fields) -> int:
    return len(url) + sum(len(n) + len(v) + 4 for n, v in fields)
