"""Random histories: all stores against a plain dict that remembers every state it was in."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from portway.storage import (
    Compacted,
    Event,
    FutureRevision,
    KeyExists,
    KeyMissing,
    KeyValue,
    MemoryStore,
    RevisionMismatch,
    SqliteStore,
    Store,
    Watch,
)
from portway.storage.etcd import EtcdStore
from portway.storage.protocol import FIRST_REVISION
from portway.testing.etcd import binaries, running

State = dict[str, KeyValue]

KEYS = st.sampled_from(["/a", "/a/1", "/a/2", "/a/2/x", "/b", "/b/é", "/\U0001f511"])
PREFIXES = st.sampled_from(["", "/", "/a", "/a/", "/b", "/\U0001f511", "/none"])
VALUES = st.binary(max_size=8)
STEPS_BACK = st.integers(min_value=-1, max_value=12)


@dataclass
class Follower:
    """A watch, and the last revision it has delivered (or begun after)."""

    watch: Watch
    prefix: str
    seen: int


class StoreMachine(RuleBasedStateMachine):
    """Each rule does the same to store and model and compares the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store: Store = self.run(self.open_store())
        self.states: list[State] = [{}, {}]  # by revision
        self.events: list[Event] = []
        self.compacted = 0
        self.watches: list[Follower] = []

    async def open_store(self) -> Store:
        raise NotImplementedError

    def run(self, awaitable: Any) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(20):
                return await awaitable

        return self.runner.run(within())

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    @property
    def state(self) -> State:
        return self.states[-1]

    def happened(self, event: Event) -> None:
        state = dict(self.state)
        if event.type == "PUT":
            state[event.kv.key] = event.kv
        else:
            del state[event.kv.key]
        self.states.append(state)
        self.events.append(event)

    def expected_revision(self, key: str, right: bool) -> int:
        kv = self.state.get(key)
        return kv.mod_revision if kv and right else self.revision + 5

    @rule(key=KEYS, value=VALUES)
    def create(self, key: str, value: bytes) -> None:
        if key in self.state:
            with pytest.raises(KeyExists) as caught:
                self.run(self.store.create(key, value))
            assert caught.value.current == self.state[key]
        else:
            revision = self.run(self.store.create(key, value))
            assert revision == self.revision + 1
            self.happened(Event("PUT", KeyValue(key, value, revision, revision), None, True))

    @rule(key=KEYS, value=VALUES, right=st.booleans())
    def update(self, key: str, value: bytes, right: bool) -> None:
        before, expected = self.state.get(key), self.expected_revision(key, right)
        if before is None or not right:
            with pytest.raises(RevisionMismatch) as caught:
                self.run(self.store.update(key, value, expected))
            assert caught.value.current == before
        else:
            revision = self.run(self.store.update(key, value, expected))
            assert revision == self.revision + 1
            self.happened(Event("PUT", KeyValue(key, value, before.create_revision, revision), before.value, False))

    @rule(key=KEYS, how=st.sampled_from(["right", "wrong", "any"]))
    def delete(self, key: str, how: str) -> None:
        before = self.state.get(key)
        expected = 0 if how == "any" else self.expected_revision(key, how == "right")
        if before is None:
            with pytest.raises(KeyMissing):
                self.run(self.store.delete(key, expected))
        elif how == "wrong":
            with pytest.raises(RevisionMismatch):
                self.run(self.store.delete(key, expected))
        else:
            kv = KeyValue(key, before.value, before.create_revision, self.revision + 1)
            assert self.run(self.store.delete(key, expected)) == kv
            self.happened(Event("DELETE", kv, before.value, False))

    @rule(writes=st.lists(st.tuples(KEYS, VALUES), min_size=2, max_size=6))
    def create_many_at_once(self, writes: list[tuple[str, bytes]]) -> None:
        async def together() -> list[int | BaseException]:
            return await asyncio.gather(*(self.store.create(*write) for write in writes), return_exceptions=True)

        results = list(zip(writes, self.run(together()), strict=True))
        won = sorted((result, *write) for write, result in results if isinstance(result, int))
        for revision, key, value in won:
            assert key not in self.state
            assert revision == self.revision + 1
            self.happened(Event("PUT", KeyValue(key, value, revision, revision), None, True))
        for (key, _), result in results:
            assert key in self.state
            assert isinstance(result, int | KeyExists)

    @rule(back=STEPS_BACK)
    def compact(self, back: int) -> None:
        revision = max(self.revision - back, 1)
        if revision > self.revision:
            with pytest.raises(FutureRevision):
                self.run(self.store.compact(revision))
        else:
            self.run(self.store.compact(revision))
            self.compacted = max(self.compacted, revision)

    @rule(prefix=PREFIXES, back=STEPS_BACK, limit=st.integers(min_value=0, max_value=4), after=st.just("") | KEYS)
    def list_a_page(self, prefix: str, back: int, limit: int, after: str) -> None:
        revision = max(self.revision - back, 1)
        listing = self.store.list(prefix, revision=revision, limit=limit, after=after)
        if not self.compacted <= revision <= self.revision:
            with pytest.raises(Compacted if revision < self.compacted else FutureRevision):
                self.run(listing)
            return
        page = self.run(listing)
        then = self.states[revision]
        found = [then[key] for key in sorted(then) if key.startswith(prefix) and key > after]
        shown = found[:limit] if limit else found
        assert page.items == shown
        assert (page.revision, page.more, page.remaining) == (revision, shown != found, len(found) - len(shown))

    @precondition(lambda self: len(self.watches) < 3)
    @rule(prefix=PREFIXES, back=STEPS_BACK)
    def watch(self, prefix: str, back: int) -> None:
        after = max(self.revision - back, 0)
        if not self.compacted <= after <= self.revision:
            with pytest.raises(Compacted if after < self.compacted else FutureRevision):
                self.store.watch(prefix, after)
            return
        self.watches.append(Follower(self.store.watch(prefix, after), prefix, after))

    @precondition(lambda self: self.watches)
    @rule(index=st.integers(min_value=0, max_value=2), count=st.integers(min_value=1, max_value=5))
    def read_a_watch(self, index: int, count: int) -> None:
        follower = self.watches[index % len(self.watches)]
        for event in self.unread(follower)[:count]:
            assert self.run(anext(follower.watch)) == event
            follower.seen = event.revision

    @precondition(lambda self: self.watches)
    @rule()
    def close_a_watch(self) -> None:
        follower = self.watches.pop()
        follower.watch.close()
        assert self.run(anext(follower.watch, None)) is None

    @invariant()
    def watches_know_how_far_they_are(self) -> None:
        for follower in self.watches:
            unread = self.unread(follower)
            assert follower.watch.synced_revision() == (unread[0].revision - 1 if unread else self.revision)

    @invariant()
    def now_is_now(self) -> None:
        assert self.store.current_revision() == self.revision
        for key in ("/a", "/b/é"):
            assert self.run(self.store.get(key)) == self.state.get(key)

    def unread(self, follower: Follower) -> list[Event]:
        return [
            event
            for event in self.events
            if event.revision > follower.seen and event.kv.key.startswith(follower.prefix)
        ]


class MemoryMachine(StoreMachine):
    async def open_store(self) -> Store:
        return MemoryStore()


class DurableMachine(StoreMachine):
    """Also closes the store now and then, and opens its medium again."""

    remembers_nothing_dropped = True
    """Whether a compaction at the first revision, which drops nothing, outlives the store (see `Store.compact`)."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        super().__init__()

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.watches.clear()
        self.store = self.run(self.open_store())
        if self.compacted == FIRST_REVISION and not self.remembers_nothing_dropped:
            self.compacted = 0

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


class SqliteMachine(DurableMachine):
    async def open_store(self) -> Store:
        return SqliteStore.open(self.directory / "state.db")


class EtcdMachine(DurableMachine):
    """An etcd of its own for each history, killed (`kill -9`) and started again under the open store."""

    remembers_nothing_dropped = False

    def __init__(self) -> None:
        self.stack = ExitStack()
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.member = self.stack.enter_context(running(next(iter(binaries().values())), directory))
        self.kills = 0
        super().__init__()

    async def open_store(self) -> Store:
        return await EtcdStore.open(self.member.settings())

    @precondition(lambda self: self.kills < 2)
    @rule()
    def kill(self) -> None:
        self.kills += 1
        self.member.kill()
        self.member.start()
        self.run(self.store.get("/"))  # the connection is a new one now: a creation over a broken one need not be known

    def teardown(self) -> None:
        super().teardown()
        self.stack.close()


class LongEtcdMachine(EtcdMachine):
    """The same, for longer."""


TestMemoryModel = MemoryMachine.TestCase
TestSqliteModel = SqliteMachine.TestCase
TestMemoryModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSqliteModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

if binaries():
    TestEtcdModel = EtcdMachine.TestCase
    TestEtcdModel.settings = settings(
        max_examples=4, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    TestLongEtcdModel = LongEtcdMachine.TestCase
    TestLongEtcdModel.settings = settings(
        max_examples=80, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    pytest.mark.slow(pytest.mark.timeout(900)(TestLongEtcdModel))
