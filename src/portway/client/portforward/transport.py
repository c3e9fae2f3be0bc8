"""One stream as an asyncio transport: what comes in waits here while its protocol is paused, and ends in order.

Subclasses say how bytes go out (`session.Stream`, `channel.ChannelTransport`) and what happens when too many wait.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any

HIGH = 256 << 10
"""Bytes that wait for a paused protocol before its peer is stopped."""
LOW = 64 << 10


class PortForwardError(ConnectionError):
    """The pod's side said why the connection failed; the text is its own, in one line."""


class SessionLostError(ConnectionResetError):
    """The way to the pod broke off: nothing is known of what was under way."""


class StreamTransport(asyncio.Transport):
    """The incoming half, and the life of a stream. It starts paused: `begin` gives it its protocol."""

    def __init__(self, **extra: Any) -> None:
        super().__init__(extra)
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self._incoming: deque[bytes] = deque()
        self.waiting = 0
        """Bytes that wait for the protocol."""
        self._paused = True
        self._draining = False
        self._eof_came = self._eof_told = self._eof_written = False
        self._closing = self._lost = False
        self._written_blocked = False

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the stream to a protocol, and tell it at once when writing has to wait."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._written_blocked:
            protocol.pause_writing()
        self.resume_reading()

    async def accepted(self) -> None:
        """Until the other side has taken the connection on, or it is over: what is written before that may be lost."""

    # What subclasses do

    def _too_much(self) -> None:
        """More than HIGH bytes wait."""

    def _enough(self) -> None:
        """They were taken."""

    def _send_eof(self) -> None:
        """Say that nothing more will be written."""

    def _closed(self) -> None:
        """The protocol is done with it; everything that came after this is for nobody."""

    def _aborted(self) -> None:
        """End it without ceremony."""

    # What comes in

    def feed(self, data: bytes) -> None:
        """Bytes from the peer."""
        if self._closing or self._lost:
            return
        if self._paused or self._incoming or self._draining:
            self._incoming.append(data)
            self.waiting += len(data)
            if self.waiting > HIGH:
                self._too_much()
        else:
            self._give(data)

    def _give(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)  # type: ignore[attr-defined]
        except Exception as error:  # one stream's bug must not end the session, and so all the others
            self._loop.call_exception_handler(
                {"message": "protocol.data_received() failed", "exception": error, "protocol": self._protocol}
            )
            self.abort()

    def feed_eof(self) -> None:
        """The peer will send no more."""
        self._eof_came = True
        if not (self._incoming or self._paused or self._draining):
            self._tell_eof()

    def fail(self, error: Exception | None) -> None:
        """It is over; what came before the end is still given when nobody is too slow to take it."""
        if self._lost:
            return
        self._lost = self._closing = True
        if not self._paused:
            self._drain()
        self._incoming.clear()
        self._release()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def block(self, blocked: bool) -> None:
        """Writers have to wait, or need no longer."""
        if blocked != self._written_blocked and not self._lost:
            self._written_blocked = blocked
            if blocked:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()

    def _drain(self) -> None:
        self._draining = False
        while self._incoming and not self._paused:
            data = self._incoming.popleft()
            self.waiting -= len(data)
            self._give(data)
        if self.waiting <= LOW:
            self._enough()
        if self._eof_came and not (self._incoming or self._paused):
            self._tell_eof()

    def _tell_eof(self) -> None:
        if self._eof_told or self._closing:
            return
        self._eof_told = True
        keep = self._protocol.eof_received()  # type: ignore[attr-defined]
        if not keep or self._eof_written:
            self.close()

    def _release(self) -> None:
        self.waiting = 0
        self._enough()

    # asyncio.Transport

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if not self._paused or self._closing:
            return
        self._paused = False
        if (self._incoming or self._eof_came) and not self._draining:
            self._draining = True
            self._loop.call_soon(self._drain)

    def is_reading(self) -> bool:
        return not (self._paused or self._closing)

    def is_closing(self) -> bool:
        return self._closing

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing:
            self._eof_written = True
            self._send_eof()
            if self._eof_told:
                self.close()  # nothing can happen any more

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._send_eof()
        self._incoming.clear()
        self._release()
        self._closed()
        self._finish(None)

    def abort(self) -> None:
        if self._lost:
            return
        self._closing = True
        self._incoming.clear()
        self._release()
        self._aborted()
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._protocol.connection_lost, error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
