"""What every `portway.storage.Store` must do; `StoreContract` for all, `DurableStoreContract` for those with a medium.

    class TestMyStore(StoreContract):
        async def open_store(self) -> Store:
            return MyStore(watch_buffer=self.watch_buffer)

Each test gets a new store in a new event loop, and no test knows which implementation it has. That a store survives
being killed in mid-write needs processes and is tested beside the implementation.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

import pytest

from portway.storage import (
    Compacted,
    Event,
    FutureRevision,
    InvalidKey,
    KeyExists,
    KeyMissing,
    KeyValue,
    RevisionMismatch,
    Store,
    StoreClosed,
    Watch,
    WatchLagged,
)

Contract = TypeVar("Contract", bound="StoreContract")

PATIENCE = 20.0
"""Seconds after which something that should have happened did not."""


def scenario(
    script: Callable[[Contract, Store], Coroutine[Any, Any, None]],
) -> Callable[[Contract], None]:
    """Make an ordinary test of a coroutine that takes an open store."""

    async def play(self: Contract) -> None:
        store = await self.open_store()
        try:
            async with asyncio.timeout(PATIENCE):
                await script(self, store)
        finally:
            await store.close()

    def test(self: Contract) -> None:
        asyncio.run(play(self))

    test.__name__ = script.__name__
    test.__doc__ = script.__doc__
    return test


async def take(watch: Watch, count: int) -> list[Event]:
    """The watch's next events."""
    return [await anext(watch) for _ in range(count)]


async def drain(watch: Watch, into: list[Event]) -> None:
    """Collect events until the watch ends."""
    async for event in watch:
        into.append(event)  # noqa: PERF401 - what came before an error counts


async def keys(store: Store, prefix: str, revision: int = 0) -> dict[str, bytes]:
    """What a list without a limit says."""
    page = await store.list(prefix, revision=revision)
    assert (page.more, page.remaining) == (False, 0)
    return {item.key: item.value for item in page.items}


async def fill(store: Store, prefix: str, count: int) -> list[int]:
    """Create keys `prefix00`, `prefix01`, …; their revisions."""
    return [await store.create(f"{prefix}{number:02}", b"%d" % number) for number in range(count)]


class StoreContract(ABC):
    """The tests. `watch_buffer` is how many live events a watch of the store made here may leave unread."""

    watch_buffer: ClassVar[int] = 64

    @abstractmethod
    async def open_store(self) -> Store:
        """A new, empty store."""

    @scenario
    async def test_a_store_that_takes_writes_has_no_failure(self, store: Store) -> None:
        waiting = asyncio.ensure_future(store.failed())
        await store.create("/a", b"")
        with pytest.raises(KeyExists):
            await store.create("/a", b"")
        assert store.failure() is None
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert store.failure() is None

    # Reading and writing one key

    @scenario
    async def test_an_empty_store_is_at_revision_one(self, store: Store) -> None:
        assert store.current_revision() == 1
        assert await store.get("/a") is None
        page = await store.list("")
        assert (page.items, page.revision, page.more, page.remaining) == ([], 1, False, 0)

    @scenario
    async def test_what_was_created_is_read_back(self, store: Store) -> None:
        for number, value in enumerate([b"one", b"", bytes(range(256)), b"x" * 300_000]):
            key = f"/registry/é\U0001f511/{number}"
            revision = await store.create(key, value)
            assert revision == number + 2
            assert await store.get(key) == KeyValue(key, value, revision, revision)
            assert store.current_revision() == revision

    @scenario
    async def test_creating_twice_is_refused(self, store: Store) -> None:
        await store.create("/a", b"1")
        with pytest.raises(KeyExists) as caught:
            await store.create("/a", b"2")
        assert caught.value.current == KeyValue("/a", b"1", 2, 2)
        assert await store.get("/a") == KeyValue("/a", b"1", 2, 2)

    @scenario
    async def test_keys_that_no_medium_could_give_back_are_refused(self, store: Store) -> None:
        for key in ("", "/half\ud83d"):
            with pytest.raises(InvalidKey):
                await store.create(key, b"")
            assert await store.get(key) is None
        assert store.current_revision() == 1

    @scenario
    async def test_update_is_compare_and_swap(self, store: Store) -> None:
        first = await store.create("/a", b"1")
        second = await store.update("/a", b"2", first)
        assert await store.get("/a") == KeyValue("/a", b"2", first, second)
        for stale in (first, 0, second + 1):
            with pytest.raises(RevisionMismatch) as caught:
                await store.update("/a", b"3", stale)
            assert caught.value.current == KeyValue("/a", b"2", first, second)
        with pytest.raises(RevisionMismatch) as caught:
            await store.update("/b", b"3", second)
        assert caught.value.current is None

    @scenario
    async def test_delete_is_compare_and_swap_when_asked(self, store: Store) -> None:
        await store.create("/a", b"1")
        await store.create("/b", b"2")
        with pytest.raises(RevisionMismatch) as caught:
            await store.delete("/a", 3)
        assert caught.value.current == KeyValue("/a", b"1", 2, 2)
        assert await store.delete("/a", 2) == KeyValue("/a", b"1", 2, 4)
        assert await store.delete("/b") == KeyValue("/b", b"2", 3, 5)
        for key in ("/a", "/b"):
            with pytest.raises(KeyMissing):
                await store.delete(key)
            assert await store.get(key) is None

    @scenario
    async def test_a_key_made_again_is_a_new_one(self, store: Store) -> None:
        await store.create("/a", b"1")
        await store.delete("/a")
        revision = await store.create("/a", b"2")
        assert await store.get("/a") == KeyValue("/a", b"2", revision, revision)

    @scenario
    async def test_refused_writes_leave_no_trace(self, store: Store) -> None:
        await store.create("/a", b"1")
        for attempt in (store.create("/a", b""), store.update("/a", b"", 9), store.delete("/a", 9)):
            with pytest.raises((KeyExists, RevisionMismatch)):
                await attempt
        assert store.current_revision() == 2
        assert await store.create("/b", b"2") == 3
        assert [event.kv.key for event in await take(store.watch("", 0), 2)] == ["/a", "/b"]

    # One order over all keys

    @scenario
    async def test_concurrent_writes_share_one_order_without_holes(self, store: Store) -> None:
        watch = store.watch("", 1)
        revisions = await asyncio.gather(*(store.create(f"/{number}", b"") for number in range(50)))
        assert sorted(revisions) == list(range(2, 52))
        assert [event.revision for event in await take(watch, 50)] == list(range(2, 52))
        for number, revision in enumerate(revisions):
            assert await store.get(f"/{number}") == KeyValue(f"/{number}", b"", revision, revision)

    @scenario
    async def test_one_of_many_rivals_wins(self, store: Store) -> None:
        revision = await store.create("/a", b"")
        rivals = [store.update("/a", b"%d" % number, revision) for number in range(20)]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        winners = [number for number, result in enumerate(results) if isinstance(result, int)]
        assert len(winners) == 1
        assert all(isinstance(result, int | RevisionMismatch) for result in results)
        assert await store.get("/a") == KeyValue("/a", b"%d" % winners[0], revision, revision + 1)

    @scenario
    async def test_no_increment_is_lost(self, store: Store) -> None:
        await store.create("/counter", b"0")

        async def increment() -> None:
            for _ in range(5):
                kv = await store.get("/counter")
                while kv is not None:
                    try:
                        await store.update("/counter", b"%d" % (int(kv.value) + 1), kv.mod_revision)
                        break
                    except RevisionMismatch as mismatch:
                        kv = mismatch.current

        await asyncio.gather(*(increment() for _ in range(8)))
        assert (await keys(store, ""))["/counter"] == b"40"

    # Lists

    @scenario
    async def test_a_prefix_is_neither_more_nor_less_than_a_prefix(self, store: Store) -> None:
        names = ["/a", "/a/", "/a/\U0010ffff", "/a/\U0010ffff\U0010ffff/x", "/a0", "/b", "\U0010ffff", "\U0010ffffz"]
        for name in reversed(names):
            await store.create(name, b"")
        for prefix in ("", "/", "/a", "/a/", "/a/\U0010ffff", "/b", "/c", "\U0010ffff"):
            assert list(await keys(store, prefix)) == [name for name in names if name.startswith(prefix)]

    @scenario
    async def test_a_list_in_pages_is_of_one_revision(self, store: Store) -> None:
        await fill(store, "/a/", 7)
        await store.create("/b", b"")
        first = await store.list("/a/", limit=3)
        assert ([item.key[-1] for item in first.items], first.more, first.remaining) == (["0", "1", "2"], True, 4)
        await store.delete("/a/04")
        await store.create("/a/035", b"new")
        await store.update("/a/05", b"new", 7)
        second = await store.list("/a/", limit=3, revision=first.revision, after="/a/02")
        assert [item.value for item in second.items] == [b"3", b"4", b"5"]
        assert (second.revision, second.more, second.remaining) == (first.revision, True, 1)
        third = await store.list("/a/", limit=3, revision=first.revision, after="/a/05")
        assert ([item.value for item in third.items], third.more, third.remaining) == ([b"6"], False, 0)
        assert list(await keys(store, "/a/")) == [
            f"/a/{number}" for number in ("00", "01", "02", "03", "035", "05", "06")
        ]

    @scenario
    async def test_a_page_may_begin_behind_a_key_that_is_gone(self, store: Store) -> None:
        await fill(store, "/a/", 4)
        await store.delete("/a/01")
        for after, expected in [("/a/01", 2), ("", 3), ("/", 3), ("/a/03", 0), ("/z", 0)]:
            page = await store.list("/a/", after=after)
            assert (len(page.items), page.more) == (expected, False)
        assert [item.key for item in (await store.list("/a/", limit=2)).items] == ["/a/00", "/a/02"]
        assert not (await store.list("/a/", limit=3)).more

    @scenario
    async def test_every_retained_revision_can_be_listed(self, store: Store) -> None:
        states: dict[int, dict[str, bytes]] = {1: {}}
        rng, state = random.Random(7), dict[str, KeyValue]()
        for _ in range(60):
            key = f"/{rng.choice('ab')}/{rng.randrange(4)}"
            if key not in state:
                await store.create(key, rng.randbytes(3))
            elif rng.random() < 0.5:
                await store.update(key, rng.randbytes(3), state[key].mod_revision)
            else:
                await store.delete(key)
            state = {item.key: item for item in (await store.list("")).items}
            states[store.current_revision()] = {name: kv.value for name, kv in state.items()}
        for revision, expected in states.items():
            assert await keys(store, "", revision) == expected
            assert await keys(store, "/b/", revision) == {k: v for k, v in expected.items() if k.startswith("/b/")}

    @scenario
    async def test_the_future_cannot_be_listed(self, store: Store) -> None:
        await store.create("/a", b"")
        with pytest.raises(FutureRevision) as caught:
            await store.list("", revision=3)
        assert caught.value.current == 2

    # Watches

    @scenario
    async def test_events_tell_what_happened(self, store: Store) -> None:
        watch = store.watch("/a", 1)
        await store.create("/a", b"1")
        await store.update("/a", b"2", 2)
        await store.create("/b", b"")
        await store.delete("/a")
        await store.create("/a", b"3")
        assert await take(watch, 4) == [
            Event("PUT", KeyValue("/a", b"1", 2, 2), None, True),
            Event("PUT", KeyValue("/a", b"2", 2, 3), b"1", False),
            Event("DELETE", KeyValue("/a", b"2", 2, 5), b"2", False),
            Event("PUT", KeyValue("/a", b"3", 6, 6), None, True),
        ]

    @scenario
    async def test_a_watch_begins_after_its_revision(self, store: Store) -> None:
        await fill(store, "/", 5)
        for after in range(7):
            watch = store.watch("/", after)
            expected = list(range(max(after, 1) + 1, 7))
            assert [event.revision for event in await take(watch, len(expected))] == expected
            watch.close()

    @scenario
    async def test_the_future_cannot_be_watched(self, store: Store) -> None:
        with pytest.raises(FutureRevision):
            store.watch("/", 2)

    @scenario
    async def test_a_waiting_watcher_is_woken(self, store: Store) -> None:
        watch = store.watch("/a", 1)
        waiting = asyncio.ensure_future(anext(watch))
        await store.create("/other", b"")
        assert not waiting.done()
        await store.create("/a", b"")
        assert (await waiting).revision == 3

    @scenario
    async def test_an_impatient_watcher_misses_nothing(self, store: Store) -> None:
        watch = store.watch("/", 1)
        for revision in range(2, 12):
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await store.create(f"/{revision}", b"")
            assert (await anext(watch)).revision == revision

    @scenario
    async def test_watches_opened_amid_writes_have_no_gap_and_no_repeat(self, store: Store) -> None:
        total = 60

        async def write() -> None:
            for number in range(0, total, 3):
                await asyncio.gather(*(store.create(f"/{number + index}", b"") for index in range(3)))

        async def follow(after: int) -> list[int]:
            return [event.revision for event in await take(store.watch("/", after), total + 1 - after)]

        writing = asyncio.ensure_future(write())
        followers = []
        while not writing.done():
            after = store.current_revision()
            followers.append((max(after - 5, 1), asyncio.ensure_future(follow(max(after - 5, 1)))))
            await store.get("/")
            await asyncio.sleep(0.001)
        await writing
        for after, following in followers:
            assert await following == list(range(after + 1, total + 2))

    @scenario
    async def test_whoever_is_told_can_read_it(self, store: Store) -> None:
        watch = store.watch("/", 1)
        writing = asyncio.gather(*(store.create(f"/{number}", b"") for number in range(20)))
        async for event in watch:
            assert await store.get(event.kv.key) == event.kv
            assert store.current_revision() >= event.revision
            if event.revision == 21:
                break
        await writing

    @scenario
    async def test_a_closed_watch_ends_quietly(self, store: Store) -> None:
        watch = store.watch("/", 1)
        waiting = asyncio.ensure_future(anext(watch, None))
        await asyncio.sleep(0)
        watch.close()
        watch.close()
        assert await waiting is None
        await store.create("/a", b"")
        assert [event async for event in watch] == []

    @scenario
    async def test_a_slow_watcher_is_cut_off_and_can_go_on(self, store: Store) -> None:
        slow, other = store.watch("/", 1), store.watch("/elsewhere", 1)
        await fill(store, "/", 3)
        seen = await take(slow, 2)
        for number in range(self.watch_buffer + 2):
            await store.create(f"/more/{number}", b"")
        with pytest.raises(WatchLagged) as caught:
            await drain(slow, into=seen)
        assert caught.value.synced_revision == slow.synced_revision() == seen[-1].revision
        rest = store.watch("/", caught.value.synced_revision)
        last = store.current_revision()
        seen += await take(rest, last - seen[-1].revision)
        assert [event.revision for event in seen] == list(range(2, last + 1))
        assert other.synced_revision() == last

    @scenario
    async def test_catching_up_is_not_being_slow(self, store: Store) -> None:
        count = self.watch_buffer * 2 + 10
        await asyncio.gather(*(store.create(f"/{number}", b"") for number in range(count)))
        watch = store.watch("/", 1)
        await asyncio.gather(*(store.create(f"/live/{number}", b"") for number in range(self.watch_buffer)))
        total = count + self.watch_buffer
        assert [event.revision for event in await take(watch, total)] == list(range(2, total + 2))

    @scenario
    async def test_progress_is_known_without_events(self, store: Store) -> None:
        watch = store.watch("/a", 1)
        assert watch.synced_revision() == 1
        await fill(store, "/other", 3)
        assert watch.synced_revision() == 4
        await store.create("/a1", b"")
        await store.create("/a2", b"")
        assert watch.synced_revision() == 4
        await anext(watch)
        assert watch.synced_revision() == 5
        await anext(watch)
        assert watch.synced_revision() == 6

    # Compaction

    @scenario
    async def test_what_is_too_old_is_said_to_be(self, store: Store) -> None:
        await store.create("/a", b"1")
        await store.update("/a", b"2", 2)
        await store.create("/gone", b"")
        await store.delete("/gone")
        await store.update("/a", b"3", 3)
        await store.compact(5)
        for revision in (1, 4):
            with pytest.raises(Compacted) as caught:
                await store.list("", revision=revision)
            assert caught.value.compact_revision == 5
            with pytest.raises(Compacted):
                store.watch("", revision)
        with pytest.raises(Compacted):
            store.watch("", 0)
        assert await keys(store, "", 5) == {"/a": b"2"}
        assert await keys(store, "") == {"/a": b"3"}
        assert await take(store.watch("", 5), 1) == [Event("PUT", KeyValue("/a", b"3", 2, 6), b"2", False)]

    @scenario
    async def test_compaction_is_no_write(self, store: Store) -> None:
        await fill(store, "/", 3)
        await store.compact(4)
        await store.compact(4)
        await store.compact(2)
        assert store.current_revision() == 4
        with pytest.raises(Compacted) as caught:
            store.watch("", 3)
        assert caught.value.compact_revision == 4
        assert await store.create("/next", b"") == 5

    @scenario
    async def test_compactions_may_overtake_each_other(self, store: Store) -> None:
        await fill(store, "/", 9)
        await asyncio.gather(*(store.compact(revision) for revision in (6, 3, 8, 5)))
        with pytest.raises(Compacted) as caught:
            await store.list("", revision=7)
        assert caught.value.compact_revision == 8
        assert len(await keys(store, "", 8)) == 7

    @scenario
    async def test_the_future_cannot_be_compacted(self, store: Store) -> None:
        await fill(store, "/", 3)
        with pytest.raises(FutureRevision):
            await store.compact(5)
        assert len(await take(store.watch("", 0), 3)) == 3

    @scenario
    async def test_open_watches_outlive_a_compaction(self, store: Store) -> None:
        unread, waiting = store.watch("/", 1), store.watch("/x", 1)
        await fill(store, "/", 5)
        await store.compact(6)
        await store.create("/x", b"")
        assert [event.revision for event in await take(unread, 6)] == [2, 3, 4, 5, 6, 7]
        assert (await anext(waiting)).revision == 7

    # The end

    @scenario
    async def test_a_closed_store_says_so(self, store: Store) -> None:
        await store.create("/a", b"")
        watch = store.watch("/b", 1)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        with pytest.raises(StoreClosed):
            await waiting
        for attempt in (store.get("/a"), store.list(""), store.create("/b", b""), store.compact(2)):
            with pytest.raises(StoreClosed):
                await attempt
        with pytest.raises(StoreClosed):
            store.watch("/", 1)
        with pytest.raises(StoreClosed):
            await anext(watch)

    @scenario
    async def test_writes_under_way_are_finished(self, store: Store) -> None:
        writing = asyncio.gather(*(store.create(f"/{number}", b"") for number in range(30)))
        await asyncio.sleep(0)
        await store.close()
        assert sorted(await writing) == list(range(2, 32))


class DurableStoreContract(StoreContract):
    """For stores with a medium: `open_store` opens the same one again after a close, within one test."""

    @scenario
    async def test_everything_is_there_again(self, store: Store) -> None:
        await fill(store, "/", 4)
        await store.update("/01", b"new", 3)
        await store.delete("/02")
        await store.compact(4)
        before = await store.list(""), await store.list("", revision=4), await take(store.watch("", 4), 3)
        await store.close()
        again = await self.open_store()
        try:
            assert again.current_revision() == 7
            assert (await again.list(""), await again.list("", revision=4), await take(again.watch("", 4), 3)) == before
            with pytest.raises(Compacted) as caught:
                again.watch("", 3)
            assert caught.value.compact_revision == 4
            assert await again.create("/02", b"") == 8
        finally:
            await again.close()

    @scenario
    async def test_an_older_compaction_undoes_nothing(self, store: Store) -> None:
        await fill(store, "/", 9)
        await asyncio.gather(*(store.compact(revision) for revision in (8, 3)))
        await store.close()
        again = await self.open_store()
        try:
            with pytest.raises(Compacted) as caught:
                again.watch("", 7)
            assert caught.value.compact_revision == 8
        finally:
            await again.close()

    @scenario
    async def test_revisions_do_not_repeat_though_all_is_gone(self, store: Store) -> None:
        await fill(store, "/", 3)
        for number in range(3):
            await store.delete(f"/{number:02}")
        await store.compact(7)
        await store.close()
        for revision in (8, 10):
            store = await self.open_store()
            try:
                assert store.current_revision() == revision - 1
                assert await keys(store, "") == {}
                assert await store.create("/00", b"") == revision
                await store.delete("/00")
                await store.compact(revision + 1)
            finally:
                await store.close()
