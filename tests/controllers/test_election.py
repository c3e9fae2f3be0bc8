"""Leader election: one at a time, whatever becomes of the one that leads. In virtual time."""

from __future__ import annotations

import asyncio
import copy

from portway.client.protocol import ApiUnreachable
from portway.controllers.election import LEASE_SECONDS, LEASES, LeaderElection
from portway.kube.errors import AlreadyExists, Conflict, NotFound
from portway.kube.objects import Object
from portway.testing.virtualtime import play


class Leases:
    """The API's leases, as one client sees them; `cut` takes it off the network."""

    def __init__(self, stored: dict[str, Object]) -> None:
        self._stored = stored
        self.cut = False
        self.slow = 0.0
        """Seconds from an update to the answer."""

    def _reach(self) -> None:
        if self.cut:
            raise ApiUnreachable("cut")

    async def get(self, path: str) -> Object:
        self._reach()
        if path not in self._stored:
            raise NotFound(path)
        return copy.deepcopy(self._stored[path])

    async def create(self, path: str, obj: Object) -> Object:
        self._reach()
        path = f"{path}/{obj['metadata']['name']}"
        if path in self._stored:
            raise AlreadyExists(path)
        return self._store(path, obj, 1)

    async def update(self, path: str, obj: Object) -> Object:
        self._reach()
        await asyncio.sleep(0)  # others may come first
        version = self._stored[path]["metadata"]["resourceVersion"]
        if obj["metadata"]["resourceVersion"] != version:
            raise Conflict(path)
        stored = self._store(path, obj, int(version) + 1)
        await asyncio.sleep(self.slow)
        return stored

    def _store(self, path: str, obj: Object, version: int) -> Object:
        self._stored[path] = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}
        return copy.deepcopy(self._stored[path])


class Servers:
    """Several servers that compete; `working` are those at work, `terms` the begin of each term."""

    def __init__(self) -> None:
        self.stored: dict[str, Object] = {}
        self.working: set[str] = set()
        self.terms: list[tuple[str, float]] = []
        self.clients: dict[str, Leases] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.changed = asyncio.Event()

    def start(self, name: str) -> None:
        self.clients[name] = Leases(self.stored)
        election = LeaderElection(self.clients[name], name)

        async def work() -> None:
            assert not self.working, "two at once"
            self.working.add(name)
            self.terms.append((name, asyncio.get_running_loop().time()))
            self.changed.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.working.discard(name)

        self.tasks[name] = asyncio.create_task(election.run(work))

    async def next_term(self) -> tuple[str, float]:
        self.changed.clear()
        async with asyncio.timeout(120):  # of virtual time
            await self.changed.wait()
        return self.terms[-1]

    async def stop(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks.pop(name), return_exceptions=True)

    @property
    def lease(self) -> Object:
        return self.stored[f"{LEASES}/kube-controller-manager"]


def test_one_leads_and_is_followed_at_once_when_it_stops_orderly() -> None:
    async def script() -> None:
        servers = Servers()
        for name in "abc":
            servers.start(name)
        first, _ = await servers.next_term()
        await asyncio.sleep(100)
        assert len(servers.terms) == 1
        assert servers.lease["spec"]["holderIdentity"].startswith(f"{first}_")
        now = asyncio.get_running_loop().time()
        await servers.stop(first)
        second, began = await servers.next_term()
        assert second != first
        assert began - now < 3
        assert servers.lease["spec"]["leaseTransitions"] == 1
        for name in list(servers.tasks):
            await servers.stop(name)
        assert servers.lease["spec"]["holderIdentity"] == ""

    play(script())


def test_one_that_vanishes_is_followed_within_15_seconds_and_never_works_beside_its_successor() -> None:
    async def script() -> None:
        for delay in (0.0, 0.5, 1.0, 1.9):
            servers = Servers()
            for name in "ab":
                servers.start(name)
            first, _ = await servers.next_term()
            await asyncio.sleep(30 + delay)
            servers.clients[first].cut = True
            now = asyncio.get_running_loop().time()
            second, began = await servers.next_term()
            assert second != first
            assert LEASE_SECONDS - 3 < began - now < 15
            assert servers.working == {second}
            for name in list(servers.tasks):
                await servers.stop(name)

    play(script())


def test_one_whose_last_answer_was_slow_does_not_work_longer_than_its_lease() -> None:
    """The others count from when the renewal was stored, which may be long before the leader hears of it."""

    async def script() -> None:
        servers = Servers()
        for name in "ab":
            servers.start(name)
        first, _ = await servers.next_term()
        await asyncio.sleep(30)
        servers.clients[first].slow = 6.5
        version = servers.lease["metadata"]["resourceVersion"]
        while servers.lease["metadata"]["resourceVersion"] == version:
            await asyncio.sleep(0.1)
        servers.clients[first].cut = True
        second, _ = await servers.next_term()
        assert second != first
        assert servers.working == {second}
        for name in list(servers.tasks):
            await servers.stop(name)

    play(script())


def test_a_short_absence_of_the_api_changes_nothing() -> None:
    async def script() -> None:
        servers = Servers()
        for name in "ab":
            servers.start(name)
        first, _ = await servers.next_term()
        for client in servers.clients.values():
            client.cut = True
        await asyncio.sleep(5)
        for client in servers.clients.values():
            client.cut = False
        await asyncio.sleep(60)
        assert servers.terms == [servers.terms[0]]
        assert servers.working == {first}
        for name in list(servers.tasks):
            await servers.stop(name)

    play(script())


def test_work_that_fails_gives_the_lease_back_and_is_told() -> None:
    async def script() -> None:
        client = Leases({})

        async def work() -> None:
            raise ValueError("broken")

        election = LeaderElection(client, "a")
        (error,) = await asyncio.gather(election.run(work), return_exceptions=True)
        assert isinstance(error, ValueError)
        lease = await client.get(f"{LEASES}/kube-controller-manager")
        assert lease["spec"]["holderIdentity"] == ""

    play(script())
