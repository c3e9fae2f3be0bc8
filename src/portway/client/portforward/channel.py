"""One connection as v4.channel.k8s.io has it: a WebSocket whose messages begin with a channel's number.

Channel 0 is the data, channel 1 the error text; the first message on each is the port again (two bytes, little-endian).
There is no half-close: the connection ends when the WebSocket does.
Source: k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go.
"""

from typing import Any

from portway.client.portforward.carrier import WebSocketCarrier
from portway.client.portforward.session import PATIENCE, Patience
from portway.client.portforward.transport import PortForwardError, SessionLostError, StreamTransport

DATA, ERROR = 0, 1
MAX_ERROR = 8 << 10
CHUNK = 64 << 10


class Channels(WebSocketCarrier):
    """Messages of a client's WebSocket → (channel, bytes). A fragment goes on where its message began."""

    def __init__(self, transport: "ChannelTransport") -> None:
        super().__init__(transport, client=True)
        self._to = transport
        self._channel = DATA
        self._starting = [True, True]

    def _begin(self, data: bytes, _last: bool) -> None:
        if data:
            self._channel = data[0]
            self._continue(data[1:], _last)

    def _continue(self, data: bytes, _last: bool) -> None:
        channel = self._channel
        if channel > ERROR:
            return
        if self._starting[channel]:
            self._starting[channel] = False  # the port, which we know
            data = data[2:]
        if data:
            self._to.message(channel, data)


class ChannelTransport(StreamTransport):
    """A connection to a port, on a WebSocket of its own. `attach` its `carrier` to the upgraded connection."""

    def __init__(self, patience: Patience = PATIENCE, **extra: Any) -> None:
        super().__init__(**extra)
        self._patience = patience
        self.carrier = Channels(self)
        self._error = bytearray()
        self._heard = self._loop.time()
        self._stopped = False
        self._timer = self._loop.call_later(self._patience.ping, self._tick)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            for at in range(0, len(data), CHUNK):
                self.carrier.write(b"\0", bytes(data[at : at + CHUNK]))

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def message(self, channel: int, data: bytes) -> None:
        """From the peer."""
        self._heard = self._loop.time()
        if channel == DATA:
            self.feed(data)
        elif len(self._error) < MAX_ERROR:
            self._error += data

    def _too_much(self) -> None:
        self._stopped = True
        self.carrier.pause_reading()

    def _enough(self) -> None:
        if self._stopped:
            self._stopped = False
            self._heard = self._loop.time()
            self.carrier.resume_reading()

    def _closed(self) -> None:
        self.carrier.close()

    def _aborted(self) -> None:
        self.carrier.abort()

    # As the carrier's listener

    def received(self, data: bytes) -> None:  # noqa: ARG002
        """A sign of life."""
        self._heard = self._loop.time()

    def ended(self, error: Exception | None) -> None:
        """See carrier.Listener. A clean end is the pod's end of the connection."""
        self._timer.cancel()
        if self._error:
            self.fail(PortForwardError(" ".join(self._error.decode("utf-8", "replace").split())))
        elif error is not None:
            self.fail(SessionLostError(f"the way to the pod broke off: {error}"))
        else:
            self.feed_eof()

    def _tell_eof(self) -> None:
        super()._tell_eof()
        if not self._closing:
            self.close()  # nothing can be sent any more either

    def pause_writing(self) -> None:
        """See carrier.Listener."""
        self.block(True)

    def resume_writing(self) -> None:
        """See carrier.Listener."""
        self.block(False)

    def _tick(self) -> None:
        if self._stopped:
            self._heard = self._loop.time()
        if self._loop.time() - self._heard > self._patience.dead:
            self.carrier.abort(TimeoutError("the other side is silent"))
            return
        self.carrier.ping()
        self._timer = self._loop.call_later(self._patience.ping, self._tick)
