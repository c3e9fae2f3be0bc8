"""The chain of authenticators: certificate, bearer token, basic, token in the WebSocket subprotocol, anonymous.

The order and the rule are upstream's: the first that says yes wins; an error is remembered while the others are asked;
anonymous is for those who offered nothing. So a bad credential is 401 and never anonymous. Next: authorization.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Protocol

from portway.gateway.authentication.cache import RecentCache
from portway.gateway.authentication.errors import ConfigurationError
from portway.gateway.authentication.headers import (
    EXTRA_SPACE_WARNING,
    bearer_token,
    scheme_and_rest,
    websocket_token,
)
from portway.gateway.authentication.identity import LOCAL, Identity
from portway.gateway.authentication.oidcconfig import Anonymous
from portway.gateway.authentication.passwords import Passwords
from portway.gateway.authentication.serviceaccounts import Accounts, ServiceAccounts
from portway.gateway.authentication.statictokens import StaticTokens
from portway.gateway.settings import Authentication
from portway.kube.errors import Unauthorized
from portway.kube.identity import ANONYMOUS_USER, User
from portway.kube.serviceaccount import Verifier

CACHED = 4096
"""Bearer headers remembered in one worker."""

Answer = Identity | asyncio.Future[Identity]


class TokenAuthenticator(Protocol):
    """The seam of bearer tokens: `oidc` and `tokenreview` are on the other side of it."""

    def identify(self, token: bytes) -> Answer | None:
        """Whose token it is, at once or as a Future; None for a token that is somebody else's to judge.

        A StatusError, raised or in the Future, is a refusal: Unauthorized when the token is wrong, others when that
        could not be found out. The same token gives the same Identity while that counts.
        """
        ...

    def health(self) -> str:
        """ "" when it can answer, else one line for an operator; never a secret."""
        ...


class Authenticators:
    """Says who a request comes from. Lives on one event loop."""

    def __init__(
        self,
        settings: Authentication,
        view: Accounts,
        others: Sequence[TokenAuthenticator] = (),
        anonymous: Callable[[], Anonymous | None] = lambda: None,
    ) -> None:
        """`others` are asked, in order, about tokens that the settings' own files and keys don't know. `anonymous` says
        what an authentication configuration says now of callers who offer nothing; it wins over the setting.

        ConfigurationError, in one line, when a file named in the settings can't be used.
        """
        self._others = tuple(others)
        self._rule = anonymous
        self._tokens = StaticTokens(settings.token_auth_file)
        self._passwords = Passwords(settings.basic_auth_file)
        self._accounts = _service_accounts(settings, view)
        # Keys are whole headers: the table is this process's own and hashed with its random key, so a lookup's time
        # tells nothing about them.
        self._recent: RecentCache[bytes, Identity] = RecentCache(CACHED)
        self._allowed = settings.anonymous_auth
        self._anonymous = Identity(ANONYMOUS_USER, "anonymous")
        self._warned = Identity(ANONYMOUS_USER, "anonymous", warning=EXTRA_SPACE_WARNING)
        self._local = Identity(User(settings.local), LOCAL, ambient=True) if settings.local else None

    def identify(
        self, authorization: bytes | None, certificate: Identity | None = None, protocols: bytes | None = None
    ) -> Answer:
        """Who it is, at once for a known credential, else perhaps as a Future.

        authorization   value of the (first) Authorization header
        certificate     what certificate_identity made of the connection's client certificate
        protocols       value of Sec-WebSocket-Protocol, of a WebSocket upgrade only; the caller removes the token
                        (websocket_token) before it forwards the rest

        Unauthorized, raised or in the Future, for a credential that is wrong, and for none where anonymous is off.
        TooManyRequests when a flood of unknown credentials must be verified the slow way.
        """
        if self._local is not None:
            return self._local
        if authorization is not None and certificate is None:
            identity = self._recent.young.get(authorization)
            if identity is not None and identity.valid and identity.expires > time():
                return identity
        elif certificate is not None and certificate.alive():
            return certificate
        return self._identify(authorization, certificate, protocols)

    def reload(self) -> None:
        """Read the token and password files again. ConfigurationError leaves what was read before in force."""
        self._tokens.reload()
        self._passwords.reload()
        # What the rules for anonymous callers say now must be asked again.
        for nobody in (self._anonymous, self._warned):
            nobody.decisions.clear()
        self._recent.discard(lambda identity: not identity.valid)

    def admits_anonymous(self, path: str) -> bool:
        """Whether somebody who offered nothing may be anonymous on this path."""
        rule = self._rule()
        return self._allowed if rule is None else rule.admits(path)

    @property
    def passwords(self) -> bool:
        """Whether anybody can log in with a password: a browser is asked for one only then."""
        return self._passwords.enabled

    def close(self) -> None:
        """Stop verifying passwords."""
        self._passwords.close()

    def _identify(self, authorization: bytes | None, certificate: Identity | None, protocols: bytes | None) -> Answer:
        # A certificate that got here has expired on its connection; it is a bad credential now.
        bad = certificate is not None
        answer: Answer | None = None
        nobody = self._anonymous if self._admits_somewhere() else None
        if authorization is not None:
            try:
                answer = self._by_header(authorization)
            except Unauthorized:
                bad = True
            if answer is self._warned:
                answer, nobody = None, self._warned if nobody is not None else None
        if answer is None and protocols is not None:
            try:
                token, _ = websocket_token(protocols)
                answer = self._by_token(token) if token else None
            except Unauthorized:
                bad = True
        if answer is not None:
            return answer
        if bad or nobody is None:
            raise Unauthorized
        return nobody

    def _admits_somewhere(self) -> bool:
        rule = self._rule()
        return self._allowed if rule is None else rule.enabled

    def _by_header(self, authorization: bytes) -> Answer | None:
        """The caller; None for no opinion; `_warned` for the header that upstream warns of."""
        known = self._recent.get(authorization)
        if known is not None and known.alive():
            return known
        scheme, rest = scheme_and_rest(authorization)
        if scheme == b"basic" and self._passwords.enabled:
            return self._passwords.identify(authorization, rest)
        if scheme != b"bearer" or not rest:
            return None
        token = bearer_token(rest)
        if not token:
            return self._warned
        answer = self._by_token(token)
        if isinstance(answer, Identity):
            self._recent.put(authorization, answer)
        else:
            answer.add_done_callback(lambda future: self._remember(authorization, future))
        return answer

    def _by_token(self, token: bytes) -> Answer:
        identity = self._tokens.identify(token)
        if identity is not None:
            return identity
        if self._accounts is not None and token.count(b".") == 2 and token.isascii():
            try:
                return self._accounts.identify(token.decode("ascii"))
            except Unauthorized:
                if not self._others:
                    raise
        for authenticator in self._others:
            answer = authenticator.identify(token)
            if answer is not None:
                return answer
        raise Unauthorized

    def _remember(self, authorization: bytes, future: asyncio.Future[Identity]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._recent.put(authorization, future.result())


def _service_accounts(settings: Authentication, view: Accounts) -> ServiceAccounts | None:
    keys = []
    for path in settings.service_account_key_files:
        try:
            keys.append(Path(path).read_bytes())
        except OSError as error:
            raise ConfigurationError.reading("service account key file", path, error) from error
    if not keys:
        return None
    try:
        verifier = Verifier(keys, settings.service_account_issuer, settings.api_audiences)
    except ValueError as error:
        files = ", ".join(settings.service_account_key_files)
        raise ConfigurationError.reading("service account key file", files, error) from error
    return ServiceAccounts(verifier, view)
