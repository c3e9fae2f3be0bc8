"""One TCP connection of a client and the one to its endpoint: dial, move bytes both ways, pass ends on. No task, no
object per chunk.

One buffer of the process takes each read, and what was read is sent on before anything else happens. Only what the
receiver does not take at once is kept, and then its sender is not read from. The end of one direction is passed on by
itself (half-close); a reset is passed on as a reset, once what came before it is on its way.
"""

import contextlib
import errno
import fcntl
import socket
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

from portway.gateway.l4.balance import Target
from portway.gateway.l4.poller import BROKEN, IN, OUT, Poller
from portway.gateway.l4.sockets import NONBLOCKING, RESET, prepare
from portway.gateway.settings import Limits

if TYPE_CHECKING:
    from portway.gateway.l4.tcp import TcpListener

SMALL, LARGE = 16 << 10, 256 << 10
"""Bytes of one read: small at first and for receivers that don't keep up, doubled while reads are full."""
TRIES = 5
"""Endpoints that are dialled for one client."""
IDLE_SWEEP_SECONDS = 10.0
"""Between two looks at all connections, at most."""
QUIET_SECONDS = 1.0
"""At the end of the process, a connection without a byte for so long is not waited for."""

_BUFFER = bytearray(LARGE)
_VIEW = memoryview(_BUFFER)


class Traffic:
    """What all TCP listeners of the process share: bounds, timers, and the connections there are."""

    def __init__(self, poller: Poller, limits: Limits, now: float, exhausted: Callable[[str], None]) -> None:
        """`exhausted` is told, in words, that the process can open nothing more."""
        self.poller, self.limits, self.exhausted = poller, limits, exhausted
        self.now = now
        """Seconds, of the last sweep."""
        self.flows: set[Flow] = set()
        self.dialling: dict[Flow, float] = {}
        self.paused: dict[TcpListener, float] = {}
        self._next_idle_sweep = now

    def sweep(self, now: float) -> None:
        """Once a second."""
        self.now = now
        for flow, since in [*self.dialling.items()]:
            if now - since > self.limits.connect_timeout:
                flow.dial_failed()
        for listener, until in [*self.paused.items()]:
            if now >= until:
                del self.paused[listener]
                listener.resume()
        if now >= self._next_idle_sweep:
            self._next_idle_sweep = now + min(IDLE_SWEEP_SECONDS, self.limits.service_idle_timeout)
            self._end_idle(now)

    def _end_idle(self, now: float) -> None:
        idle, half = self.limits.service_idle_timeout, self.limits.service_half_closed_timeout
        for flow in [*self.flows]:
            if now - flow.seen > (half if flow.half_closed else idle):
                flow.abort()

    def end_quiet(self, now: float) -> None:
        """The process ends: connections that rest are not waited for, nor are those that lead nowhere yet."""
        for flow in [*self.flows]:
            if now - flow.seen >= QUIET_SECONDS or flow in self.dialling:
                flow.close()

    def abort(self) -> None:
        """Ends every connection."""
        for flow in [*self.flows]:
            flow.abort()


class Flow:
    """One client, and one endpoint once it is reached."""

    __slots__ = (
        "_address",
        "_dialled",
        "_listener",
        "_tried",
        "client",
        "closed",
        "seen",
        "server",
        "target",
        "traffic",
    )

    def __init__(self, listener: "TcpListener", traffic: Traffic, client: socket.socket, address: str) -> None:
        self.traffic = traffic
        self.client = End(client, self)
        self.server: End | None = None
        self.seen = traffic.now
        """When a byte was last moved, to the second."""
        self.target: Target = "", 0
        self.closed = False
        self._listener, self._address = listener, address
        self._tried: list[Target] = []
        self._dialled: socket.socket | None = None

    @property
    def half_closed(self) -> bool:
        return self.client.ended or (self.server is not None and self.server.ended)

    def dial(self) -> None:
        """Reaches an endpoint, or resets the client when none can be reached."""
        balancer = self._listener.balancer
        while len(self._tried) < TRIES:
            target = balancer.pick(self._address, self._tried)
            if target is None:
                break
            self.target = target
            try:
                sock, code = _dialled(self._listener.family, target)
            except OSError as error:
                self.traffic.exhausted(f"no endpoint can be dialled: {error.strerror}")
                break
            if code == 0:
                self._reached(sock)
                return
            if code == errno.EALREADY:
                self._dialled = sock
                self.traffic.dialling[self] = self.traffic.now
                self.traffic.poller.add(sock.fileno(), OUT, self._on_dialled)
                return
            sock.close()
            balancer.failed(target)
            self._tried.append(target)
        self.abort()

    def _on_dialled(self, _events: int) -> None:
        sock = self._dialled
        if sock is None:
            return
        code = sock.connect_ex(self.target)
        if code == errno.EALREADY:
            return
        if code:
            self.dial_failed()
            return
        self._dialled = None
        self.traffic.dialling.pop(self, None)
        self.traffic.poller.rest(sock.fileno())
        self._reached(sock)

    def dial_failed(self) -> None:
        """The endpoint that is being dialled is not to be had: the next one."""
        self._end_dial()
        self._listener.balancer.failed(self.target)
        self._tried.append(self.target)
        self.dial()

    def _end_dial(self) -> None:
        sock, self._dialled = self._dialled, None
        self.traffic.dialling.pop(self, None)
        if sock is not None:
            self.traffic.poller.forget(sock.fileno())
            sock.close()

    def _reached(self, sock: socket.socket) -> None:
        self._listener.balancer.reached(self.target)
        prepare(sock)
        client = self.client
        server = self.server = End(sock, self)
        client.peer, server.peer = server, client
        self.seen = self.traffic.now
        client.watch(IN)
        server.watch(IN)

    def broken(self, end: "End") -> None:
        """One side is gone without having ended."""
        peer = end.peer
        if peer is None or peer.unsent():
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Resets both sides."""
        if not self.closed:
            for end in (self.client, self.server):
                if end is not None:
                    with contextlib.suppress(OSError):
                        end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close()

    def close(self) -> None:
        """Ends both sides; what was sent to them is still delivered."""
        if self.closed:
            return
        self.closed = True
        self._end_dial()
        self.client.close()
        if self.server is not None:
            self.server.close()
        self.traffic.flows.discard(self)
        self._listener.open -= 1


class End:
    """One socket of a flow, and what waits to be sent on it."""

    __slots__ = ("_poller", "_recv_into", "_size", "ended", "events", "fd", "flow", "peer", "rest", "send", "sock")

    def __init__(self, sock: socket.socket, flow: Flow) -> None:
        self.sock, self.flow = sock, flow
        self.fd = sock.fileno()
        self.peer: End | None = None
        self.ended = False
        """Whether nothing more will be read from it."""
        self.rest: memoryview | None = None
        self.events = 0
        self.send = sock.send
        self._recv_into = sock.recv_into
        self._poller = flow.traffic.poller
        self._size = SMALL

    def watch(self, events: int) -> None:
        """What to be told of."""
        before, self.events = self.events, events
        if before == events:
            return
        if not before:
            self._poller.add(self.fd, events, self._ready)
        elif events:
            self._poller.change(self.fd, events)
        else:
            self._poller.rest(self.fd)

    def _ready(self, events: int) -> None:
        if self.rest is not None and events & (OUT | BROKEN):
            self._flush(self.rest)
        if self.events & IN and events & (IN | BROKEN) and not self.flow.closed:
            self._read()

    def _read(self) -> None:
        size, peer = self._size, self.peer
        try:
            count = self._recv_into(_BUFFER, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.flow.broken(self)
            return
        if not count or peer is None:
            self._end()
            return
        self.flow.seen = self.flow.traffic.now
        try:
            sent = peer.send(_VIEW[:count])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._unheard()
            return
        if sent != count:
            peer.rest = memoryview(bytes(_VIEW[sent:count]))
            self._size = SMALL
            self.watch(self.events & ~IN)
            peer.watch(peer.events | OUT)
        elif count == size < LARGE:
            self._size = size * 2

    def _flush(self, rest: memoryview) -> None:
        peer = self.peer
        try:
            sent = self.send(rest)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            if peer is not None:
                peer._unheard()
            return
        self.flow.seen = self.flow.traffic.now
        self.rest = rest[sent:] if sent < len(rest) else None
        if self.rest is not None or peer is None:
            return
        self.watch(self.events & ~OUT)
        if peer.ended:
            self._finish()
        else:
            peer.watch(peer.events | IN)

    def _end(self) -> None:
        """Its peer has nothing more to expect from it."""
        self.ended = True
        peer = self.peer
        if peer is None or (peer.ended and peer.rest is None and self.rest is None):
            self.flow.close()
            return
        self.watch(self.events & ~IN)
        if peer.rest is None:
            peer._finish()

    def _finish(self) -> None:
        """All that was to be sent on it is sent."""
        if self.ended and self.peer is not None and self.peer.rest is None:
            self.flow.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.flow.broken(self)

    def _unheard(self) -> None:
        """Its peer takes no more bytes. What the peer said before that is still brought here."""
        peer = self.peer
        self.ended = True
        self.watch(self.events & ~IN)
        if peer is None or peer.ended:
            self.flow.close()
            return
        peer.rest = None
        peer.watch(IN)

    def unsent(self) -> bool:
        """Whether bytes that were sent on it are not at the other side yet."""
        try:
            queued = fcntl.ioctl(self.fd, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return False
        return queued != b"\0\0\0\0"

    def close(self) -> None:
        self._poller.forget(self.fd)
        self.sock.close()


def _dialled(family: int, target: Target) -> tuple[socket.socket, int]:
    """A socket on its way to an endpoint, and what connect(2) says: 0, EALREADY while it lasts, or an error."""
    sock = socket.socket(family, NONBLOCKING)
    try:
        code = sock.connect_ex(target)
        if code == errno.EINPROGRESS:
            code = sock.connect_ex(target)  # on this machine it is done by now, and saves waiting for it
    except BaseException:
        sock.close()
        raise
    return sock, code
