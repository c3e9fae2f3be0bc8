"""What every authenticator of bearer tokens must do (`gateway.authentication.TokenAuthenticator`).

    class TestMine(AuthenticatorContract):
        async def make(self) -> Subject: ...

A subject is an authenticator with a token that it accepts, one that is wrong, and a way to withdraw the first one.
"""

from __future__ import annotations

import asyncio
import gc
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from portway.gateway.authentication import Identity, TokenAuthenticator
from portway.kube.errors import StatusError, Unauthorized
from portway.kube.identity import AUTHENTICATED, User

Contract = TypeVar("Contract", bound="AuthenticatorContract")

PATIENCE = 20.0
ODD = (b"", b".", b"..", b"a.b.c", b"\xff\xfe", b"\x00", b"e30.e30.e30", b"eyJhbGciOiJub25lIn0.e30.", b"x" * 70_000)


@dataclass(frozen=True)
class Subject:
    """One authenticator under test. `withdraw` makes `good` wrong from now on (or after what it awaits)."""

    authenticator: TokenAuthenticator
    good: bytes
    bad: bytes
    user: User
    withdraw: Callable[[], Coroutine[Any, Any, None]]


async def identified(authenticator: TokenAuthenticator, token: bytes) -> Identity | None:
    """Who it is, waited for if need be; None when it is nobody, or not this authenticator's to say."""
    try:
        answer = authenticator.identify(token)
        return await answer if isinstance(answer, asyncio.Future) else answer
    except Unauthorized:
        return None


def scenario(script: Callable[[Contract, Subject], Coroutine[Any, Any, None]]) -> Callable[[Contract], None]:
    """Make an ordinary test of a coroutine that takes a subject."""

    async def run(self: Contract) -> None:
        async with asyncio.timeout(PATIENCE), self.subject() as subject:
            await script(self, subject)

    def test(self: Contract) -> None:
        self.play(run(self))

    test.__name__ = script.__name__
    test.__doc__ = script.__doc__
    return test


class AuthenticatorContract(ABC):
    """The suite."""

    @abstractmethod
    @asynccontextmanager
    def subject(self) -> AsyncIterator[Subject]:
        """A new subject."""

    def play(self, script: Coroutine[Any, Any, None]) -> None:
        """Runs one test; where there are no sockets it may be in virtual time."""
        asyncio.run(script)

    def now(self) -> float:
        """The wall clock that identities are made by."""
        import time

        return time.time()

    @scenario
    async def test_the_owner_of_a_good_token(self, subject: Subject) -> None:
        identity = await identified(subject.authenticator, subject.good)
        assert identity is not None
        assert identity.user.name == subject.user.name
        assert set(subject.user.groups) | {AUTHENTICATED} == set(identity.user.groups)
        assert identity.alive(self.now)

    @scenario
    async def test_nobody_with_a_wrong_token(self, subject: Subject) -> None:
        assert await identified(subject.authenticator, subject.bad) is None
        assert await identified(subject.authenticator, subject.good) is not None

    @scenario
    async def test_a_token_by_half_is_wrong(self, subject: Subject) -> None:
        for token in (subject.good[:-1], subject.good[1:], subject.good + b"x", subject.good.swapcase()):
            assert await identified(subject.authenticator, token) is None

    @scenario
    async def test_nothing_but_status_errors_comes_of_odd_tokens(self, subject: Subject) -> None:
        for token in ODD:
            try:
                answer = subject.authenticator.identify(token)
                found = await answer if isinstance(answer, asyncio.Future) else answer
            except StatusError:
                found = None
            assert found is None

    @scenario
    async def test_many_askers_of_one_token_hear_the_same(self, subject: Subject) -> None:
        found = await asyncio.gather(*(identified(subject.authenticator, subject.good) for _ in range(20)))
        assert {identity.user.name for identity in found if identity is not None} == {subject.user.name}
        assert None not in found

    @scenario
    async def test_a_withdrawn_token_ends_its_identity(self, subject: Subject) -> None:
        identity = await identified(subject.authenticator, subject.good)
        assert identity is not None
        await subject.withdraw()
        assert not identity.alive(self.now)
        assert await identified(subject.authenticator, subject.good) is None

    @scenario
    async def test_prints_no_token(self, subject: Subject) -> None:
        identity = await identified(subject.authenticator, subject.good)
        said = [repr(identity), repr(subject.authenticator), subject.authenticator.health()]
        try:
            await identified(subject.authenticator, subject.bad)
        except StatusError as error:
            said += [str(error), repr(error), str(error.status())]
        secret = subject.good.decode()[-12:]
        assert not [text for text in said if secret in text or subject.bad.decode()[-12:] in text]

    @scenario
    async def test_refusals_that_nobody_awaits_are_no_noise(self, subject: Subject) -> None:
        try:
            answer = subject.authenticator.identify(subject.bad)
        except Unauthorized:
            return
        if isinstance(answer, asyncio.Future):
            await asyncio.wait([answer])
        del answer
        gc.collect()


__all__ = ["AuthenticatorContract", "Subject", "identified", "scenario"]
