"""Asking an API server for another protocol on the same connection: the request, and its answer.

One connection per request, HTTP/1.1, no redirects (CVE-2020-8559), nothing reused after a refusal (CVE-2018-1002105).
"""

import asyncio
import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

from portway import __version__
from portway.client.cluster import ClusterConfig
from portway.client.credentials import Credential, CredentialError
from portway.client.dial import DialError, dial
from portway.client.protocol import ApiUnreachable
from portway.client.status import status_error
from portway.kube.errors import StatusError, Unauthorized

ANSWER_SECONDS = 30.0
"""The API server dials the node before it answers."""
MAX_ANSWER = 64 << 10
"""Bytes of head and body of an answer that is read."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class UpgradeRefused(StatusError):  # noqa: N818 - named as the other answers of an API are
    """It answered 101, but not for what was asked."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection that speaks the other protocol now; paused. `rest` came behind the answer's head."""

    transport: asyncio.Transport
    headers: Mapping[str, str]
    """Names in lower case."""
    rest: bytes


async def upgrade(
    config: ClusterConfig, method: str, path: str, protocol: str, headers: Iterable[tuple[str, str]]
) -> Upgraded:
    """Ask for `protocol` (the Upgrade header). `path` is the request target below the server's own prefix.

    A credential that is refused is renewed once. Raises StatusError with the server's answer when it is not 101,
    ApiUnreachable when there is none.
    """
    headers = tuple(headers)
    credentials = config.credentials
    try:
        credential = await credentials.current()
        try:
            return await _upgrade(config, credential, method, path, protocol, headers)
        except Unauthorized:
            credentials.refused(credential)
            other = await credentials.current()
            if other == credential:
                raise
            return await _upgrade(config, other, method, path, protocol, headers)
    except CredentialError as error:
        where = config.unix_socket or config.server
        raise ApiUnreachable(f"{where}: getting credentials: {error}") from error


async def _upgrade(
    config: ClusterConfig,
    credential: Credential,
    method: str,
    path: str,
    protocol: str,
    headers: tuple[tuple[str, str], ...],
) -> Upgraded:
    url = urlsplit(config.server)
    answer: asyncio.Future[Upgraded] = asyncio.get_running_loop().create_future()
    fields = (*headers, *config.headers, *credential.headers)
    head = _head(method, url.path.rstrip("/") + path, url.netloc, protocol, fields)
    transport: asyncio.Transport | None = None
    try:
        transport, _ = await dial(config, lambda: _Handshake(answer), credential.tls)
        transport.write(head)
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except DialError as error:
        raise ApiUnreachable(str(error)) from error
    except (OSError, TimeoutError) as error:
        raise ApiUnreachable(f"{config.unix_socket or config.server}: {_said(error)}") from error
    finally:
        if transport is not None and (not answer.done() or answer.cancelled() or answer.exception() is not None):
            transport.abort()


async def websocket(config: ClusterConfig, path: str, subprotocol: str) -> Upgraded:
    """Open a WebSocket with a subprotocol; as `upgrade`."""
    key = base64.b64encode(os.urandom(16))
    headers = (
        ("Sec-WebSocket-Key", key.decode()),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", subprotocol),
    )
    done = await upgrade(config, "GET", path, "websocket", headers)
    expected = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if done.headers.get("sec-websocket-accept") != expected:
        done.transport.abort()
        raise UpgradeRefused("the server's WebSocket handshake is wrong", code=400)
    if done.headers.get("sec-websocket-protocol") != subprotocol:
        done.transport.abort()
        raise UpgradeRefused(f"the server does not speak {subprotocol}", code=400)
    return done


def _head(method: str, target: str, host: str, protocol: str, headers: Iterable[tuple[str, str]]) -> bytes:
    fields = [
        ("Host", host or "localhost"),
        ("User-Agent", f"portway/{__version__}"),
        ("Connection", "Upgrade"),
        ("Upgrade", protocol),
        *(() if method == "GET" else (("Content-Length", "0"),)),
        *headers,
    ]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("utf-8")


class _Handshake(asyncio.Protocol):
    """Reads one answer. After a 101 it pauses the connection and is done with it."""

    def __init__(self, answer: asyncio.Future[Upgraded]) -> None:
        self._answer = answer
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._size = 0
        self._whole = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self._parser.get_status_code() == 101:
                self._transport.pause_reading()
                self._answer.set_result(Upgraded(self._transport, self._headers, data[stop.args[0] :]))
                return
            self._whole = True
        except httptools.HttpParserError as error:
            self._answer.set_exception(ConnectionError(f"the answer is not HTTP: {error}"))
            return
        if self._whole or self._size > MAX_ANSWER:
            self._refused()

    def _refused(self) -> None:
        if not self._answer.done():
            headers = {"Retry-After": self._headers.get("retry-after", "")}
            self._answer.set_exception(status_error(self._parser.get_status_code(), headers, bytes(self._body)))

    def eof_received(self) -> bool:
        if self._headers and self._parser.get_status_code() >= 300:
            self._refused()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed without an answer"))

    # llhttp's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self._whole = self._parser.get_status_code() >= 200


def _said(error: BaseException) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__))
