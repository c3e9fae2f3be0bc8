"""What a session runs over: a connection that was upgraded, or the messages of a WebSocket on it.

Both take and give a stream of bytes, for that is what SPDY is; a WebSocket's messages have no meaning of their own
there (KEP-4006). Framing of WebSockets is the `websockets` library's; the handshake is not done here.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidState
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

MAX_MESSAGE = 4 << 20
"""Bytes of a WebSocket message. Go's clients send at most 32 KiB at once, Kubernetes' Python client 1 MiB."""
MAX_UNSENT = 16 << 20
"""Bytes that may wait to be sent. Writers are paused long before; only answers to a flood of pings get this far."""
LINGER_SECONDS = 5.0
"""How long a closed connection may take to send what was written."""
_CLEAN = (1000, 1001, 1005)
"""Close codes that say nothing bad: done, going away, none given (RFC 6455 section 7.4.1)."""
_NOWHERE = WebSocketURI(False, "portway", 80, "/", "")


class Listener(Protocol):
    """What a carrier tells whoever uses it."""

    def received(self, data: bytes) -> None:
        """Bytes, in order."""

    def ended(self, error: Exception | None) -> None:
        """Nothing will come any more, and nothing can be sent; told once."""

    def pause_writing(self) -> None:
        """What was written is not being read; write no more for now."""

    def resume_writing(self) -> None:
        """It was."""


class Carrier(asyncio.Protocol):
    """A plain connection. `attach` it to the transport of an upgraded connection."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._over = False
        self._when_over: list[Callable[[], None]] = []

    def when_over(self, told: Callable[[], None]) -> None:
        """Call `told` once the connection is over."""
        self._when_over.append(told)

    def attach(self, transport: asyncio.Transport, rest: bytes = b"") -> None:
        """Take a connection over; `rest` came behind the handshake. The transport must be paused."""
        self._transport = transport
        transport.set_protocol(self)
        transport.resume_reading()
        if rest:
            self.data_received(rest)

    def write(self, *parts: bytes) -> None:
        """Send bytes; after the end they are dropped."""
        if self._transport is not None and not self._over:
            self._send(parts)

    def _send(self, parts: Iterable[bytes]) -> None:
        if self._transport is None:
            return
        self._transport.write(b"".join(parts))
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self._fail(ConnectionError("the peer does not read what it asks for"))

    def pause_reading(self) -> None:
        """Stop reading: the connection's flow control then stops the peer."""
        if self._transport is not None and not (self._over or self._transport.is_closing()):
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and not (self._over or self._transport.is_closing()):
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection after what was written."""
        transport = self._transport
        if transport is not None and not self._over:
            transport.close()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
            self._end(None)

    def abort(self, error: Exception | None = None) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()
        self._end(error)

    def _fail(self, error: Exception) -> None:
        self.abort(error)

    def _end(self, error: Exception | None) -> None:
        if not self._over:
            self._over = True
            self._listener.ended(error)
            for told in self._when_over:
                told()

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        if not self._over:
            self._listener.received(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def pause_writing(self) -> None:
        self._listener.pause_writing()

    def resume_writing(self) -> None:
        self._listener.resume_writing()


class WebSocketCarrier(Carrier):
    """The data of a WebSocket's messages, whatever their boundaries. `client`: frames are masked."""

    def __init__(self, listener: Listener, *, client: bool) -> None:
        super().__init__(listener)
        self._frames: ClientProtocol | ServerProtocol
        if client:
            self._frames = ClientProtocol(_NOWHERE, state=State.OPEN, max_size=MAX_MESSAGE)
        else:
            self._frames = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE)

    def _send(self, parts: Iterable[bytes]) -> None:
        try:
            self._frames.send_binary(b"".join(parts))
        except (InvalidState, ConnectionClosed):  # the peer has said goodbye; its end comes behind
            return
        self._flush()

    def ping(self) -> None:
        """Ask for a sign of life; an answer shows as empty data."""
        if not self._over and self._frames.state is State.OPEN:
            self._frames.send_ping(b"")
            self._flush()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._frames.receive_data(data)
        self._events()
        self._flush()
        if not self._over and self._frames.close_expected():
            self._goodbye()

    def _events(self) -> None:
        for frame in self._frames.events_received():
            if self._over:
                return
            opcode = getattr(frame, "opcode", None)
            if opcode in (Opcode.BINARY, Opcode.TEXT):
                self._begin(bytes(frame.data), frame.fin)  # type: ignore[union-attr]
            elif opcode is Opcode.CONT:
                self._continue(bytes(frame.data), frame.fin)  # type: ignore[union-attr]
            elif opcode is Opcode.PONG:
                self._listener.received(b"")

    def _begin(self, data: bytes, _last: bool) -> None:
        if data:
            self._listener.received(data)

    def _continue(self, data: bytes, last: bool) -> None:
        self._begin(data, last)

    def _goodbye(self) -> None:
        """The peer closed, or broke the protocol, which `websockets` has told it."""
        error, said = self._frames.parser_exc, self._frames.close_rcvd
        if error is None and said is not None and said.code not in _CLEAN:
            error = ConnectionError(f"the WebSocket was closed with code {said.code}: {said.reason or 'no reason'}")
        transport = self._transport
        self._end(error)
        if transport is not None:
            transport.close()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)

    def close(self, code: int = 1000, reason: str = "") -> None:
        if not self._over and self._frames.state is State.OPEN:
            self._frames.send_close(code, reason)
            self._flush()
        super().close()

    def eof_received(self) -> bool:
        self._end(ConnectionResetError("it was cut off, without a goodbye"))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionResetError("it was cut off, without a goodbye"))

    def _flush(self) -> None:
        if self._transport is None or self._over:
            return
        # An empty piece says that the connection should be half-closed; ours are closed whole, by whoever ends them.
        data = b"".join(self._frames.data_to_send())
        if data:
            Carrier._send(self, (data,))
