"""Bearer tokens that the cluster's API knows and we don't: it is asked with a TokenReview.

Caching is upstream's delegating authenticator's: a yes counts for ten seconds, so does a no without an error, an error
never. Beyond upstream: one question per token at a time, a bound on all of them, a breaker (`gateway.reviews`), and
while the API can't be asked a token that was good goes on for a configured grace. A token that is refused ends its
identity at once, open upgrades included; one that carries an upgrade is asked about again before its time is over.

Nothing here is keyed by a token: keys are BLAKE2 sums under a key that this process made up.
"""

import asyncio
import contextlib
import os
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from time import time
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from portway.gateway.authentication.cache import RecentCache
from portway.gateway.authentication.identity import Identity
from portway.gateway.flights import Flights
from portway.gateway.reviews import GRACE, HURRY, Creates, Reviewer, ReviewUnavailable
from portway.kube.errors import TooManyRequests, Unauthorized
from portway.kube.identity import User, with_authenticated
from portway.kube.objects import Object

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
TTL: Final = 10.0
"""Seconds that an answer counts (DelegatingAuthenticationOptions.CacheTTL)."""
CACHED: Final = 4096
"""Tokens remembered in one worker (upstream: 32 × 128)."""
SPARE: Final = 64
"""Of the questions under way, those kept for tokens that were good lately: a flood of bad ones must not end them."""
LEASE: Final = 5.0
"""Seconds by which the grace is handed out: an answer that comes back cuts it short."""
SKEW: Final = 60.0
"""Seconds that clocks may differ before a token that says it has expired is refused without asking."""


class ReviewedIdentity(Identity):
    """An identity on lease. `answered`: when the API last said yes, by the loop's clock; `lease`: until when it counts.

    An open upgrade asks `alive` every second: in the second half of a lease that renews it.
    """

    __slots__ = ("_renew", "answered", "lease", "renew_at")

    def __init__(self, user: User, renew: Callable[["ReviewedIdentity"], None]) -> None:
        super().__init__(user, "tokenreview", expires=0.0)
        self._renew = renew
        self.answered = self.lease = self.renew_at = 0.0

    def alive(self, now: Callable[[], float] = time) -> bool:
        if self.valid:
            self._renew(self)
        return super().alive(now)


@dataclass(frozen=True, slots=True)
class _Held:
    """What is needed to ask again."""

    key: bytes
    token: str = field(repr=False)


class TokenReviews:
    """Callers by a token that the API confirms. Lives on one event loop."""

    def __init__(
        self,
        api: Creates,
        audiences: Sequence[str] = (),
        *,
        ttl: float = TTL,
        grace: float = GRACE,
        reviewer: Reviewer | None = None,
        wall: Callable[[], float] = time,
    ) -> None:
        """`audiences`: of which a token must be for one; empty: for the API server's own, whatever they are."""
        self._reviewer = reviewer or Reviewer(api, PATH, "authentication.k8s.io/v1 TokenReview")
        self._audiences = tuple(audiences)
        self._ttl = ttl
        self._grace = grace
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._secret = os.urandom(32)
        self._known: RecentCache[bytes, ReviewedIdentity] = RecentCache(CACHED)
        self._refused: RecentCache[bytes, float] = RecentCache(CACHED)
        # Also those that the cache has forgotten: a connection may still hold them.
        self._held: WeakKeyDictionary[ReviewedIdentity, _Held] = WeakKeyDictionary()
        self._flights: Flights[bytes, Identity] = Flights("token reviews")

    def identify(self, token: bytes) -> Identity | asyncio.Future[Identity]:
        """The caller, or a Future when the API must be asked.

        Raised, or in the Future: Unauthorized when the API says no; ReviewUnavailable (503) when it can't be asked
        and nothing that is known counts; TooManyRequests.
        """
        key = blake2b(token, key=self._secret, digest_size=32).digest()
        now = self._loop.time()
        known = self._known.get(key)
        if known is not None and known.valid and known.lease > now:
            return known
        refused = self._refused.get(key)
        if refused is not None and refused > now:
            raise Unauthorized
        try:
            held = _Held(key, token.decode())
        except UnicodeDecodeError:
            raise Unauthorized from None
        graced = known if known is not None and self._graced(known) else None
        if self._reviewer.refusing or (graced is not None and self._flights.age(key) >= HURRY):
            return self._fallback(known, held, self._reviewer.unavailable())
        answer = self._ask(held, known)
        if graced is not None:
            self._loop.call_later(HURRY, self._hurry, held, graced, answer)
        return answer

    def health(self) -> str:
        """ "" when the API answers, else one line for an operator."""
        return self._reviewer.health()

    def close(self) -> None:
        """Give up what is being asked."""
        self._flights.close()

    def _ask(self, held: _Held, known: ReviewedIdentity | None) -> asyncio.Future[Identity]:
        return self._flights.ask(held.key, partial(self._review, held, known), spare=0 if known is not None else SPARE)

    async def _review(self, held: _Held, known: ReviewedIdentity | None) -> Identity:
        spec: Object = {"token": held.token}
        if self._audiences:
            spec["audiences"] = list(self._audiences)
        try:
            status = await self._reviewer.ask(spec, patient=known is None or not self._graced(known))
        except ReviewUnavailable as error:
            return self._fallback(known, held, error)
        user = reviewed_user(status, self._audiences)
        if user is None:
            self._refuse(held, known, remember=not status.get("error"))
            raise Unauthorized
        return self._admit(held, known, user)

    def _admit(self, held: _Held, known: ReviewedIdentity | None, user: User) -> Identity:
        identity = known
        if identity is None or not identity.valid or identity.user != user:
            if identity is not None:
                identity.valid = False
            identity = ReviewedIdentity(user, self._renew)
        identity.answered = self._loop.time()
        self._lease(identity, self._ttl)
        self._held[identity] = held
        self._known.put(held.key, identity)
        return identity

    def _refuse(self, held: _Held, known: ReviewedIdentity | None, *, remember: bool) -> None:
        if known is not None:
            known.valid = False
        if remember:
            self._refused.put(held.key, self._loop.time() + self._ttl)

    def _hurry(self, held: _Held, known: ReviewedIdentity, answer: asyncio.Future[Identity]) -> None:
        """Who waits for an answer that does not come is who it was; the question goes on."""
        if not answer.done() and self._graced(known):
            answer.set_result(self._fallback(known, held, self._reviewer.unavailable()))

    def _fallback(self, known: ReviewedIdentity | None, held: _Held, error: ReviewUnavailable) -> Identity:
        """Who was good lately goes on, for the grace; nobody else."""
        if known is not None and self._graced(known):
            self._lease(known, min(LEASE, self._end(known) - self._loop.time()))
            return known
        if says_expired(held.token, self._wall() - SKEW):
            raise Unauthorized
        raise error

    def _end(self, identity: ReviewedIdentity) -> float:
        """The moment after which an answer counts no more, by the loop's clock, come what may."""
        return identity.answered + self._ttl + self._grace

    def _graced(self, identity: ReviewedIdentity) -> bool:
        return not self._reviewer.refused and identity.valid and self._end(identity) > self._loop.time()

    def _lease(self, identity: ReviewedIdentity, seconds: float) -> None:
        identity.lease = self._loop.time() + seconds
        identity.renew_at = identity.lease - seconds / 2
        identity.expires = self._wall() + seconds
        # A wall clock that is set back must not prolong it.
        self._loop.call_at(identity.lease, self._lapse, identity)

    def _lapse(self, identity: ReviewedIdentity) -> None:
        if self._loop.time() < identity.lease or not identity.valid:
            return
        held = self._held[identity]
        if held.key in self._flights and self._graced(identity):
            # It was asked in good time, and there is no answer yet: an outage so far.
            self._lease(identity, min(LEASE, self._end(identity) - self._loop.time()))
        else:
            identity.expires = min(identity.expires, self._wall())

    def _renew(self, identity: ReviewedIdentity) -> None:
        """Asks again for an identity that is in use beyond single requests, in the second half of its lease."""
        now = self._loop.time()
        if now < identity.renew_at or now >= identity.lease:
            return
        held = self._held[identity]
        if held.key in self._flights:
            return
        if not self._reviewer.refusing:
            with contextlib.suppress(TooManyRequests):  # there is a next second
                self._ask(held, identity)
        elif self._graced(identity):
            self._lease(identity, min(LEASE, self._end(identity) - now))


def reviewed_user(status: Mapping[str, Any], audiences: Sequence[str]) -> User | None:
    """Who a TokenReview's status says it is, as every authenticated user; None when it is nobody.

    Of asked `audiences` the answer must name one: a server that names none did not look.
    """
    user = status.get("user")
    if status.get("authenticated") is not True or status.get("error") or not isinstance(user, dict):
        return None
    if audiences and not set(audiences).intersection(_texts(status.get("audiences"))):
        return None
    name, uid, extra = user.get("username"), user.get("uid") or "", user.get("extra") or {}
    if not isinstance(name, str) or not name or not isinstance(uid, str) or not isinstance(extra, dict):
        return None
    values = {str(key): _texts(value) for key, value in extra.items()}
    return with_authenticated(User(name, uid, _texts(user.get("groups")), values))


def says_expired(token: str, now: float) -> bool:
    """Whether a token is a JWT that says itself that it has expired; nothing of it is verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return False
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return False
    expires = claims.get("exp") if isinstance(claims, dict) else None
    return isinstance(expires, (int, float)) and not isinstance(expires, bool) and expires < now


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


__all__ = ["ReviewedIdentity", "TokenReviews", "reviewed_user", "says_expired"]
