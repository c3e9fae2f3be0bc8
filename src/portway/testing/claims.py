"""What every `apiserver.allocator.Claims` must do, and claims without a store.

    class TestMine(ClaimsContract):
        @asynccontextmanager
        async def views(self) -> AsyncIterator[tuple[Claims, Claims]]:
            ...

Each test gets two views of the same claims, as two servers have them, with nothing taken of what it asks for, and no
test knows which implementation it has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from portway.apiserver.allocator import Claims, Held
from portway.kube.objects import Object

Contract = TypeVar("Contract", bound="ClaimsContract")

CIDR = "10.96.0.0/24"
"""The one range of all implementations under test; port 30000 and those behind it are node ports."""
WEB: Object = {"namespace": "demo", "name": "web"}
NAMESAKE: Object = {"namespace": "other", "name": "web"}
EVERY: tuple[Held, ...] = ("10.96.0.9", "fd00::9", 30009)
PATIENCE = 20.0
"""Seconds after which something that should have happened did not."""


class MemoryClaims(Claims):
    """Claims of one process, and of somebody faster: what is in `unseen` is taken, but only a claim finds out."""

    def __init__(self, *ranges: str, held: Iterable[Held] = (), unseen: Iterable[Held] = ()) -> None:
        self._ranges = ranges
        self._owners: dict[Held, tuple[str, str]] = dict.fromkeys(held, ("", ""))
        self._unseen = set(unseen)

    @property
    def held(self) -> set[Held]:
        """What is known to be taken."""
        return set(self._owners)

    def taken(self, what: Held) -> bool:
        """See `Claims`."""
        return what in self._owners

    async def claim(self, what: Held, service: Object) -> bool:
        """See `Claims`."""
        if what in self._owners or what in self._unseen:
            return False
        self._owners[what] = _key(service)
        return True

    async def release(self, held: Iterable[Held], service: Object) -> None:
        """See `Claims`."""
        for what in held:
            if self._owners.get(what) == _key(service):
                del self._owners[what]

    def ranges(self) -> Iterable[str]:
        """See `Claims`."""
        return self._ranges


def _key(service: Object) -> tuple[str, str]:
    return service["namespace"], service["name"]


def scenario(
    script: Callable[[Contract, Claims, Claims], Coroutine[Any, Any, None]],
) -> Callable[[Contract], None]:
    """Make an ordinary test of a coroutine that takes two views."""

    async def play(self: Contract) -> None:
        async with asyncio.timeout(PATIENCE), self.views() as (one, other):
            await script(self, one, other)

    def test(self: Contract) -> None:
        asyncio.run(play(self))

    test.__name__ = script.__name__
    test.__doc__ = script.__doc__
    return test


class ClaimsContract(ABC):
    """Subclass it in a test module."""

    @abstractmethod
    def views(self) -> AbstractAsyncContextManager[tuple[Claims, Claims]]:
        """Returns two views of the same claims; they may be one where only one process can have them."""

    @abstractmethod
    async def settled(self, claims: Claims) -> None:
        """Returns once `taken` and `ranges` know of what was finished before."""

    @scenario
    async def test_what_one_has_taken_is_nobody_else_s(self, one: Claims, other: Claims) -> None:
        """Not even the same service's a second time: who asks twice would give back twice."""
        for what in EVERY:
            assert await one.claim(what, WEB)
            for claims in (one, other):
                assert not await claims.claim(what, NAMESAKE)
                assert not await claims.claim(what, WEB)

    @scenario
    async def test_everybody_comes_to_know_of_it(self, one: Claims, other: Claims) -> None:
        """Of what is taken, and of nothing else."""
        for claims in (one, other):
            assert not any(claims.taken(what) for what in EVERY)
        for what in EVERY:
            assert await one.claim(what, WEB)
        for claims in (one, other):
            await self.settled(claims)
            assert all(claims.taken(what) for what in EVERY)
            assert not claims.taken("10.96.0.10")
            assert not claims.taken(30010)
        await one.release(EVERY, WEB)
        for claims in (one, other):
            await self.settled(claims)
            assert not any(claims.taken(what) for what in EVERY)

    @scenario
    async def test_of_those_who_ask_at_once_one_gets_it(self, one: Claims, other: Claims) -> None:
        """From whichever server."""
        for what in EVERY:
            services = [{"namespace": "demo", "name": f"s{i}"} for i in range(10)]
            asked = [(one, other)[i % 2].claim(what, service) for i, service in enumerate(services)]
            assert sorted(await asyncio.gather(*asked)) == [False] * 9 + [True]

    @scenario
    async def test_what_is_given_back_can_be_had_again(self, one: Claims, other: Claims) -> None:
        """All of it in one call, and by the other server; what was never taken is no matter."""
        for what in EVERY:
            assert await one.claim(what, WEB)
        await other.release([*EVERY, "10.96.0.200", 30200], WEB)
        await other.release(EVERY, WEB)
        for what in EVERY:
            assert await one.claim(what, NAMESAKE)

    @scenario
    async def test_nobody_gives_back_what_is_another_s(self, one: Claims, other: Claims) -> None:
        """A service of the same name in another namespace is another."""
        for what in EVERY:
            assert await one.claim(what, WEB)
        for claims in (one, other):
            await claims.release(EVERY, NAMESAKE)
        for what in EVERY:
            assert not await other.claim(what, NAMESAKE)

    @scenario
    async def test_many_are_taken_and_given_back_at_once(self, one: Claims, other: Claims) -> None:
        """Claims on different things don't meet."""
        many: list[Held] = [*(f"10.96.0.{i}" for i in range(20, 60)), *range(30020, 30060)]
        assert all(await asyncio.gather(*((one, other)[i % 2].claim(what, WEB) for i, what in enumerate(many))))
        await one.release(many, WEB)
        assert all(await asyncio.gather(*(other.claim(what, NAMESAKE) for what in many)))

    @scenario
    async def test_the_ranges_are_the_cluster_s(self, one: Claims, other: Claims) -> None:
        """The same whoever is asked."""
        for claims in (one, other):
            await self.settled(claims)
            assert list(claims.ranges()) == [CIDR]
