"""Several stores, and others, on one etcd: who sees what when, and what happens to revisions that aren't ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from portway.storage import Compacted, Event, KeyValue, RevisionMismatch, WatchLagged
from portway.storage.etcd import EtcdStore
from portway.storage.etcdclient import EtcdClient
from portway.storage.etcdmessages import message
from portway.testing.etcd import Member


@asynccontextmanager
async def opened(etcd: Member, count: int = 1, prefix: str = "/portway") -> AsyncIterator[list[EtcdStore]]:
    stores = [await EtcdStore.open(etcd.settings(prefix)) for _ in range(count)]
    try:
        async with asyncio.timeout(30):
            yield stores
    finally:
        for store in stores:
            await store.close()


async def strangers_write(etcd: Member, count: int, *keys: bytes) -> int:
    """Writes without the store, outside our prefix unless said otherwise; etcd's revision afterwards."""
    client = EtcdClient(etcd.settings())
    puts = [
        message("RequestOp", request_put=message("PutRequest", key=key, value=b"x")) for key in keys or (b"/elsewhere",)
    ]
    try:
        for _ in range(count):
            answer = await client.call("/etcdserverpb.KV/Txn", message("TxnRequest", success=puts))
        return int(answer.header.revision)
    finally:
        await client.close()


def test_revisions_of_others_leave_gaps_and_nothing_else(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd) as (store,):
            await strangers_write(etcd, 3)
            first = await store.create("/a", b"1")
            between = await strangers_write(etcd, 4)
            second = await store.update("/a", b"2", first)
            assert (first, between, second) == (5, 9, 10)
            for revision, value in [(5, b"1"), (6, b"1"), (9, b"1"), (10, b"2")]:
                assert [kv.value for kv in (await store.list("", revision=revision)).items] == [value]
            assert (await store.list("", revision=4)).items == []
            for after, expected in [(1, [5, 10]), (4, [5, 10]), (5, [10]), (8, [10]), (9, [10])]:
                watch = store.watch("", after)
                assert [(await anext(watch)).revision for _ in expected] == expected
                watch.close()
            await store.compact(7)
            with pytest.raises(Compacted):
                store.watch("", 6)
            assert (await anext(store.watch("", 7))).revision == 10

    asyncio.run(script())


def test_a_read_learns_how_far_the_revision_is_though_only_others_wrote(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd) as (store,):
            written = await store.create("/a", b"")
            watch = store.watch("", written)
            now = await strangers_write(etcd, 20)
            assert await store.latest_revision() == written
            assert store.current_revision() == watch.synced_revision() == now

    asyncio.run(script())


def test_what_one_acknowledged_the_other_reads(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd, 2) as (one, other):
            for number in range(50):
                revision = await one.create(f"/{number}", b"")
                assert await other.get(f"/{number}") == KeyValue(f"/{number}", b"", revision, revision)
                gone = await other.delete(f"/{number}", revision)
                assert await one.get(f"/{number}") is None
                assert await one.latest_revision() == gone.mod_revision

    asyncio.run(script())


def test_two_stores_share_one_order_and_one_winner(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd, 2) as stores:
            watches = [store.watch("", 1) for store in stores]
            await stores[0].create("/counter", b"0")

            async def increment(store: EtcdStore) -> None:
                for _ in range(25):
                    while True:
                        kv = await store.get("/counter")
                        assert kv is not None
                        try:
                            await store.update("/counter", b"%d" % (int(kv.value) + 1), kv.mod_revision)
                        except RevisionMismatch:
                            continue
                        break

            await asyncio.gather(*(increment(store) for store in stores for _ in range(2)))
            seen = [[await anext(watch) for _ in range(101)] for watch in watches]
            assert seen[0] == seen[1]
            assert [event.kv.value for event in seen[0]] == [b"%d" % number for number in range(101)]
            assert [event.revision for event in seen[0]] == list(range(2, 103))

    asyncio.run(script())


def test_clusters_with_other_prefixes_see_nothing_of_each_other(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd, prefix="/one") as (one,), opened(etcd, prefix="/one/more") as (more,):
            await one.create("/a", b"1")
            await more.create("/a", b"2")
            assert [kv.value for kv in (await one.list("")).items] == [b"1"]
            assert [kv.value for kv in (await more.list("")).items] == [b"2"]

    asyncio.run(script())


def test_one_of_several_compacts_in_an_interval_and_is_relieved_when_it_stops(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd, 3) as stores:
            for number in range(9):
                await stores[0].create(f"/{number}", b"")
            for revision in (4, 6, 8):
                for store in stores:
                    await store.latest_revision()
                    await store.compact_in_turn(revision)
                for store in stores:
                    with pytest.raises(Compacted) as caught:
                        await store.list("", revision=revision - 1)
                    assert caught.value.compact_revision == revision
            turns = etcd.ctl("get", "/portway/meta/compaction", "-w", "fields").splitlines()
            assert '"Version" : 3' in turns
            for store in stores[1:]:
                await store.compact_in_turn(9)
            turns = etcd.ctl("get", "/portway/meta/compaction", "-w", "fields").splitlines()
            assert '"Version" : 4' in turns

    asyncio.run(script())


def test_history_that_another_compacted_is_still_in_memory(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd, 2) as (one, other):
            for number in range(9):
                await one.create(f"/{number}", b"")
            await other.latest_revision()
            await one.compact(8)
            assert len((await other.list("", revision=5)).items) == 4
            assert (await anext(other.watch("", 5))).revision == 6

    asyncio.run(script())


def test_a_write_below_our_prefix_by_somebody_else_is_no_crash(etcd: Member) -> None:
    """Two keys in one revision, behind a revision already told: the store reads everything anew and goes on."""

    async def script() -> None:
        async with opened(etcd) as (store,):
            await store.create("/a", b"1")
            watch = store.watch("", 1)
            waiting: list[Event] = []
            etcd.ctl("put", "/portway/data/b", "2")
            await strangers_write(etcd, 1)
            assert await store.create("/c", b"3") == 5
            assert [kv.key for kv in (await store.list("")).items] == ["/a", "/b", "/c"]
            try:
                while len(waiting) < 3:
                    waiting.append(await anext(watch))
            except WatchLagged as lag:
                again = store.watch("", lag.synced_revision)
                while len(waiting) < 3:
                    waiting.append(await anext(again))
            assert [event.kv.key for event in waiting] == ["/a", "/b", "/c"]

    asyncio.run(script())


def test_two_keys_in_one_revision_by_somebody_else_are_no_crash(etcd: Member) -> None:
    """No keyspace can have them in its history: it begins after them, also that of a store that is opened later."""

    async def script() -> None:
        async with opened(etcd) as (store,):
            await store.create("/a", b"1")
            await strangers_write(etcd, 1, b"/portway/data/x", b"/portway/data/y")
            assert await store.create("/c", b"2") == 4
            assert [kv.key for kv in (await store.list("")).items] == ["/a", "/c", "/x", "/y"]
            async with opened(etcd) as (later,):
                assert [kv.key for kv in (await later.list("")).items] == ["/a", "/c", "/x", "/y"]
                await store.create("/d", b"3")
                assert await later.get("/d") is not None

    asyncio.run(script())


def test_a_key_that_no_store_can_have_written_is_not_looked_at(etcd: Member) -> None:
    async def script() -> None:
        async with opened(etcd) as (store,):
            await store.create("/a", b"1")
            await strangers_write(etcd, 1, b"/portway/data\xff")
            await strangers_write(etcd, 1, b"/portway/data")
            assert await store.create("/c", b"2") == 5
            assert [kv.key for kv in (await store.list("")).items] == ["/a", "/c"]
            assert await anext(store.watch("", 2)) == await anext(store.watch("/c", 0))
            await store.compact(5)
            async with opened(etcd) as (later,):
                assert [kv.key for kv in (await later.list("")).items] == ["/a", "/c"]

    asyncio.run(script())
