"""How a cluster's API server is spoken to: the implementations of `cluster.Api`."""

import asyncio
import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from portway.client.cluster import ClusterConfig
from portway.client.credentials import Credential, CredentialError, Headers
from portway.client.dial import dial
from portway.client.protocol import ApiUnreachable
from portway.gateway import headers as h
from portway.gateway.upstream.endpoint import Endpoint
from portway.kube.errors import BadRequest, ServiceUnavailable, StatusError, Unauthorized
from portway.kube.identity import User

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange
    from portway.gateway.upstream.connection import Upstream


CHECK_SECONDS = 10.0
"""Between two questions whether a 401 that came through the proxy verb was the API server's."""

logger = logging.getLogger(__name__)


class EmbeddedApi:
    """The embedded API server on its socket, which believes who the door says it is."""

    prefix = b""
    authority = ""
    judges = False
    stamp: object = "trusted"
    waits_for: Awaitable[object] | None = None

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoints = (endpoint,)

    def fields(self, exchange: "Exchange") -> bytes:
        identity = exchange.acting or exchange.identity
        return field_lines(identity_headers("X-Remote", identity.user if identity is not None else User("")))

    def refused(self, exchange: "Exchange", *, proxied: bool) -> None:
        """Nothing was shown that could be refused."""


class RemoteApi:
    """A cluster's API server, with a kubeconfig's credential; whose request it is says a subclass."""

    judges = False

    def __init__(self, config: ClusterConfig, check: Callable[[], Awaitable[object]]) -> None:
        """`check` asks the server something that nobody may who is refused, and obtains another credential then. Raises
        StatusError or ApiUnreachable.
        """
        self._check = check
        self._checked_at = -math.inf
        self._checking: asyncio.Task[None] | None = None
        parts = urlsplit(config.server)
        self.prefix = parts.path.rstrip("/").encode()
        self.authority = parts.netloc.rpartition("@")[2]
        self._config = config
        self._shown: Credential | None = None
        self._lines = b""
        self._endpoint = self._to(None)

    @property
    def stamp(self) -> object:
        return self._config.credentials.cached()

    @property
    def waits_for(self) -> Awaitable[object] | None:
        return self._obtain() if self._config.credentials.cached() is None else None

    async def _obtain(self) -> None:
        try:
            await self._config.credentials.current()
        except CredentialError as error:
            raise ServiceUnavailable(f"there is no credential for {self._config.server}: {error}") from error

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        self._show()
        return (self._endpoint,)

    def own_fields(self) -> bytes:
        """The header lines of the kubeconfig's own user."""
        self._show()
        return self._lines

    def refused(self, exchange: "Exchange", *, proxied: bool) -> None:  # noqa: ARG002
        if proxied:
            self._find_out()
        elif self._shown is not None:
            self._config.credentials.refused(self._shown)

    def _find_out(self) -> None:
        """Whose 401 it was: a service's own is no reason to have a credential renewed, nor to ask more than seldom."""
        loop = asyncio.get_running_loop()
        if self._checking is None and loop.time() >= self._checked_at + CHECK_SECONDS:
            self._checked_at = loop.time()
            self._checking = loop.create_task(self._found_out(), name="check the credential")

    async def _found_out(self) -> None:
        try:
            await self._check()
        except (StatusError, ApiUnreachable) as error:
            logger.info("checking the credential: %s", error)
        finally:
            self._checking = None

    def _show(self) -> None:
        """Takes up a credential that is another one than the last: its header lines, and connections of its own."""
        credential = self._config.credentials.cached()
        if credential is None:
            raise ServiceUnavailable(f"the credential for {self._config.server} has just run out", retry_after=1)
        if credential is self._shown:
            return
        if self._shown is None or credential.tls is not self._shown.tls:
            self._endpoint = self._to(credential.tls)
        self._shown = credential
        self._lines = field_lines((*credential.headers, *self._config.headers))

    def _to(self, tls: ssl.SSLContext | None) -> Endpoint:
        host, port = self._config.address

        async def dialler(factory: Callable[[], "Upstream"]) -> "Upstream":
            return (await dial(self._config, factory, tls))[1]

        return Endpoint(host, port, dialler=dialler)


class OwnApi(RemoteApi):
    """Every request is the kubeconfig's user's, unless it brings an Authorization of its own: as in kubectl proxy. At a
    service's own host name it is the service's that it brings, and no business of the API server's.
    """

    judges = True

    def fields(self, exchange: "Exchange") -> bytes:
        if exchange.site is not None:
            return self.own_fields()
        authorization = exchange.special.get(h.AUTHORIZATION)
        asked = b"".join(b"%b: %b\r\n" % f for f in exchange.fields if h.REQUEST[f[0]] == h.IMPERSONATE)
        if authorization is not None:
            return b"Authorization: %b\r\n" % authorization + asked
        return self.own_fields() + asked

    def refused(self, exchange: "Exchange", *, proxied: bool) -> None:
        if exchange.site is not None or h.AUTHORIZATION not in exchange.special:
            super().refused(exchange, proxied=proxied)


class ImpersonatingApi(RemoteApi):
    """Every request is of whom the door identified: the door's own credential, and Impersonate-*."""

    def fields(self, exchange: "Exchange") -> bytes:
        identity = exchange.acting or exchange.identity
        return self.own_fields() + field_lines(impersonating(identity.user if identity is not None else User("")))


def field_lines(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as they are sent."""
    return "".join(f"{name}: {value}\r\n" for name, value in fields).encode("utf-8")


def impersonating(user: User) -> Headers:
    """The header fields that make a request of the door's the user's."""
    if not user.name:
        raise Unauthorized  # an empty Impersonate-User asks for nobody else: it would be the door's own request
    return identity_headers("Impersonate", user)


def identity_headers(family: str, user: User) -> Headers:
    """A user in the header fields of one family: X-Remote-* or Impersonate-*. All of it, so that nothing is left to the
    server's guess. Raises BadRequest for a name that a header field would change.
    """
    lines = [(f"{family}-User", _safe(user.name)), *((f"{family}-Group", _safe(g)) for g in user.groups)]
    if user.uid:
        lines.append((f"{family}-Uid", _safe(user.uid)))
    for key, values in user.extra.items():
        lines += [(f"{family}-Extra-{quote(key, safe='')}", _safe(v)) for v in values]
    return tuple(lines)


def _safe(text: str) -> str:
    if text != text.strip() or any(c < " " or c == "\x7f" for c in text):
        raise BadRequest("a user or group name holds a control character, or spaces around it")
    return text
