"""A few questions and orders to the kernel about interfaces, their addresses and local routes: rtnetlink(7), by hand.

Numbers are those of linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h. Orders need CAP_NET_ADMIN; errors are
OSError with the kernel's number.
"""

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _GETADDR = 16, 17, 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PROTO = 1, 2, 8, 11
_RTA_DST, _RTA_OIF, _RTA_PRIORITY = 1, 4, 6
_OURS = 119
"""The protocol of our routes, one that neither the kernel nor a routing daemon has (RTPROT_*)."""
_LOCAL_TABLE, _HOST_SCOPE, _LOCAL, _BY_KERNEL = 255, 254, 2, 2
"""RT_TABLE_LOCAL, RT_SCOPE_HOST, RTN_LOCAL, RTPROT_KERNEL"""
_SOL_NETLINK, _STRICT = 270, 12
"""NETLINK_GET_STRICT_CHK: the kernel (4.20) lists what was asked for, not every route of the machine."""
_NO_DETECTION = 0x02
"""IFA_F_NODAD: an IPv6 address can be used at once."""
_UP = 1
_ADDRESS_GROUPS = 0x10 | 0x100
"""RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR"""

_HEADER, _LINK, _ADDRESS, _ATTRIBUTE = map(struct.Struct, ("=IHHII", "=BxHiII", "=BBBBI", "=HH"))
_ROUTE = struct.Struct("=BBBBBBBBI")
_NUMBER = struct.Struct("=I")
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """An address of this machine: on which interface, and who put it there by its own account (IFA_PROTO, which kernels
    before 5.18 don't remember; for a route of ours its metric; 0 = unknown).
    """

    address: str
    index: int
    origin: int


class Netlink:
    """Two sockets to the kernel: requests are answered one after another, and news of addresses are waited for."""

    def __init__(self) -> None:
        self._news = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._news.bind((0, _ADDRESS_GROUPS))
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sock.settimeout(_SECONDS)
        with contextlib.suppress(OSError):
            self._sock.setsockopt(_SOL_NETLINK, _STRICT, 1)
        self._sock.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._sock.close()
        self._news.close()

    def changed(self, but_for: int) -> bool:
        """Whether an address came or went since the last call, on another interface than that of this index."""
        found = False
        while True:
            try:
                data = self._news.recv(1 << 17)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: more than was kept
                return True
            found |= any(_ADDRESS.unpack_from(content)[4] != but_for for _, _, content in _messages(data))

    def create_dummy(self, name: str) -> None:
        """An interface that leads nowhere, up. EOPNOTSUPP where the kernel has no such kind."""
        kind = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, b"dummy"))
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, _UP, _UP) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + kind
        self._order(_NEWLINK, _CREATE | _EXCL, body)

    def delete_link(self, index: int) -> None:
        self._order(_DELLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0))

    def add_address(self, index: int, address: str, origin: int) -> None:
        """One address by itself (/32 or /128). EEXIST when the interface has it."""
        self._order(_NEWADDR, _CREATE | _EXCL, _address(index, address, origin))

    def delete_address(self, index: int, address: str) -> None:
        self._order(_DELADDR, 0, _address(index, address, 0))

    def add_local_route(self, index: int, address: str, origin: int) -> None:
        """Makes one IPv4 address the machine's without giving it to an interface. EEXIST when a route did so before."""
        self._order(
            _NEWROUTE, _CREATE | _EXCL, _local_route(address, origin) + _attribute(_RTA_OIF, _NUMBER.pack(index))
        )

    def delete_local_route(self, address: str, origin: int) -> None:
        """On whichever interface it is."""
        self._order(_DELROUTE, 0, _local_route(address, origin))

    def local_routes(self) -> list[Held]:
        """Those IPv4 addresses that are the machine's by such routes; none where the kernel tells of no routes."""
        asked = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _LOCAL_TABLE, 0, 0, _LOCAL, 0)
        try:
            return [*filter(None, map(_by_route, self._ask(_GETROUTE, _DUMP, asked)))]
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return []

    def addresses(self) -> list[Held]:
        """Every address of this machine."""
        return [_held(body) for body in self._ask(_GETADDR, _DUMP, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]

    def _order(self, kind: int, flags: int, body: bytes) -> None:
        for _ in self._ask(kind, flags | _ACK, body):
            pass

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, self._sequence, 0) + body)
        while True:
            for answered, sequence, content in _messages(self._sock.recv(1 << 17)):
                if sequence != self._sequence:
                    continue
                if answered == _ERROR:
                    code = -struct.unpack_from("=i", content)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                if answered == _DONE:
                    return
                yield content


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence, content) of each."""
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, place)
        yield kind, sequence, data[place + _HEADER.size : place + length]
        place += _aligned(max(length, _HEADER.size))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _attributes(data: bytes) -> dict[int, bytes]:
    found, place = {}, 0
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        found[kind] = data[place + _ATTRIBUTE.size : place + length]
        place += _aligned(max(length, _ATTRIBUTE.size))
    return found


def _address(index: int, text: str, origin: int) -> bytes:
    address = ipaddress.ip_address(text)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ADDRESS.pack(family, address.max_prefixlen, 0, 0, index)
    body += _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
    if origin:
        body += _attribute(_IFA_FLAGS, struct.pack("=I", _NO_DETECTION)) + _attribute(_IFA_PROTO, bytes([origin]))
    return body


def _local_route(address: str, origin: int) -> bytes:
    head = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _LOCAL_TABLE, _OURS, _HOST_SCOPE, _LOCAL, 0)
    return head + _attribute(_RTA_DST, socket.inet_aton(address)) + _attribute(_RTA_PRIORITY, _NUMBER.pack(origin))


def _by_route(body: bytes) -> Held | None:
    _, length, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    if (length, table, kind) != (32, _LOCAL_TABLE, _LOCAL) or protocol == _BY_KERNEL:
        return None
    parts = _attributes(body[_ROUTE.size :])
    index, metric = (_NUMBER.unpack(parts.get(kind, bytes(4)))[0] for kind in (_RTA_OIF, _RTA_PRIORITY))
    return Held(socket.inet_ntoa(parts[_RTA_DST]), index, metric if protocol == _OURS else 0)


def _held(body: bytes) -> Held:
    index = _ADDRESS.unpack_from(body)[4]
    parts = _attributes(body[_ADDRESS.size :])
    packed = parts.get(_IFA_LOCAL) or parts[_IFA_ADDRESS]
    return Held(str(ipaddress.ip_address(packed)), index, parts.get(_IFA_PROTO, b"\0")[0])
