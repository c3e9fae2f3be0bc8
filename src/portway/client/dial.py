"""Raw connections to an API server: TCP or its unix socket, through the proxy where one is configured, TLS on top.

Used by `api`, by the gateway's own connections and by port-forwarding. Which bytes are then sent is theirs.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import TypeVar, cast

from aiohappyeyeballs import start_connection

from portway.client.cluster import ClusterConfig
from portway.client.handshakes import Handshake, ProxyRefused, handshake
from portway.client.proxies import Proxy, join
from portway.client.tls import default_context

DIAL_SECONDS = 10.0
"""For all of it: name, connection, proxy, TLS."""
HAPPY_EYEBALLS_SECONDS = 0.25
"""RFC 8305's delay before the next address is tried beside the first."""
MAX_ANSWER_BYTES = 16 << 10
"""Of a proxy, before the connection is through."""

P = TypeVar("P", bound=asyncio.BaseProtocol)


class DialError(OSError):
    """There is no connection. Its text is one line: the address, then the reason."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.reason = reason


async def dial(
    config: ClusterConfig,
    protocol_factory: Callable[[], P],
    tls_context: ssl.SSLContext | None,
    *,
    timeout: float = DIAL_SECONDS,
) -> tuple[asyncio.Transport, P]:
    """Open a connection to the cluster's API server.

    `tls_context` is a `Credential.tls`; with None an https server is verified by the system's trust. ALPN offers
    http/1.1 only. Raises DialError, at the latest after `timeout` seconds.
    """
    place = config.unix_socket or config.server
    try:
        host, port = config.address
        place = config.unix_socket or join(host, port)
        async with asyncio.timeout(timeout):
            return await _dial(config, host, port, protocol_factory, tls_context)
    except TimeoutError as error:
        raise DialError(place, f"no connection within {timeout:g} s{_via(config)}") from error
    except (OSError, ProxyRefused, ValueError, RuntimeError) as error:
        # RuntimeError: uvloop's, for addresses that it doesn't take.
        raise DialError(place, _said(error) + _via(config)) from error


async def _dial(
    config: ClusterConfig, host: str, port: int, factory: Callable[[], P], context: ssl.SSLContext | None
) -> tuple[asyncio.Transport, P]:
    loop = asyncio.get_running_loop()
    if config.unix_socket is not None:
        return await loop.create_unix_connection(factory, config.unix_socket)
    tls = (context or default_context()) if config.is_https else None
    name = config.server_name or host
    if config.proxy is None:
        return await _connect(host, port, factory, tls, name)
    return await _through(config.proxy, (host, port), factory, tls, name)


async def _connect(
    host: str, port: int, factory: Callable[[], P], tls: ssl.SSLContext | None, name: str
) -> tuple[asyncio.Transport, P]:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=1)
    socket = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS, interleave=1)
    try:
        made = await loop.create_connection(factory, sock=socket, ssl=tls, server_hostname=name if tls else None)
    except BaseException:
        socket.close()
        raise
    return made


async def _through(
    proxy: Proxy, target: tuple[str, int], factory: Callable[[], P], tls: ssl.SSLContext | None, name: str
) -> tuple[asyncio.Transport, P]:
    # client-go verifies an https proxy by the cluster's settings, not by the system's: one that kubectl takes works.
    outer = (tls or default_context()) if proxy.scheme == "https" else None
    transport, exchange = await _connect(proxy.host, proxy.port, _Exchange, outer, proxy.host)
    try:
        await exchange.run(handshake(proxy, *target))
        if tls is not None:
            loop = asyncio.get_running_loop()
            inner = _Exchange()
            made = await loop.start_tls(transport, inner, tls, server_hostname=name)
            if made is None:
                raise ConnectionError("the connection was lost")
            transport, exchange = made, inner
        exchange.check_silent()
    except BaseException:
        transport.abort()
        raise
    protocol = factory()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return transport, protocol


class _Exchange(asyncio.Protocol):
    """Holds a connection until its protocol takes over: drives the handshake, sees whether the connection lasts."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._lost = False
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._tell()

    def eof_received(self) -> None:
        self._lost = True
        self._tell()

    def connection_lost(self, _: Exception | None) -> None:
        self._lost = True
        self._tell()

    async def run(self, steps: Handshake) -> None:
        """Say and hear all of it. Raises ProxyRefused and ConnectionError."""
        assert self._transport is not None  # noqa: S101 (connection_made comes first)
        try:
            data, wanted = next(steps)
            while True:
                if data:
                    self._transport.write(data)
                data, wanted = steps.send(await self._take(wanted))
        except StopIteration:
            self.check_silent()

    def check_silent(self) -> None:
        """Raise when the connection is gone, or was spoken on out of turn: an HTTP server never speaks first."""
        if self._lost:
            raise ConnectionError("the connection was closed")
        if self._received:
            raise ProxyRefused("the proxy sent more than an answer")

    async def _take(self, wanted: int | bytes) -> bytes:
        while (size := self._size(wanted)) < 0:
            if self._lost:
                raise ConnectionError("the proxy closed the connection")
            if len(self._received) > MAX_ANSWER_BYTES:
                raise ProxyRefused("the proxy's answer is too long")
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _size(self, wanted: int | bytes) -> int:
        """How many of the received bytes make up what is wanted; -1 when it isn't all there."""
        if isinstance(wanted, int):
            return wanted if len(self._received) >= wanted else -1
        found = self._received.find(wanted)
        return found if found < 0 else found + len(wanted)

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def _via(config: ClusterConfig) -> str:
    return f" through {config.proxy}" if config.proxy is not None and config.unix_socket is None else ""


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0).lower()
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return " ".join(text.split())
