"""Sockets and TLS: the listeners of one worker, certificates that can be renewed while it runs, and the end of it all.

Workers share a port with SO_REUSEPORT, so that each has a queue of its own and none waits for another.
"""

import asyncio
import os
import socket
import ssl
from pathlib import Path

from portway.client.tls import Session
from portway.gateway.http1 import Downstream
from portway.gateway.pipeline import Door
from portway.gateway.settings import GatewaySettings

BACKLOG = 4096
SHUTDOWN = 1.0
"""Seconds that a client has to answer the end of a TLS connection."""


class ListenError(Exception):
    """A listener can't be had; one line that says why and what to do."""


def bind(address: str, port: int, *, shared: bool = True) -> socket.socket:
    """A TCP socket bound to a port, which other workers share; ListenError when somebody else has it.

    Without `shared` nobody else may have it, not even a door of the same user.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise ListenError(
            f"cannot listen on {address} port {port}: {error.strerror}; choose another port or address"
        ) from error
    sock.setblocking(False)
    return sock


def bind_unix(path: str) -> socket.socket:
    """A unix socket for this user alone (0600); one that nobody listens on any more is replaced. ListenError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if Path(path).is_socket() and not _answers(path):
            Path(path).unlink()
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}; choose another path") from error
    finally:
        os.umask(before)
    sock.setblocking(False)
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _name(address: object) -> str:
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)


def read_bundle(path: str) -> str:
    """A file of PEM certificates, "" for no path; ListenError when it can't be used."""
    if not path:
        return ""
    try:
        text = Path(path).read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, UnicodeDecodeError, ssl.SSLError) as error:
        raise ListenError(f"the kubelets' authority cannot be used ({path}): {error}") from error
    return text


class Certificates:
    """The server's TLS context, whose handshakes use what the files hold now.

    The listeners keep one context for ever; each handshake is handed over to the newest. Loading new files into an old
    context would not do: OpenSSL adds to the authorities of clients that it trusts, and forgets none.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        """ListenError when a file can't be used."""
        self._files = settings.tls_cert_file, settings.tls_private_key_file
        self._client_ca = settings.authentication.client_ca_file
        self._seen = self._stamp()
        self._newest = self._load(self._new())
        self.context = self._load(self._new())
        self.context.sni_callback = self._hand_over

    def _hand_over(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def _new(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslobject_class = Session
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # No tickets: a resumed session brings its client certificate along, whoever is trusted by now.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.load_cert_chain(*self._files)
            if self._client_ca:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(self._client_ca)
        except OSError as error:
            names = ", ".join(name for name in (*self._files, self._client_ca) if name)
            raise ListenError(f"the certificate, key or client CA cannot be used ({names}): {error}") from error
        return context

    def _stamp(self) -> tuple[int, ...]:
        return tuple(
            Path(f).stat().st_mtime_ns if Path(f).exists() else 0 for f in (*self._files, self._client_ca) if f
        )

    def changed(self) -> bool:
        """Whether a file is another one than when it was read."""
        return self._stamp() != self._seen

    def reload(self) -> None:
        """Reads the files again; ListenError leaves what was in force."""
        self._seen = self._stamp()  # files that can't be used are complained of once
        self._newest = self._load(self._new())


class Listeners:
    """The listening sockets of one worker."""

    def __init__(self, door: Door, settings: GatewaySettings) -> None:
        self._door = door
        self._settings = settings
        self._servers: list[asyncio.Server] = []
        self._bound: list[tuple[socket.socket, bool]] = []
        """Sockets, and whether they speak TLS."""
        self.certificates = Certificates(settings) if settings.secure_port else None

    def bind(self) -> None:
        """Takes the addresses, before anything else begins; connections are still refused. Raises ListenError."""
        settings = self._settings
        shared = settings.share_ports
        if self.certificates is not None:
            self._bound.append((bind(settings.bind_address, settings.secure_port, shared=shared), True))
        if settings.insecure_port is not None:
            self._bound.append((bind(settings.insecure_address, settings.insecure_port, shared=shared), False))
        if settings.unix_socket:
            self._bound.append((bind_unix(settings.unix_socket), False))

    async def open(self) -> None:
        """Starts to accept. Raises ListenError."""
        while self._bound:
            sock, secure = self._bound.pop(0)
            try:
                self._servers.append(await self._serve(sock, secure))
            except OSError as error:  # another socket was bound at the same moment, and listens
                name = _name(sock.getsockname())
                sock.close()
                raise ListenError(
                    f"cannot listen on {name}: {error.strerror}; choose another port or address"
                ) from error

    async def _serve(self, sock: socket.socket, secure: bool) -> asyncio.Server:
        settings, loop, door = self._settings, asyncio.get_running_loop(), self._door
        if not secure or self.certificates is None:
            return await loop.create_server(lambda: Downstream(door, secure=False), sock=sock, backlog=BACKLOG)
        return await loop.create_server(
            lambda: Downstream(door, secure=True),
            sock=sock,
            ssl=self.certificates.context,
            ssl_handshake_timeout=settings.limits.handshake_timeout,
            ssl_shutdown_timeout=SHUTDOWN,
            backlog=BACKLOG,
        )

    def close(self) -> None:
        """Lets go of what was bound and not opened."""
        for sock, _ in self._bound:
            sock.close()
        self._bound.clear()

    def names(self) -> list[str]:
        """Where it listens: address:port, or a path."""
        return [_name(sock.getsockname()) for server in self._servers for sock in server.sockets]

    async def drain(self) -> None:
        """Accepts no more, lets what is under way end, and returns when nothing is left or time is up."""
        for server in self._servers:
            server.close()
        door = self._door
        door.draining = True
        for down in list(door.crowd.connections):
            down.close_if_idle()
        deadline = door.loop.time() + self._settings.limits.drain_timeout
        while door.crowd.connections and door.loop.time() < deadline:
            await asyncio.sleep(0.05)
        for down in list(door.crowd.connections):
            down.transport.abort()
