"""UDP: a flow for each client address, from its first datagram until neither side has spoken for a while.

Replies leave from the address that the client wrote to, also where one socket serves all addresses of the machine
(IP_PKTINFO, ip(7); RFC 3542 for IPv6). Datagrams that a receiver has no room for are dropped, as networks do.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Sequence

from portway.gateway.l4.balance import Balancer, Target
from portway.gateway.l4.poller import IN, Poller
from portway.gateway.l4.sockets import source_filter
from portway.gateway.l4.wants import EVERYWHERE
from portway.gateway.settings import Limits

DATAGRAMS = 64
"""Taken from a socket before the others get a turn."""
UNANSWERED_SECONDS = 30.0
"""A flow that was never answered lasts no longer (nf_conntrack_udp_timeout); it may be anybody's forged address."""

_IP_PKTINFO = 8
_PKTINFO4, _PKTINFO6 = struct.Struct("=i4s4s"), struct.Struct("=16sI")
_NONBLOCKING = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_BUFFER = bytearray(1 << 16)
_VIEW = memoryview(_BUFFER)

Ancillary = list[tuple[int, int, bytes]]
FlowKey = tuple[object, bytes]
"""The client's address, and ours that it wrote to where that may be any."""


class UdpTraffic:
    """What all UDP listeners of the process share."""

    def __init__(self, poller: Poller, limits: Limits, now: float, exhausted: Callable[[str], None]) -> None:
        self.poller, self.limits, self.now, self.exhausted = poller, limits, now, exhausted
        self.flows: set[UdpFlow] = set()

    def sweep(self, now: float) -> None:
        """Once a second: flows that rest, and those whose endpoint is no longer one."""
        self.now = now
        answered, unanswered = self.limits.service_udp_idle_timeout, UNANSWERED_SECONDS
        for flow in [*self.flows]:
            idle = now - flow.seen
            if idle > (answered if flow.answered else min(answered, unanswered)) or not flow.wanted():
                flow.close()


class UdpListener:
    """Receives on a bound socket, for one port of a service."""

    def __init__(self, sock: socket.socket, traffic: UdpTraffic, balancer: Balancer, sources: Sequence[str]) -> None:
        self.balancer, self.sock, self.traffic = balancer, sock, traffic
        self.flows: dict[FlowKey, UdpFlow] = {}
        self._anywhere = sock.getsockname()[0] in EVERYWHERE
        self.allow(sources)
        traffic.poller.add(sock.fileno(), IN, self._ready)

    def allow(self, sources: Sequence[str]) -> None:
        """Who is heard, CIDRs; () = everybody."""
        self._admits = source_filter(tuple(sources))

    def close(self) -> None:
        """Receives no more; without a socket to answer from, its flows end too."""
        for flow in [*self.flows.values()]:
            flow.close()
        self.traffic.poller.forget(self.sock.fileno())
        self.sock.close()

    def _ready(self, _events: int) -> None:
        for _ in range(DATAGRAMS):
            try:
                if self._anywhere:
                    size, ancillary, _flags, client = self.sock.recvmsg_into([_BUFFER], 64)
                else:
                    size, client = self.sock.recvfrom_into(_BUFFER)
                    ancillary = []
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP message about a datagram that was sent
            self._take(client, _local(ancillary), _VIEW[:size])

    def _take(self, client: tuple[str, int], local: bytes, datagram: memoryview) -> None:
        for _ in range(2):  # a second endpoint when the first turns out to be gone
            flow = self.flows.get((client, local)) or self._new(client, local)
            if flow is None or flow.send(datagram):
                return

    def _new(self, client: tuple[str, int], local: bytes) -> "UdpFlow | None":
        traffic, limits = self.traffic, self.traffic.limits
        if len(traffic.flows) >= limits.service_udp_flows or len(self.flows) >= limits.service_connections_per_port:
            return None
        if self._admits is not None and not self._admits(client[0]):
            return None
        target = self.balancer.pick(client[0])
        if target is None:
            return None
        try:
            sock = socket.socket(self.sock.family, _NONBLOCKING)
        except OSError as error:
            traffic.exhausted(f"no endpoint can be written to: {error.strerror}")
            return None
        if sock.connect_ex(target):
            sock.close()
            self.balancer.failed(target)
            return None
        return UdpFlow(self, sock, target, (client, local))


class UdpFlow:
    """A client, and the socket by which its endpoint knows it."""

    __slots__ = ("_ancillary", "_key", "_listener", "_sock", "_target", "answered", "seen")

    def __init__(
        self, listener: UdpListener, sock: socket.socket, target: Target, key: tuple[tuple[str, int], bytes]
    ) -> None:
        self._listener, self._sock, self._target, self._key = listener, sock, target, key
        self._ancillary = _from(key[1])
        self.seen = listener.traffic.now
        self.answered = False
        listener.flows[key] = self
        listener.traffic.flows.add(self)
        listener.traffic.poller.add(sock.fileno(), IN, self._ready)

    def wanted(self) -> bool:
        """Whether its endpoint would still be chosen."""
        return self._listener.balancer.has(self._target)

    def send(self, datagram: memoryview) -> bool:
        """Passes a datagram on; False when the endpoint is gone, and the flow with it."""
        self.seen = self._listener.traffic.now
        try:
            self._sock.send(datagram)
        except ConnectionRefusedError:
            self._gone()
            return False
        except OSError:
            pass  # no room, or too long for the way: dropped
        return True

    def _ready(self, _events: int) -> None:
        listener, client = self._listener, self._key[0]
        for _ in range(DATAGRAMS):
            try:
                size = self._sock.recv_into(_BUFFER)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._gone()
                return
            self.seen, self.answered = listener.traffic.now, True
            with contextlib.suppress(OSError):
                listener.sock.sendmsg([_VIEW[:size]], self._ancillary, 0, client)

    def _gone(self) -> None:
        self._listener.balancer.failed(self._target)
        self.close()

    def close(self) -> None:
        listener = self._listener
        if listener.flows.get(self._key) is self:
            del listener.flows[self._key]
            listener.traffic.flows.discard(self)
            listener.traffic.poller.forget(self._sock.fileno())
            self._sock.close()


def _local(ancillary: Ancillary) -> bytes:
    """The address that a datagram was sent to, packed; b"" where the socket has only one."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return bytes(_PKTINFO4.unpack(data)[2])
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return bytes(_PKTINFO6.unpack(data)[0])
    return b""


def _from(local: bytes) -> Ancillary:
    """What makes sendmsg(2) send from that address."""
    if len(local) == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(0, local, bytes(4)))]
    if len(local) == 16:
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(local, 0))]
    return []


def bound(address: str, port: int) -> socket.socket:
    """A socket that receives there, and nobody else does; OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, _NONBLOCKING)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if address in EVERYWHERE:
            level, option = (
                (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) if ":" in address else (socket.IPPROTO_IP, _IP_PKTINFO)
            )
            sock.setsockopt(level, option, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
