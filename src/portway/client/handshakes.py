"""What is said to a proxy before a connection leads to the server: HTTP CONNECT and SOCKS5, without I/O.

Each is a generator of steps: it yields (bytes to send, what to wait for) and is sent exactly that. Who drives it has
the connection (`dial`). Sources: RFC 9110 section 9.3.6, RFC 1928, RFC 1929.
"""

import base64
import ipaddress
from collections.abc import Generator

from portway.client.proxies import Proxy, join

Step = tuple[bytes, int | bytes]
"""(bytes to send, so many bytes to wait for, or all up to and with these)"""
Handshake = Generator[Step, bytes, None]

_SOCKS_REPLIES = {
    1: "general SOCKS server failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
"""RFC 1928 section 6, in the words of golang.org/x/net/internal/socks."""
_ADDRESS_BYTES = {1: 4, 4: 16}


class ProxyRefused(Exception):  # noqa: N818 (it says what is the case)
    """The proxy doesn't make the connection; why, in one line."""


def handshake(proxy: Proxy, host: str, port: int) -> Handshake:
    """What is said to `proxy` so that it connects to host:port. Raises ProxyRefused, also for answers that are none."""
    return _socks5(proxy, host, port) if proxy.scheme == "socks5" else _connect(proxy, host, port)


def _connect(proxy: Proxy, host: str, port: int) -> Handshake:
    target = join(host, port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username or proxy.password:
        pair = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {pair}")
    head = yield "".join(f"{line}\r\n" for line in (*lines, "")).encode(), b"\r\n\r\n"
    version, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise ProxyRefused("the proxy does not speak HTTP")
    if not status.startswith("2"):
        printable = "".join(character for character in status[:64] if character.isprintable())
        raise ProxyRefused(f"the proxy answered {printable}")


def _socks5(proxy: Proxy, host: str, port: int) -> Handshake:
    methods = b"\x00\x02" if proxy.username else b"\x00"
    version, method = yield bytes([5, len(methods)]) + methods, 2
    if version != 5:
        raise ProxyRefused("the proxy does not speak SOCKS5")
    if method == 2 and proxy.username:
        yield from _log_in(proxy)
    elif method != 0:
        raise ProxyRefused("no acceptable authentication methods")
    version, reply, _, kind = yield b"\x05\x01\x00" + _target(host) + port.to_bytes(2), 4
    if version != 5 or reply != 0:
        raise ProxyRefused(_SOCKS_REPLIES.get(reply, f"SOCKS reply {reply}"))
    size = _ADDRESS_BYTES.get(kind)
    if size is None:
        if kind != 3:
            raise ProxyRefused("the proxy does not speak SOCKS5")
        (size,) = yield b"", 1
    yield b"", size + 2


def _log_in(proxy: Proxy) -> Handshake:
    name, password = proxy.username.encode(), proxy.password.encode()
    if not (0 < len(name) < 256 and 0 < len(password) < 256):
        raise ProxyRefused("invalid username/password")
    answer = yield bytes([1, len(name)]) + name + bytes([len(password)]) + password, 2
    if answer != b"\x01\x00":
        raise ProxyRefused("username/password authentication failed")


def _target(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna") if not host.isascii() else host.encode()
        if len(name) > 255:
            raise ProxyRefused("FQDN too long") from None
        return bytes([3, len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed
