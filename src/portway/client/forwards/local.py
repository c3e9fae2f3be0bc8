"""One connection to a local port: finds a pod, connects, copies; tries another pod while nothing is lost by it.

A pod that is gone, or whose port nobody listens on, shows only after the connection was made: the API server accepts
first. So what the client has sent is kept, up to REPLAY bytes, until the pod's first byte, and sent again to the next
pod when the pod's side says that it could not connect. A connection that broke later is broken for the client as well.
"""

import asyncio
import re
from typing import TYPE_CHECKING

from portway.client.forwards.ports import Backend
from portway.client.portforward.pump import reset
from portway.client.portforward.transport import PortForwardError, StreamTransport
from portway.client.protocol import ApiUnreachable
from portway.kube.errors import Forbidden, StatusError, Unauthorized

if TYPE_CHECKING:
    from portway.client.forwards.forwards import Forward

REPLAY = 256 << 10
PATIENCE_SECONDS = 30.0
"""How long a local connection waits for a pod: a rollout or a restarted API server is over by then."""
REFUSED_SECONDS = 5.0
"""How long pods that count as ready may refuse it: longer, and it is the port that is wrong."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5
"""Seconds between two attempts when every pod was tried and nothing has changed since."""
_NEVER_CONNECTED = re.compile(
    r"connection refused|failed to connect|no route to host|dial tcp|connect\(", re.IGNORECASE
)
"""What runtimes say when they could not connect: containerd, CRI-O (socat), Go."""


class Local(asyncio.Protocol):
    """The local client's side. Reads nothing before the pod's side is there."""

    def __init__(self, forward: "Forward", number: int) -> None:
        self.number = number
        self.backend: Backend | None = None
        self.sent = self.received = 0
        self._forward = forward
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0
        self._pod: StreamTransport | None = None
        self._eof = self.lost = False
        self._task: asyncio.Task[None] | None = None
        self._until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        self._tried: set[str] = set()
        self._pause = FIRST_PAUSE
        self._refused_until = float("inf")
        self._written = False
        """Whether a pod may have seen something, for all that we know."""
        self.why = ""

    # The local client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.pause_reading()
        self._forward.opened(self)
        self._connect()

    def data_received(self, data: bytes) -> None:
        self.sent += len(data)
        if self._kept is not None:
            self._kept.append(data)
            self._kept_bytes += len(data)
            if self._kept_bytes > REPLAY and self._pod is not None:
                self._kept = None
        if self._pod is not None:
            self._written = True
            self._pod.write(data)

    def eof_received(self) -> bool:
        self._eof = True
        pod = self._pod
        if pod is None or pod.is_closing():
            return self._task is not None
        if not pod.can_write_eof():
            return True  # the channel form has no half-close: the pod's end will be the end
        pod.write_eof()
        return not pod.is_closing()

    def pause_writing(self) -> None:
        if self._pod is not None:
            self._pod.pause_reading()

    def resume_writing(self) -> None:
        if self._pod is not None:
            self._pod.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.lost = True
        if self._task is not None:
            self._task.cancel()
        if self._pod is not None and not self._pod.is_closing():
            self._pod.abort()
        self._forward.closed(self)

    def end(self) -> None:
        """End it at once: the program stops."""
        reset(self.transport)

    # Towards a pod

    def _connect(self) -> None:
        self._task = self._forward.own(self._find(), f"connection {self.number}")

    async def _find(self) -> None:
        """Connects to a pod, or gives the local client up."""
        try:
            async with asyncio.timeout_at(self._until):
                while not self.lost:
                    self._forward.changed.clear()
                    backend = self._forward.choose(self._tried)
                    if backend is not None and await self._connected_to(backend):
                        return
                    if backend is None and not self._tried:
                        await self._forward.changed.wait()
                    elif not self._forward.others(self._tried):
                        await self._rest()
        except TimeoutError:
            self._give_up(self.why or self._forward.why_none())
        except StatusError as error:
            self._give_up(error.message)
        finally:
            self._task = None

    async def _rest(self) -> None:
        """Every pod was tried: begin again after a pause."""
        self._tried.clear()
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        await asyncio.sleep(pause)

    async def _connected_to(self, backend: Backend) -> bool:
        """Whether it worked. Raises StatusError for what every pod would be answered."""
        try:
            pod, side = await self._forward.connect(backend, lambda: PodSide(self, backend))
            await pod.accepted()
            if side.error is not None and not self.received:
                raise side.error
        except PortForwardError as error:
            self.why = str(error)
            self._forward.failed(backend, self.why)
        except (ApiUnreachable, ConnectionResetError) as error:
            self.why = str(error)
            self._forward.trouble(self.why)
        except (Unauthorized, Forbidden):
            raise
        except StatusError as error:
            self.why = error.message
            self._forward.failed(backend, error.message)
        else:
            self._begin(pod, side, backend)
            return True
        self._tried.add(backend.pod)
        return False

    def _begin(self, pod: StreamTransport, side: "PodSide", backend: Backend) -> None:
        if self.lost:
            pod.abort()
            return
        self._pod = pod
        self.backend = backend
        self._forward.connected(self)
        for data in self._kept or ():
            self._written = True
            pod.write(data)
        if self._eof and pod.can_write_eof():
            pod.write_eof()
        if not (self._eof or side.blocked):
            self.transport.resume_reading()

    def _give_up(self, why: str) -> None:
        self.why = why
        self._forward.gave_up(self, why)
        reset(self.transport)

    # From the pod

    def from_pod(self, data: bytes) -> None:
        """The pod's bytes: from the first on there is no other pod for this connection."""
        self._kept = None
        self.received += len(data)
        self.transport.write(data)

    def pod_ended(self, backend: Backend, error: Exception | None) -> None:
        """The pod's side is gone."""
        if self._pod is None:
            return
        self._pod = None
        if self.lost or self.transport.is_closing():
            return
        now = asyncio.get_running_loop().time()
        if error is not None and self._may_repeat(error) and now < self._refused_until:
            self._refused_until = min(self._refused_until, now + REFUSED_SECONDS)
            self._forward.failed(backend, str(error))
            self._forward.disconnected(self)
            self._tried.add(backend.pod)
            self.why = str(error)
            self.transport.pause_reading()
            self._connect()
        elif error is not None:
            self.why = str(error)
            self._forward.broke(self, self.why)
            reset(self.transport)
        else:
            self.transport.close()

    def _may_repeat(self, error: Exception) -> bool:
        """Whether nobody has seen what was sent, as far as can be known."""
        if self.received or self._kept is None:
            return False
        if isinstance(error, PortForwardError):
            self._written = self._written and _NEVER_CONNECTED.search(str(error)) is None
        return not self._written

    def pod_finished(self) -> bool:
        """The pod will send no more; whether its side stays open."""
        if self._eof or not self.transport.can_write_eof():
            return False
        self.transport.write_eof()
        return True


class PodSide(asyncio.Protocol):
    """The stream's protocol."""

    def __init__(self, local: Local, backend: Backend) -> None:
        self._local = local
        self._backend = backend
        self.blocked = False
        self.error: Exception | None = None

    def data_received(self, data: bytes) -> None:
        if not self._local.transport.is_closing():
            self._local.from_pod(data)

    def eof_received(self) -> bool:
        return self._local.pod_finished()

    def pause_writing(self) -> None:
        self.blocked = True
        if not self._local.transport.is_closing():
            self._local.transport.pause_reading()

    def resume_writing(self) -> None:
        self.blocked = False
        if not self._local.transport.is_closing():
            self._local.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self._local.pod_ended(self._backend, error)
