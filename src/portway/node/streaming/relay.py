"""One connection to a port of a pod, joined to the stream that asked for it; and what is said when it fails.

The words are the kubelet's (k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go), the reason is that of Go's
package net: people and programs search for them.
"""

import asyncio
import errno
import os
from dataclasses import dataclass
from typing import Protocol

from portway.client.portforward.pump import Pump
from portway.client.portforward.transport import StreamTransport

DIAL_SECONDS = 10.0
GRACE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunningPod:
    """Where a pod of this node listens."""

    namespace: str
    name: str
    address: str


class Ends(Protocol):
    """Who wants to know how a connection went: exactly one of the two is called, once."""

    def failed(self, message: str) -> None:
        """It could not be made."""

    def finished(self) -> None:
        """It was made, and is over, whichever side ended it."""


class _ToClient(Pump):
    """The client's side of a connection; counts what it sends."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


class _ToPod(Pump):
    """The pod's side. Once the pod has ended its direction, a client that is silent has nothing to say any more.

    So does containerd, after one second whatever happens; older kubectls wait for it before they close.
    """

    def __init__(self, partner: _ToClient, ends: Ends) -> None:
        super().__init__(partner)
        self._client = partner
        self._ends = ends
        self._timer: asyncio.TimerHandle | None = None

    def eof_received(self) -> bool:
        keep = super().eof_received()
        if keep:
            self._wait()
        return keep

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(GRACE_SECONDS, self._look, self._client.received)

    def _look(self, before: int) -> None:
        if self._client.received != before:
            self._wait()
        elif self.transport is not None:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(error)
        self._ends.finished()


async def connect(pod: RunningPod, port: int, stream: StreamTransport, ends: Ends) -> None:
    """Dial the pod and join both; `stream` has not begun yet, and begins here. Returns once that is done."""
    loop = asyncio.get_running_loop()
    to_stream = _ToClient()
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            await loop.create_connection(lambda: _ToPod(to_stream, ends), pod.address, port)
    except (OSError, TimeoutError) as error:
        ends.failed(f"error forwarding port {port} to pod {pod.name}, uid : {_reason(pod.address, port, error)}")
        return
    stream.begin(to_stream)


def _reason(address: str, port: int, error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not error.errno:
        return f"dial tcp4 {address}:{port}: i/o timeout"
    number = getattr(error, "errno", None)
    words = os.strerror(number).lower() if number and number in errno.errorcode else str(error)
    return f"dial tcp4 {address}:{port}: connect: {words}"
