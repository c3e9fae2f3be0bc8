"""TCP: accept, dial an endpoint, move bytes both ways until both sides are done. No task, no object per chunk.

One buffer of the process takes each read, and what was read is sent on before anything else happens. Only what the
receiver does not take at once is kept, and then its sender is not read from. The end of one direction is passed on by
itself (half-close); a reset is passed on as a reset, once what came before it is on its way.
"""

import contextlib
import errno
import fcntl
import ipaddress
import logging
import socket
import struct
import termios
from collections.abc import Callable, Sequence
from functools import lru_cache

from portway.gateway.l4.balance import Balancer, Target
from portway.gateway.l4.poller import BROKEN, IN, OUT, Poller
from portway.gateway.settings import Limits

SMALL, LARGE = 16 << 10, 256 << 10
"""Bytes of one read: small at first and for receivers that don't keep up, doubled while reads are full."""
TRIES = 5
"""Endpoints that are dialled for one client."""
ACCEPTED = 64
"""Connections taken before the other sockets get a turn."""
PAUSE_SECONDS = 1.0
"""How long nothing is accepted after the process ran out of descriptors or memory."""
IDLE_SWEEP_SECONDS = 10.0
"""Between two looks at all connections, at most."""
QUIET_SECONDS = 1.0
"""At the end of the process, a connection without a byte for so long is not waited for."""

_BUFFER = bytearray(LARGE)
_VIEW = memoryview(_BUFFER)
_RESET = struct.pack("ii", 1, 0)
_NONBLOCKING = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

logger = logging.getLogger(__name__)


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


class TcpListener:
    """Accepts on a listening socket, for one port of a service."""

    def __init__(self, sock: socket.socket, traffic: Traffic, balancer: Balancer, sources: Sequence[str]) -> None:
        """`sock`: bound, listening, not blocking, with the options that its connections are to inherit."""
        self.balancer = balancer
        self.open = 0
        """Its connections."""
        self._sock, self._traffic = sock, traffic
        self._family = sock.family
        self.allow(sources)
        traffic.poller.add(sock.fileno(), IN, self._accept)

    def allow(self, sources: Sequence[str]) -> None:
        """Who may connect, CIDRs; () = everybody."""
        self._admits = source_filter(tuple(sources))

    def close(self) -> None:
        """Accepts no more. Connections go on."""
        self._traffic.paused.pop(self, None)
        self._traffic.poller.forget(self._sock.fileno())
        self._sock.close()

    def resume(self) -> None:
        """After a pause."""
        self._traffic.poller.add(self._sock.fileno(), IN, self._accept)

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPTED):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # ECONNABORTED and what else accept(2) tells of the connection, not of us
            self._take(client, address[0])

    def _pause(self, error: OSError) -> None:
        traffic = self._traffic
        traffic.exhausted(f"no connection can be accepted: {error.strerror}")
        traffic.poller.rest(self._sock.fileno())
        traffic.paused[self] = traffic.now + PAUSE_SECONDS

    def _take(self, client: socket.socket, address: str) -> None:
        limits, traffic = self._traffic.limits, self._traffic
        full = len(traffic.flows) >= limits.service_connections or self.open >= limits.service_connections_per_port
        if full or (self._admits is not None and not self._admits(address)):
            reset(client)
            return
        client.setblocking(False)
        self.open += 1
        flow = Flow(self, traffic, client, address)
        traffic.flows.add(flow)
        flow.dial()

    def dial(self, target: Target) -> tuple[socket.socket, int]:
        """A socket on its way to an endpoint, and what connect(2) says: 0, EALREADY while it lasts, or an error."""
        sock = socket.socket(self._family, _NONBLOCKING)
        try:
            code = sock.connect_ex(target)
            if code == errno.EINPROGRESS:
                code = sock.connect_ex(target)  # on this machine it is done by now, and saves waiting for it
        except BaseException:
            sock.close()
            raise
        return sock, code


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

    def __init__(self, listener: TcpListener, traffic: Traffic, client: socket.socket, address: str) -> None:
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
                sock, code = self._listener.dial(target)
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
                        end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
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


def reset(client: socket.socket) -> None:
    """Ends a connection as if nobody listened, as near as one can get after accept(2)."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


def prepare(sock: socket.socket) -> None:
    """Options of both sides: nothing is held back, and a peer that vanished is noticed within ten minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def listen(address: str, port: int) -> socket.socket:
    """A listening socket of which nobody else has a share; OSError. What `prepare` sets, its connections inherit."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, _NONBLOCKING)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        prepare(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 300)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)
        sock.bind((address, port))
        sock.listen(4096)
    except BaseException:
        sock.close()
        raise
    return sock


def source_filter(cidrs: tuple[str, ...]) -> Callable[[str], bool] | None:
    """Whether an address lies in one of the ranges; None when all do. What is no range admits nobody."""
    if not cidrs:
        return None
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for cidr in cidrs:
        with contextlib.suppress(ValueError):
            networks.append(ipaddress.ip_network(cidr, strict=False))

    @lru_cache(maxsize=1024)
    def admits(text: str) -> bool:
        address = ipaddress.ip_address(text)
        return any(address.version == network.version and address in network for network in networks)

    return admits
