"""An etcd that goes away, comes back, forgets, fills up, or loses a member: what callers are told, and what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from portway.storage import (
    Compacted,
    KeyExists,
    KeyMissing,
    KeyValue,
    OutcomeUnknown,
    RevisionMismatch,
    StoreFull,
    StoreUnavailable,
    ValueTooLarge,
    WatchLagged,
)
from portway.storage.etcd import EtcdStore
from portway.storage.etcdclient import EtcdClient
from portway.storage.etcdlayout import Layout
from portway.storage.etcdmessages import message
from portway.storage.etcdsettings import EtcdSettings
from portway.storage.etcdwriter import EtcdWriter
from portway.storage.keyspace import Keyspace
from portway.storage.writes import Update
from portway.testing.etcd import Member, cluster, leader_of, running


@asynccontextmanager
async def opened(settings: EtcdSettings) -> AsyncIterator[EtcdStore]:
    store = await EtcdStore.open(settings)
    try:
        async with asyncio.timeout(60):
            yield store
    finally:
        await store.close()


def test_a_watch_goes_on_over_kill_9_without_loss_or_repeat(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd.settings()) as store, opened(etcd.settings()) as writer:
            watch = store.watch("", 1)
            for number in range(3):
                await writer.create(f"/{number}", b"")
                await asyncio.to_thread(etcd.kill)
                await asyncio.to_thread(etcd.start)
                await writer.latest_revision()
            assert await writer.create("/last", b"") == 5
            assert [(await anext(watch)).revision for _ in range(4)] == [2, 3, 4, 5]
            assert await store.latest_revision() == 5
            assert store.failure() is None

    asyncio.run(script())


def test_an_etcd_that_is_gone_is_said_to_be_and_comes_back_without_a_restart(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd.settings()) as store:
            await store.create("/a", b"1")
            failed = asyncio.ensure_future(store.failed())
            await asyncio.to_thread(etcd.kill)
            for attempt in (
                store.get("/a"),
                store.create("/b", b""),
                store.update("/a", b"", 2),
                store.delete("/a", 2),
            ):
                with pytest.raises(StoreUnavailable):
                    await attempt
            assert str(store.failure()).startswith(f"etcd at {etcd.endpoint}: nothing listens there")
            assert (await store.list("", revision=2)).items == [KeyValue("/a", b"1", 2, 2)]  # what is known stays known
            await asyncio.to_thread(etcd.start)
            assert await store.get("/a") == KeyValue("/a", b"1", 2, 2)
            assert await store.create("/b", b"") == 3
            assert store.failure() is None
            assert not failed.done()
            failed.cancel()

    asyncio.run(script())


def test_what_etcd_forgot_meanwhile_is_loaded_anew(etcd: Member) -> None:
    """The store's connection breaks, others write and compact: its watchers are cut off and told it is too late."""

    async def script() -> None:
        async with opened(etcd.settings()) as store, opened(etcd.settings()) as other:
            first = await store.create("/a", b"1")
            watch = store.watch("", first)
            store._following.cancel()  # as a stalled process would
            await other.update("/a", b"2", first)
            await other.delete("/a")
            await other.create("/b", b"3")
            await other.compact(5)
            store._following = asyncio.create_task(store._follow())
            with pytest.raises(WatchLagged) as lag:
                await anext(watch)
            assert lag.value.synced_revision == first
            with pytest.raises(Compacted):
                store.watch("", first)
            assert [kv.value for kv in (await store.list("")).items] == [b"3"]

    asyncio.run(script())


def test_an_etcd_restored_from_a_backup_ends_the_store(etcd: Member, tmp_path: Path) -> None:
    async def script() -> None:
        async with opened(etcd.settings()) as store:
            for number in range(5):
                await store.create(f"/{number}", b"")
            await asyncio.to_thread(etcd.kill)
            etcd.directory = tmp_path / "restored"
            etcd.directory.mkdir()
            await asyncio.to_thread(etcd.start)
            with pytest.raises(StoreUnavailable, match="restored from a backup"):
                await store.get("/1")
            assert await store.failed() is store.failure()

    asyncio.run(script())


class LossyClient(EtcdClient):
    """Loses the next transactions: before they reach etcd, or their answers ("sent")."""

    def __init__(self, settings: EtcdSettings) -> None:
        super().__init__(settings)
        self.losses: list[str] = []

    async def call(self, method: str, request: Any, *, harmless: bool = True) -> Any:
        if not method.endswith("/Txn") or not self.losses:
            return await super().call(method, request, harmless=harmless)
        if self.losses.pop(0) == "sent":
            await super().call(method, request, harmless=harmless)
        raise OutcomeUnknown("lost")


def test_a_write_whose_answer_was_lost_is_brought_to_its_true_end(
    etcd: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portway.storage.etcd.EtcdClient", LossyClient)

    async def script() -> None:
        async with opened(etcd.settings()) as store, opened(etcd.settings()) as other:
            client = store._client
            assert isinstance(client, LossyClient)
            client.losses = ["sent"]
            assert await store.create("/a", b"1") == 2
            client.losses = ["sent"]
            assert await store.update("/a", b"2", 2) == 3
            client.losses = ["unsent"]
            assert await store.update("/a", b"3", 3) == 4
            client.losses = ["unsent", "sent"]
            assert await store.update("/a", b"4", 4) == 5
            client.losses = ["sent"]
            assert await store.delete("/a", 5) == KeyValue("/a", b"4", 2, 6)
            client.losses = ["unsent"]
            with pytest.raises(OutcomeUnknown):
                await store.create("/b", b"")
            # Somebody else's write of the very same value is not taken for ours.
            revision = await other.create("/c", b"")
            await other.update("/c", b"same", revision)
            client.losses = ["unsent"]
            with pytest.raises(RevisionMismatch):
                await store.update("/c", b"same", revision)
            await other.delete("/c")
            client.losses = ["unsent"]
            with pytest.raises(KeyMissing):
                await store.delete("/c", revision)
            await other.create("/d", b"")
            client.losses = ["sent"]
            with pytest.raises(OutcomeUnknown):
                await store.create("/d", b"")
            with pytest.raises(KeyExists):
                await store.create("/d", b"")

    asyncio.run(script())


def test_a_write_that_may_have_happened_is_not_said_to_have_failed() -> None:
    """Its answer was lost, the second one lost against another, and then etcd is gone: it may be that it won first."""
    layout, syncs = Layout("/portway"), [True, False]
    now = Keyspace({"/a": KeyValue("/a", b"1", 2, 2)}, 2, gaps=True)

    class Gone:
        answers: ClassVar = [False, True]

        async def call(self, _method: str, _request: Any, **_: Any) -> Any:
            if not self.answers.pop():
                theirs = message("KeyValue", key=layout.key("/a"), create_revision=2, mod_revision=3)
                found = message("ResponseOp", response_range=message("RangeResponse", kvs=[theirs]))
                return message("TxnResponse", succeeded=False, responses=[found])
            raise OutcomeUnknown("lost")

    async def sync() -> None:
        if not syncs.pop(0):
            raise StoreUnavailable("gone")

    async def script() -> None:
        writer = EtcdWriter(cast(EtcdClient, Gone()), layout, lambda: now, sync)
        with pytest.raises(OutcomeUnknown, match="lost"):
            await writer.write(Update("/a", b"2", 2), 2)
        assert syncs == []

    asyncio.run(script())


def test_a_store_that_can_follow_no_more_says_so(etcd: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason: it would answer from what it knew for ever."""

    async def script() -> None:
        async with opened(etcd.settings()) as store, opened(etcd.settings()) as other:
            monkeypatch.setattr("portway.storage.etcdmirror.change_of", None)
            await other.create("/a", b"")
            async with asyncio.timeout(10):
                assert "can't be followed" in str(await store.failed())
            assert store.failure() is not None

    asyncio.run(script())


@pytest.fixture
def small_etcd(etcd_binary: Path, tmp_path: Path) -> Iterator[Member]:
    with running(etcd_binary, tmp_path / "small", "--quota-backend-bytes", str(4 * 1024 * 1024)) as member:
        yield member


def test_a_full_etcd_refuses_writes_reads_on_and_recovers(small_etcd: Member) -> None:
    async def script() -> None:
        async with opened(small_etcd.settings()) as store, opened(small_etcd.settings()) as other:
            written = 0
            with pytest.raises(StoreFull, match="compact and defragment"):
                while True:
                    revision = await store.create(f"/{written}", b"x" * 100_000)
                    await store.update(f"/{written}", b"x", revision)
                    written += 1
            assert written > 3
            kept = [kv.key for kv in (await other.list("")).items]
            assert {f"/{number}" for number in range(written)} <= set(kept)
            try:
                gone = await store.delete("/0")  # 3.4 lets those through that make room, 3.5.1 none
            except StoreFull:
                assert (await other.list("")).items[0].key == "/0"
            else:
                assert await other.get("/0") is None
                assert await other.latest_revision() >= gone.mod_revision
                assert await other.delete("/1")
                kept = kept[2:]
            assert [kv.key for kv in (await store.list("")).items] == kept
            await store.compact_in_turn(store.current_revision())
            small_etcd.ctl("defrag")
            small_etcd.ctl("alarm", "disarm")
            await store.create("/again", b"x")
            assert [kv.key for kv in (await other.list("")).items] == sorted([*kept, "/again"])

    asyncio.run(script())


def test_an_object_that_etcd_does_not_take_is_refused_as_such(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd.settings()) as store:
            for size in (1_600_000, 3_000_000):
                with pytest.raises(ValueTooLarge):
                    await store.create("/large", b"x" * size)
            assert await store.create("/small", b"x" * 1_000_000) == 2

    asyncio.run(script())


@pytest.mark.timeout(180)
def test_the_loss_of_the_leader_loses_nothing(etcd_binary: Path, tmp_path: Path) -> None:
    """Three members, the leader is killed under eight writers: what was acknowledged is there, once, in order."""

    async def write(store: EtcdStore, name: str, acknowledged: dict[int, str], stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            key = f"/{name}/{number}"
            number += 1
            try:
                acknowledged[await store.create(key, b"")] = key
            except StoreUnavailable:
                continue

    async def script(members: list[Member]) -> None:
        endpoints = tuple(member.endpoint for member in members)
        async with opened(EtcdSettings(endpoints=endpoints)) as store:
            watch, acknowledged, stop = store.watch("", 1), dict[int, str](), asyncio.Event()
            writing = [asyncio.create_task(write(store, f"w{n}", acknowledged, stop)) for n in range(8)]
            seen = [await anext(watch) for _ in range(100)]
            await asyncio.to_thread(leader_of(members).kill)
            seen += [await anext(watch) for _ in range(500)]
            stop.set()
            await asyncio.gather(*writing)
            last = await store.latest_revision()
            while seen[-1].revision < last:
                seen.append(await anext(watch))
            assert [event.revision for event in seen] == sorted({event.revision for event in seen})
            assert acknowledged.items() <= {event.revision: event.kv.key for event in seen}.items()
            assert {kv.key for kv in (await store.list("")).items} == {event.kv.key for event in seen}

    with cluster(etcd_binary, tmp_path) as members:
        asyncio.run(script(members))
