"""What is shown to an API server to be somebody: headers and a client certificate, renewed as they run out.

`Credentials` is the seam: `ApiClient` and whoever opens connections of its own (the gateway, port-forwarding) ask it
before each request and tell it of a 401. Here are the kinds that never wait, from values and from files;
`execcredentials` runs a plugin. `kubeconfig` chooses.
"""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from portway.client.tls import TlsContexts

REREAD_SECONDS = 10.0
"""How long a token read from a file is used: kubelet renews projected tokens well ahead of their expiry."""

Headers = tuple[tuple[str, str], ...]

logger = logging.getLogger(__name__)


class CredentialError(Exception):
    """Why there is no credential, in one line, in kubectl's words. Never holds a token or a plugin's output."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What to send now. Two are equal when a server could not tell them apart."""

    headers: Headers = field(default=(), repr=False)
    """(name, value): Authorization, or nothing."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """Trust and client certificate for new connections; a connection belongs to the context it was made with. None
    where the server isn't https, or for the system's trust and no certificate."""
    expires: float | None = field(default=None, compare=False)
    """Unix seconds; None when it doesn't say. Informative: `Credentials.cached` has looked at it."""


class Credentials(Protocol):
    """Who somebody is at one API server. Belongs to one event loop at a time."""

    def cached(self) -> Credential | None:
        """The credential to use now, None when it must be obtained first (`current`). Never waits; made for hot paths.

        Without plugins there always is one.
        """
        ...

    async def current(self) -> Credential:
        """The credential to use now, obtained if need be; who asks at the same time shares one attempt.

        Raises CredentialError.
        """
        ...

    def refused(self, credential: Credential) -> None:
        """The server answered 401 to this credential: obtain another, unless that has happened since.

        Ask `current` next; if its answer equals `credential`, there is no other and the 401 stands.
        """
        ...


class StaticCredentials:
    """Always the same one."""

    def __init__(self, credential: Credential | None = None) -> None:
        self._credential = credential or Credential()

    def cached(self) -> Credential:
        return self._credential

    async def current(self) -> Credential:
        return self._credential

    def refused(self, credential: Credential) -> None:
        """There is no other."""


class FileCredentials:
    """A bearer token or other header, and TLS settings, any of which may be in files that are renewed.

    A file that can't be read later leaves what was read before in use, as in client-go. `token_file` wins over `token`,
    which stands in as long as the file has not been readable. Raises CredentialError and TlsError when made.
    """

    def __init__(
        self,
        tls: TlsContexts | None = None,
        *,
        headers: Headers = (),
        token: str = "",
        token_file: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tls, self._headers, self._clock = tls, headers, clock
        self._token_file = token_file
        self._reread_at = 0.0
        if token_file:
            try:
                token = _read(token_file)
            except CredentialError:
                if not token:
                    raise
            self._reread_at = clock() + REREAD_SECONDS
        self._credential = self._made(token)

    def cached(self) -> Credential:
        if self._token_file and self._clock() >= self._reread_at:
            self._reread()
        if self._tls is not None:
            context = self._tls.current()
            if context is not self._credential.tls:
                self._credential = replace(self._credential, tls=context)
        return self._credential

    async def current(self) -> Credential:
        return self.cached()

    def refused(self, credential: Credential) -> None:
        if credential == self._credential:
            self._reread_at = 0.0
            if self._tls is not None:
                self._tls.look_again()

    def _reread(self) -> None:
        self._reread_at = self._clock() + REREAD_SECONDS
        try:
            self._credential = self._made(_read(self._token_file))
        except CredentialError as error:
            logger.warning("%s; the token read before stays in use", error)

    def _made(self, token: str) -> Credential:
        tls = None if self._tls is None else self._tls.current()
        return Credential((*self._headers, *bearer(token)), tls)


def bearer(token: str) -> Headers:
    """The header that carries a token; none for an empty one. Raises CredentialError for one that no header can."""
    return (checked("Authorization", f"Bearer {token}"),) if token else ()


def checked(name: str, value: str) -> tuple[str, str]:
    """A header, once it is certain that its value can't end it. Raises CredentialError, in the words of Go's client."""
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise CredentialError(f'net/http: invalid header field value for "{name}"')
    return name, value


def _read(file: str) -> str:
    try:
        token = Path(file).read_text("utf-8").strip()
    except OSError as error:
        raise CredentialError(f"open {file}: {str(error.strerror).lower()}") from error
    except ValueError as error:
        raise CredentialError(f"the token in {file} is not text") from error
    if not token:
        raise CredentialError(f"read empty token from file {file}")
    return token
