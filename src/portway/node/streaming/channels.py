"""The older WebSocket form: for the port with index i, channel 2i carries its data and 2i + 1 its error text.

A connection is made for every port at once. The WebSocket ends with the last of them, and there is no half-close.
Source: k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go, k8s.io/apimachinery/pkg/util/httpstream/wsstream.
"""

import asyncio
import base64
import binascii
from typing import Any

from portway.client.portforward.carrier import WebSocketCarrier
from portway.client.portforward.transport import StreamTransport
from portway.node.streaming.relay import RunningPod, connect

_CHUNK = 64 << 10
_DIGIT = ord("0")


class _Messages(WebSocketCarrier):
    """Messages ↔ (channel, bytes); in text form the channel is a digit, and the rest base64."""

    def __init__(self, session: "ChannelSession", text: bool) -> None:
        super().__init__(session, client=False)
        self._session = session
        self._text = text
        self._channel = 0
        self._held = bytearray()

    def _begin(self, data: bytes, last: bool) -> None:
        self._channel = (data[0] - _DIGIT if self._text else data[0]) if data else -1
        self._held.clear()
        self._continue(data[1:], last)

    def _continue(self, data: bytes, last: bool) -> None:
        if self._text:
            self._held += data
            if not last:
                return
            try:
                data = base64.b64decode(bytes(self._held), validate=True)
            except binascii.Error:
                self.close(1003, "not base64")
                return
        if data:
            self._session.message(self._channel, data)

    def send(self, channel: int, data: bytes) -> None:
        """One message."""
        if self._text:
            self._send_text(bytes((_DIGIT + channel,)) + base64.b64encode(data))
        else:
            self.write(bytes((channel,)), data)

    def _send_text(self, data: bytes) -> None:
        if not self._over:
            self._frames.send_text(data)
            self._flush()


class _Channel(StreamTransport):
    """The data channel of one port, and how it went."""

    def __init__(self, session: "ChannelSession", index: int, port: int, **extra: Any) -> None:
        super().__init__(**extra)
        self._session = session
        self.index = index
        self.port = port
        self.over = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for at in range(0, len(data), _CHUNK):
            self._session.messages.send(2 * self.index, bytes(data[at : at + _CHUNK]))

    def can_write_eof(self) -> bool:
        return False

    def _too_much(self) -> None:
        self._session.hold(self)

    def _enough(self) -> None:
        self._session.release(self)

    def failed(self, message: str) -> None:
        """See relay.Ends."""
        self._session.messages.send(2 * self.index + 1, message.encode())
        self.finished()

    def finished(self) -> None:
        """See relay.Ends."""
        self.over = True
        self._session.one_over()


class ChannelSession:
    """One WebSocket; a `carrier.Listener`."""

    def __init__(self, pod: RunningPod, ports: tuple[int, ...], text: bool) -> None:
        self.messages = _Messages(self, text)
        self._pod = pod
        self._channels = [_Channel(self, index, port) for index, port in enumerate(ports)]
        self._held: set[_Channel] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Say the ports again, and connect to all of them; the carrier is attached."""
        loop = asyncio.get_running_loop()
        for channel in self._channels:
            for number in (2 * channel.index, 2 * channel.index + 1):
                self.messages.send(number, channel.port.to_bytes(2, "little"))
            name = f"port-forward to {self._pod.name}:{channel.port}"
            self._tasks.append(loop.create_task(connect(self._pod, channel.port, channel, channel), name=name))

    def close(self) -> None:
        """End all connections."""
        self.messages.close()

    def message(self, number: int, data: bytes) -> None:
        """From the client. Error channels, and numbers that don't exist, are for nobody."""
        if number >= 0 and number % 2 == 0 and number // 2 < len(self._channels):
            self._channels[number // 2].feed(data)

    def hold(self, channel: _Channel) -> None:
        """Its pod reads slowly."""
        self._held.add(channel)
        self.messages.pause_reading()

    def release(self, channel: _Channel) -> None:
        """It caught up."""
        if channel in self._held:
            self._held.discard(channel)
            if not self._held:
                self.messages.resume_reading()

    def one_over(self) -> None:
        """A connection ended; the WebSocket ends with the last."""
        if all(channel.over for channel in self._channels):
            self.messages.close()

    # As the carrier's listener

    def received(self, data: bytes) -> None:
        """A pong."""

    def ended(self, error: Exception | None) -> None:
        """See carrier.Listener."""
        for task in self._tasks:
            task.cancel()
        for channel in self._channels:
            channel.fail(error or ConnectionResetError("the client is gone"))

    def pause_writing(self) -> None:
        """See carrier.Listener."""
        for channel in self._channels:
            channel.block(True)

    def resume_writing(self) -> None:
        """See carrier.Listener."""
        for channel in self._channels:
            channel.block(False)
