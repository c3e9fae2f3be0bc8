"""OIDC: JWTs of configured issuers, verified here. No issuer is asked about a token; only its public keys are fetched.

A token that names a configured issuer is decided here, for good: it is sent to nobody else. Others are no opinion of
ours. Accepted ones count until they expire, but end at once when their key is withdrawn or their issuer's entry in the
configuration changes. Claims and their rules are `oidcclaims`, keys `oidckeys`, the configuration `oidcconfig`.

    ServiceUnavailable
    └── IssuerUnavailable   503: keys that could verify the token can't be had now; anything else wrong is a plain 401
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import time
from typing import Any, Final
from weakref import WeakKeyDictionary

import jwt

from portway.gateway.authentication import oidcclaims as claims
from portway.gateway.authentication.identity import Identity
from portway.gateway.authentication.oidcclaims import TokenRefused, Unverified
from portway.gateway.authentication.oidcconfig import (
    Anonymous,
    AuthenticationConfiguration,
    JWTAuthenticator,
    read,
)
from portway.gateway.authentication.oidckeys import Key, KeySet
from portway.kube.errors import ServiceUnavailable, TooManyRequests, Unauthorized
from portway.kube.serviceaccount import ONLY_SIGNATURE

WAITING: Final = 256
"""Tokens that may wait for an issuer's keys in one worker."""


class IssuerUnavailable(ServiceUnavailable):
    """The keys that could verify a token can't be had now."""

    def __init__(self) -> None:
        super().__init__("the issuer's keys can't be fetched now, please try again later", retry_after=5)


class _Issuer:
    """One entry of the configuration at work."""

    def __init__(self, config: JWTAuthenticator, clock: Callable[[], float], refusals: "Counter[str]") -> None:
        self.config = config
        self._clock = clock
        self._refusals = refusals
        self.keys = KeySet(config.issuer, self._withdrawn)
        # The key that each identity rests on; also of those that no cache holds: a connection may.
        self._issued: WeakKeyDictionary[Identity, Key] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[Identity]] = set()

    def identify(self, token: str, said: Unverified) -> Identity | asyncio.Future[Identity]:
        """Unauthorized or IssuerUnavailable, raised or in the Future."""
        try:
            if said.algorithm not in self.config.algorithms:
                raise TokenRefused("algorithm")
            if self._candidates(said):
                return self._verified(token, said)
        except TokenRefused as refused:
            raise self._unauthorized(refused) from None
        heard = self.keys.refetch()
        if heard is None:
            raise self._unknown()
        if len(self._tasks) >= WAITING:
            raise TooManyRequests("too many tokens wait for their issuer's keys, please try again later", retry_after=1)
        task = asyncio.get_running_loop().create_task(self._after(heard, token, said), name="wait for an issuer's keys")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _candidates(self, said: Unverified) -> tuple[Key, ...]:
        return self.keys.find(said.key_id, said.algorithm)

    async def _after(self, heard: asyncio.Future[None], token: str, said: Unverified) -> Identity:
        await heard
        if not self._candidates(said):
            raise self._unknown()
        try:
            return self._verified(token, said)
        except TokenRefused as refused:
            raise self._unauthorized(refused) from None

    def _verified(self, token: str, said: Unverified) -> Identity:
        for key in self._candidates(said):
            try:
                found: dict[str, Any] = jwt.decode(token, key.key, algorithms=[said.algorithm], options=ONLY_SIGNATURE)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                raise TokenRefused("malformed") from None
            return self._admitted(found, key)
        raise TokenRefused("signature")

    def _admitted(self, found: dict[str, Any], key: Key) -> Identity:
        expires = claims.check(found, self.config, self._clock())
        identity = Identity(claims.user(found, self.config), "oidc", expires=expires)
        self._issued[identity] = key
        return identity

    def _unknown(self) -> Unauthorized | IssuerUnavailable:
        """No key: the token's fault when the issuer has answered, the issuer's when it hasn't."""
        return IssuerUnavailable() if self.keys.health() else self._unauthorized(TokenRefused("unknown key"))

    def _unauthorized(self, refused: TokenRefused) -> Unauthorized:
        self._refusals[refused.reason] += 1
        return Unauthorized()

    def _forget(self, task: asyncio.Task[Identity]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # A client that went away awaits nothing; asyncio need not complain that nobody took the refusal.
            task.exception()

    def _withdrawn(self) -> None:
        """The issuer has other keys now: what rests on one that is gone ends."""
        numbers = {(key.id, key.key.public_numbers()) for key in self.keys.keys}
        for identity, key in list(self._issued.items()):
            if (key.id, key.key.public_numbers()) not in numbers:
                identity.valid = False

    def end(self) -> None:
        """No identity that it has given counts any more, and nobody waits for one."""
        for identity in list(self._issued):
            identity.valid = False
        for task in self._tasks:
            task.cancel()


class JWTAuthenticators:
    """Callers by OIDC token, as a configuration says. Lives on one event loop."""

    def __init__(
        self,
        configuration: AuthenticationConfiguration | str,
        disallowed_issuers: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        """`configuration`: a file's path (read again by `reload`), or what flags say (oidcconfig.from_flags).

        ConfigurationError when it can't be used. `disallowed_issuers`: the service accounts' own.
        """
        self._path = configuration if isinstance(configuration, str) else ""
        self._disallowed = tuple(disallowed_issuers)
        self._clock = clock
        self.refusals: Counter[str] = Counter()
        """Tokens refused, by reason (oidcclaims.REASONS)."""
        self._issuers: dict[str, _Issuer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._stamp = self._look()
        self._configuration = AuthenticationConfiguration()
        self._use(self._read() if isinstance(configuration, str) else configuration)

    @property
    def anonymous(self) -> Anonymous | None:
        """What the configuration says of anonymous callers; None: nothing."""
        return self._configuration.anonymous

    def identify(self, token: bytes) -> Identity | asyncio.Future[Identity] | None:
        """The caller, or a Future when an issuer's keys must be fetched; None for a token of no configured issuer.

        Raised, or in the Future: Unauthorized; IssuerUnavailable (503); TooManyRequests.
        """
        if not self._issuers or not token.isascii():
            return None
        text = token.decode("ascii")
        said = claims.unverified(text)
        issuer = self._issuers.get(said.issuer) if said is not None else None
        if said is None or issuer is None:
            return None
        return issuer.identify(text, said)

    def changed(self) -> bool:
        """Whether the file looks different from when it was read; True once per change."""
        return bool(self._path) and self._look() != self._stamp

    def reload(self) -> None:
        """Read the file again: entries that stayed the same keep their keys and callers, others end at once.

        ConfigurationError leaves what was read before in force.
        """
        if self._path:
            self._stamp = self._look()
            self._use(self._read())

    def health(self) -> str:
        """ "" when every issuer's keys are fresh, else one line for an operator."""
        return "; ".join(said for issuer in self._issuers.values() if (said := issuer.keys.health()))

    async def close(self) -> None:
        """Ends everything."""
        for issuer in self._issuers.values():
            issuer.end()
            await issuer.keys.close()
        for task in list(self._closing):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _read(self) -> AuthenticationConfiguration:
        return read(self._path, self._disallowed)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            seen = Path(self._path).stat() if self._path else None
        except OSError:
            return None
        return (seen.st_ino, seen.st_mtime_ns, seen.st_size) if seen is not None else None

    def _use(self, configuration: AuthenticationConfiguration) -> None:
        old, new = self._issuers, {}
        for config in configuration.jwt:
            known = old.get(config.issuer.url)
            same = known is not None and known.config == config
            new[config.issuer.url] = (
                known if known is not None and same else _Issuer(config, self._clock, self.refusals)
            )
        self._configuration, self._issuers = configuration, new
        for issuer in old.values():
            if issuer not in new.values():
                issuer.end()
                task = asyncio.get_running_loop().create_task(issuer.keys.close(), name="end an issuer's keys")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for issuer in new.values():
            issuer.keys.start()


__all__ = ["IssuerUnavailable", "JWTAuthenticators"]
