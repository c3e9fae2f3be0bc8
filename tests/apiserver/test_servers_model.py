"""Random operations through API servers in processes of their own, against a plain model of what was acknowledged.

Two servers on one etcd, and one on SQLite; servers and etcd are killed (`kill -9`) at random, also amid writes. What is
checked: every answer is the one the model gives (linearizable per key: each write rests on the last one acknowledged by
whichever server), watches tell all changes once in the order of revisions, and nothing acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from portway.client.api import MERGE_PATCH, ApiClient, ApiUnreachable
from portway.kube.errors import AlreadyExists, Conflict, NotFound, ServiceUnavailable, StatusError
from portway.kube.objects import Object
from portway.testing.apiprocess import ApiProcess
from portway.testing.etcd import binaries, running

PATH = "/api/v1/namespaces/default/secrets"
NAMES = st.sampled_from(["a", "b", "c", "d"])
SERVERS = st.integers(min_value=0, max_value=1)
SECONDS = 30.0


@dataclass(frozen=True)
class Change:
    """One acknowledged change: what a watch must tell."""

    revision: int
    type: str
    name: str
    value: str


def version_of(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


def value_of(obj: Object) -> str:
    return str(obj["metadata"]["annotations"]["v"])


def secret(name: str, value: str, version: int = 0) -> Object:
    metadata: Object = {"name": name, "annotations": {"v": value}}
    if version:
        metadata["resourceVersion"] = str(version)
    return {"metadata": metadata}


class ServersMachine(RuleBasedStateMachine):
    """The model: the objects as last acknowledged, and all changes since the first server began."""

    count = 1
    """How many servers there are."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.runner = asyncio.Runner()
        place = self.place()
        self.servers = [ApiProcess(place, self.directory / f"{n}.sock") for n in range(self.count)]
        self.state: dict[str, Object] = {}
        self.changes: list[Change] = []
        self.values = 0
        self.kills = 0
        for server in self.servers:
            self.run(server.start())
        self.begin = int(self.run(self.servers[0].client.list(PATH)).resource_version)
        self.forgotten = self.begin
        """Watches from before this may be told 410: a server that began later doesn't know what was before."""

    def place(self) -> str:
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(SECONDS):
                return await work

        return self.runner.run(within())

    def teardown(self) -> None:
        for server in self.servers:
            self.run(server.close())
        self.runner.close()
        self.stack.close()

    def client(self, server: int) -> ApiClient:
        return self.servers[server % self.count].client

    def value(self) -> str:
        self.values += 1
        return str(self.values)

    @property
    def revision(self) -> int:
        return self.changes[-1].revision if self.changes else self.begin

    # What was acknowledged

    def written(self, obj: Object, type_: str) -> None:
        name, revision = obj["metadata"]["name"], version_of(obj)
        assert revision > self.revision, "a revision that is not later than those acknowledged before"
        self.state[name] = obj
        self.changes.append(Change(revision, type_, name, value_of(obj)))

    def gone(self, name: str, revision: int) -> None:
        value = value_of(self.state.pop(name))
        self.changes.append(Change(revision, "DELETED", name, value))

    # One after another

    @rule(server=SERVERS, name=NAMES)
    def create(self, server: int, name: str) -> None:
        making = self.client(server).create(PATH, secret(name, self.value()))
        if name in self.state:
            with pytest.raises(AlreadyExists):
                self.run(making)
        else:
            self.written(self.run(making), "ADDED")

    @rule(server=SERVERS, name=NAMES, stale=st.booleans())
    def update(self, server: int, name: str, stale: bool) -> None:
        known = self.state.get(name)
        version = (version_of(known) if known else self.revision) - stale
        updating = self.client(server).update(f"{PATH}/{name}", secret(name, self.value(), version))
        if known is None or stale:
            with pytest.raises(NotFound if known is None else Conflict):
                self.run(updating)
        else:
            self.written(self.run(updating), "MODIFIED")

    @rule(server=SERVERS, name=NAMES)
    def patch(self, server: int, name: str) -> None:
        change = {"metadata": {"annotations": {"v": self.value()}}}
        patching = self.client(server).patch(f"{PATH}/{name}", change, MERGE_PATCH)
        if name in self.state:
            self.written(self.run(patching), "MODIFIED")
        else:
            with pytest.raises(NotFound):
                self.run(patching)

    @rule(server=SERVERS, name=NAMES)
    def delete(self, server: int, name: str) -> None:
        deleting = self.client(server).delete(f"{PATH}/{name}")
        if name in self.state:
            self.run(deleting)
            self.gone(name, int(self.run(self.client(server).list(PATH)).resource_version))
        else:
            with pytest.raises(NotFound):
                self.run(deleting)

    @rule(server=SERVERS, name=NAMES)
    def get(self, server: int, name: str) -> None:
        getting = self.client(server).get(f"{PATH}/{name}")
        if name in self.state:
            assert bare(self.run(getting)) == bare(self.state[name])
        else:
            with pytest.raises(NotFound):
                self.run(getting)

    @rule(first=SERVERS, second=SERVERS, server=SERVERS, name=NAMES)
    def list_in_pages(self, first: int, second: int, server: int, name: str) -> None:
        """A list goes on at another server, and is of one revision though there was a write between its pages."""
        before = [self.state[key] for key in sorted(self.state)]
        page = self.run(self.client(first).get(PATH, {"limit": "2"}))
        found = page["items"]
        self.patch(server, name)
        while token := page["metadata"].get("continue"):
            page = self.run(self.client(second).get(PATH, {"limit": "2", "continue": token}))
            found += page["items"]
        assert [bare(obj) for obj in found] == [bare(obj) for obj in before]

    @rule(server=SERVERS, back=st.integers(min_value=0, max_value=12))
    def watch(self, server: int, back: int) -> None:
        """From some change on, up to the last one: all of them, once, in order."""
        place = max(len(self.changes) - back, 0)
        after = self.changes[place - 1].revision if place else self.begin
        expected = self.changes[place:]

        async def told() -> list[Change]:
            seen: list[Change] = []
            events = self.client(server).watch(PATH, str(after))
            async for type_, obj in events:
                if type_ != "BOOKMARK":
                    seen.append(Change(version_of(obj), type_, obj["metadata"]["name"], value_of(obj)))
                if len(seen) == len(expected):
                    break
            await events.aclose()
            return seen

        try:
            assert self.run(told()) == expected
        except StatusError as error:
            if error.code != 410 or after >= self.forgotten:
                raise

    # Several at once

    @rule(name=NAMES, rivals=st.lists(SERVERS, min_size=2, max_size=5))
    def rivals(self, name: str, rivals: list[int]) -> None:
        """Writes of the same key from the same state: one wins, whichever servers they go through."""
        known = self.state.get(name)

        async def together() -> list[Object | BaseException]:
            writes = [self._rival(server, name, known) for server in rivals]
            return await asyncio.gather(*writes, return_exceptions=True)

        results = self.run(together())
        won = [result for result in results if not isinstance(result, BaseException)]
        assert len(won) == 1
        assert all(isinstance(result, dict | AlreadyExists | Conflict) for result in results)
        self.written(won[0], "MODIFIED" if known else "ADDED")

    def _rival(self, server: int, name: str, known: Object | None) -> Coroutine[Any, Any, Object]:
        if known is None:
            return self.client(server).create(PATH, secret(name, self.value()))
        return self.client(server).update(f"{PATH}/{name}", secret(name, self.value(), version_of(known)))

    # Kills

    @precondition(lambda self: self.kills < 2)
    @rule(victim=SERVERS, acknowledged=st.integers(min_value=0, max_value=3))
    def kill_a_server_amid_writes(self, victim: int, acknowledged: int) -> None:
        server = self.servers[victim % self.count]
        self._killed_amid_writes(server.kill, server.start, acknowledged)
        self.forgotten = self.revision

    def _killed_amid_writes(
        self, kill: Callable[[], None], start: Callable[[], Coroutine[Any, Any, None]], acknowledged: int
    ) -> None:
        """One write per key through each server in turn; the kill comes after so many acknowledgements."""
        self.kills += 1
        heard = asyncio.Event()
        results: dict[str, Object | BaseException] = {}
        wanted = {name: self.value() for name in ("a", "b", "c", "d")}

        async def write(server: int, name: str) -> None:
            try:
                results[name] = await self._put(self.client(server), name, wanted[name])
            except (StatusError, ApiUnreachable) as error:
                results[name] = error
            if len(results) >= acknowledged:
                heard.set()

        async def play() -> None:
            writing = [asyncio.create_task(write(n, name)) for n, name in enumerate(wanted)]
            if acknowledged:
                await heard.wait()
            kill()
            await asyncio.gather(*writing)
            await start()

        self.run(play())
        self._reconcile(results, wanted)

    async def _put(self, client: ApiClient, name: str, value: str) -> Object:
        known = self.state.get(name)
        if known is None:
            return await client.create(PATH, secret(name, value))
        return await client.update(f"{PATH}/{name}", secret(name, value, version_of(known)))

    def _reconcile(self, results: dict[str, Object | BaseException], wanted: dict[str, str]) -> None:
        """What was acknowledged is there; what wasn't is there or not, but whole."""
        items = self.run(self.client(0).list(PATH)).items
        found = {obj["metadata"]["name"]: obj for obj in items}
        happened = []
        for name, result in results.items():
            obj = found.get(name)
            if not isinstance(result, BaseException):
                assert obj is not None, "an acknowledged write is lost"
                assert bare(obj) == bare(result)
            else:
                assert isinstance(result, ApiUnreachable | ServiceUnavailable | AlreadyExists | Conflict), result
            if obj is not None and value_of(obj) == wanted[name]:
                happened.append(obj)
            else:
                assert (bare(obj) if obj else None) == (bare(self.state[name]) if name in self.state else None)
        for obj in sorted(happened, key=version_of):
            self.written(obj, "MODIFIED" if obj["metadata"]["name"] in self.state else "ADDED")

    @invariant()
    def every_server_says_the_same(self) -> None:
        for server in self.servers:
            page = self.run(server.client.list(PATH))
            assert [bare(obj) for obj in page.items] == [bare(self.state[name]) for name in sorted(self.state)]
            assert int(page.resource_version) >= self.revision


def bare(obj: Object) -> Object:
    """Without what the members of a list go without."""
    return {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}


class SqliteMachine(ServersMachine):
    """One server on a file."""

    def place(self) -> str:
        return str(self.directory / "cluster.db")


class EtcdMachine(ServersMachine):
    """Two servers on one etcd, which is killed too."""

    count = 2

    def place(self) -> str:
        self.etcd = self.stack.enter_context(running(next(iter(binaries().values())), self.directory / "etcd"))
        return f"etcd://{self.etcd.endpoint}"

    @precondition(lambda self: self.kills < 2)
    @rule(acknowledged=st.integers(min_value=0, max_value=3))
    def kill_etcd_amid_writes(self, acknowledged: int) -> None:
        async def start() -> None:
            await asyncio.to_thread(self.etcd.start)

        self._killed_amid_writes(self.etcd.kill, start, acknowledged)


class LongSqliteMachine(SqliteMachine):
    """The same, for longer."""


class LongEtcdMachine(EtcdMachine):
    """The same, for longer."""


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )


TestSqliteServer = SqliteMachine.TestCase
TestSqliteServer.settings = _settings(2, 20)
pytest.mark.timeout(300)(TestSqliteServer)
TestLongSqliteServer = LongSqliteMachine.TestCase
TestLongSqliteServer.settings = _settings(25, 50)
pytest.mark.slow(pytest.mark.timeout(900)(TestLongSqliteServer))

if binaries():
    TestEtcdServers = EtcdMachine.TestCase
    TestEtcdServers.settings = _settings(2, 20)
    pytest.mark.timeout(300)(TestEtcdServers)
    TestLongEtcdServers = LongEtcdMachine.TestCase
    TestLongEtcdServers.settings = _settings(25, 50)
    pytest.mark.slow(pytest.mark.timeout(900)(TestLongEtcdServers))
