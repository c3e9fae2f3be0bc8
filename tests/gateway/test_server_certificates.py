"""The server's certificate and the authorities of its clients, changed while it runs."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest
import uvloop

from portway.gateway.server import Certificates, ListenError
from portway.gateway.settings import Authentication, GatewaySettings
from portway.testing.conversation import TIMEOUT
from portway.up.certificates import KeyPair, make_authority, make_client_certificate, make_server_certificate

OURS, OTHERS = make_authority("ours"), make_authority("others")


class Greeter(asyncio.Protocol):
    """Says whether the client came with a certificate."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        held = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        transport.write(b"known" if held else b"stranger")  # type: ignore[attr-defined]
        transport.close()


@contextmanager
def served(context: ssl.SSLContext) -> Iterator[int]:
    """A server on uvloop, in a thread; its port."""
    ports: Queue[int] = Queue()
    stop: Queue[Callable[[], object]] = Queue()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(Greeter, "127.0.0.1", 0, ssl=context)
        stop.put(lambda: loop.call_soon_threadsafe(over.set))
        ports.put(server.sockets[0].getsockname()[1])
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    try:
        yield ports.get(timeout=TIMEOUT)
    finally:
        stop.get(timeout=TIMEOUT)()
        thread.join(TIMEOUT)
    assert not thread.is_alive()


def serve_with(directory: Path) -> bytes:
    """Writes a new serving certificate; returns it as DER."""
    pair = make_server_certificate(OURS, ["localhost"])
    (directory / "tls.crt").write_bytes(pair.certificate)
    (directory / "tls.key").write_bytes(pair.key)
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


def settings(directory: Path) -> GatewaySettings:
    return GatewaySettings(
        clusters=(),
        tls_cert_file=str(directory / "tls.crt"),
        tls_private_key_file=str(directory / "tls.key"),
        authentication=Authentication(client_ca_file=str(directory / "ca.crt")),
    )


def client(directory: Path, authority: KeyPair, version: ssl.TLSVersion) -> ssl.SSLContext:
    pair = make_client_certificate(authority, "ann", [])
    (directory / "client.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    context.load_cert_chain(directory / "client.pem")
    return context


def greeting(port: int, context: ssl.SSLContext, name: str) -> tuple[bytes, bytes | None]:
    """(what the server said, its certificate); OSError when it refuses ours."""
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=name or None) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
        said = secure.recv(100)
        if not said:
            raise ConnectionError("refused")
        return said, shown


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("name", ["localhost", ""], ids=["by name", "nameless"])
def test_what_the_files_hold_is_what_counts(tmp_path: Path, version: ssl.TLSVersion, name: str) -> None:
    """Above all: an authority that was taken out of the file is trusted no longer."""
    (tmp_path / "ca.crt").write_bytes(OURS.certificate + OTHERS.certificate)
    first = serve_with(tmp_path)
    context = client(tmp_path, OTHERS, version)

    certificates = Certificates(settings(tmp_path))
    with served(certificates.context) as port:
        assert greeting(port, context, name) == (b"known", first)
        second = serve_with(tmp_path)
        (tmp_path / "ca.crt").write_bytes(OURS.certificate)
        certificates.reload()
        with pytest.raises(OSError):  # noqa: PT011 - reset or alert, as the versions have it
            greeting(port, context, name)
        assert greeting(port, client(tmp_path, OURS, version), name) == (b"known", second)
        (tmp_path / "ca.crt").write_bytes(b"nonsense")
        with pytest.raises(ListenError):
            certificates.reload()
        assert greeting(port, client(tmp_path, OURS, version), name) == (b"known", second)
