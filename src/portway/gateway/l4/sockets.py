"""Sockets with the options that listeners and flows want; nobody else has a share of what is bound here."""

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from functools import lru_cache

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""What accept(2) says when the process or the machine has no room for a connection."""
PAUSE_SECONDS = 1.0
"""How long nothing is accepted after that."""
NONBLOCKING = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a socket whose close is a reset."""


def reset(client: socket.socket) -> None:
    """Ends a connection as if nobody listened, as near as one can get after accept(2)."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def prepare(sock: socket.socket) -> None:
    """Options of both sides: nothing is held back, and a peer that vanished is noticed within ten minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def listen(address: str, port: int) -> socket.socket:
    """A listening socket of which nobody else has a share; OSError. What `prepare` sets, its connections inherit."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, NONBLOCKING)
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
