"""The writer: groups, what is visible when, and what happens when the medium fails in the middle.

The journals here are real ones that can be held up, or made to fail.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from portway.storage import KeyValue, MediumFailed, RevisionMismatch, SqliteStore, StoreFull, StoreUnavailable
from portway.storage.journal import Journal, unneeded_rows
from portway.storage.keyspace import Keyspace
from portway.storage.writer import MAX_GROUP, SWEEP_ROWS
from portway.storage.writes import Change, Create, Delete, Update, Write

Result = TypeVar("Result")


class TrickyJournal(Journal):
    """Counts transactions; `gate` holds them up before their commit, `trouble` fails appends and sweeps."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self.transactions = 0
        self.arrived, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.append_trouble: dict[str, Exception] = {}
        self.sweep_trouble: list[Exception] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with super().transaction():
            yield
            self.transactions += 1
            self.arrived.set()
            assert self.gate.wait(20)

    def append(self, change: Change) -> None:
        super().append(change)
        if change.event.kv.key in self.append_trouble:
            raise self.append_trouble[change.event.kv.key]

    def sweep(self, revisions: Iterable[int]) -> None:
        super().sweep(revisions)
        if self.sweep_trouble:
            raise self.sweep_trouble.pop()

    @classmethod
    def store(cls, path: Path) -> tuple[TrickyJournal, SqliteStore]:
        journal = cls.open(path)
        assert isinstance(journal, TrickyJournal)
        loaded = journal.load()
        return journal, SqliteStore(journal, loaded.keyspace, loaded.garbage, 1000)


def play(script: Coroutine[Any, Any, Result]) -> Result:
    """Run it, but not for ever."""

    async def within() -> Result:
        async with asyncio.timeout(20):
            return await script

    return asyncio.run(within())


def rows(path: Path) -> set[int]:
    """The revisions in a closed file."""
    connection = sqlite3.connect(path)
    try:
        return {revision for (revision,) in connection.execute("SELECT revision FROM event")}
    finally:
        connection.close()


def test_what_gathers_during_a_sync_is_one_transaction(tmp_path: Path) -> None:
    async def script() -> None:
        journal, store = TrickyJournal.store(tmp_path / "state.db")
        journal.gate.clear()
        first = asyncio.ensure_future(store.create("/first", b""))
        await asyncio.to_thread(journal.arrived.wait, 20)
        others = asyncio.gather(*(store.create(f"/{number}", b"") for number in range(MAX_GROUP + 1)))
        await asyncio.sleep(0)
        journal.gate.set()
        assert [await first, *await others] == list(range(2, MAX_GROUP + 4))
        assert journal.transactions == 3
        await store.close()

    play(script())


def test_nothing_is_visible_before_it_is_safe(tmp_path: Path) -> None:
    async def script() -> None:
        journal, store = TrickyJournal.store(tmp_path / "state.db")
        watch = store.watch("", 1)
        await store.create("/a", b"1")
        assert (await anext(watch)).revision == 2
        journal.gate.clear()
        journal.arrived.clear()
        told = asyncio.ensure_future(anext(watch))
        writing = asyncio.ensure_future(store.update("/a", b"2", 2))
        await asyncio.to_thread(journal.arrived.wait, 20)
        loser = asyncio.ensure_future(store.update("/a", b"3", 2))
        await asyncio.sleep(0)
        assert await store.get("/a") == KeyValue("/a", b"1", 2, 2)
        assert (store.current_revision(), watch.synced_revision()) == (2, 2)
        assert [task.done() for task in (told, writing, loser)] == [False] * 3
        journal.gate.set()
        assert await writing == (await told).revision == 3
        with pytest.raises(RevisionMismatch) as caught:
            await loser
        assert caught.value.current == await store.get("/a") == KeyValue("/a", b"2", 2, 3)
        await store.close()

    play(script())


def test_a_write_whose_caller_and_loop_are_gone_is_seen_by_the_next(tmp_path: Path) -> None:
    journal, store = TrickyJournal.store(tmp_path / "state.db")
    journal.gate.clear()

    async def leave() -> None:
        writing = asyncio.ensure_future(store.create("/a", b""))
        await asyncio.to_thread(journal.arrived.wait, 20)
        writing.cancel()

    async def come_back() -> None:
        assert await store.create("/b", b"") == 3
        assert await store.get("/a") == KeyValue("/a", b"", 2, 2)
        await store.close()

    play(leave())
    journal.gate.set()
    play(come_back())


@pytest.mark.parametrize("trouble", [OSError(5, "no more"), StoreUnavailable("the disk refused")])
def test_an_unknown_failure_undoes_the_group_and_stops_the_writing(tmp_path: Path, trouble: Exception) -> None:
    path = tmp_path / "state.db"

    async def script() -> None:
        journal, store = TrickyJournal.store(path)
        await store.create("/before", b"")
        journal.append_trouble["/2"] = trouble
        assert store.failure() is None
        results = await asyncio.gather(
            *(store.create(f"/{number}", b"") for number in range(4)), return_exceptions=True
        )
        assert isinstance(results[2], StoreUnavailable)
        assert results[2] is results[3] is await store.failed() is store.failure()
        acknowledged = [result for result in results if isinstance(result, int)]
        journal.append_trouble.clear()
        for refused in (store.create("/after", b""), store.delete("/before"), store.compact(2)):
            with pytest.raises(StoreUnavailable):
                await refused
        assert store.current_revision() == 2 + len(acknowledged)
        assert [item.key for item in (await store.list("")).items] == [
            *(f"/{number}" for number in range(len(acknowledged))),
            "/before",
        ]
        await store.close()
        assert rows(path) == set(range(2, 3 + len(acknowledged)))

    play(script())


def test_what_has_no_room_does_not_take_others_with_it(tmp_path: Path) -> None:
    """Compare-and-swap within the group is undone with it, and decided again."""

    async def script() -> None:
        journal, store = TrickyJournal.store(tmp_path / "state.db")
        journal.append_trouble["/big"] = StoreFull("full")
        results = await asyncio.gather(
            store.create("/a", b"1"),
            store.create("/big", b""),
            store.update("/a", b"2", 2),
            store.delete("/a", 3),
            store.create("/a", b"4"),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [int, StoreFull, int, KeyValue, int]
        assert await store.get("/a") == KeyValue("/a", b"4", 5, 5)
        journal.append_trouble.clear()
        assert await store.create("/big", b"") == 6
        await store.close()

    play(script())


def test_a_failed_sweep_is_done_later(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def script() -> None:
        journal, store = TrickyJournal.store(path)
        journal.sweep_trouble = [StoreFull("full")]
        for _ in range(3):
            await store.create("/a", b"")
            await store.delete("/a")
        await store.compact(7)
        await store.create("/a", b"")
        await store.close()

    play(script())
    assert rows(path) == {8}


def test_a_failed_sweep_is_a_failure_before_anybody_writes_again(tmp_path: Path) -> None:
    async def script() -> None:
        journal, store = TrickyJournal.store(tmp_path / "state.db")
        journal.sweep_trouble = [OSError(5, "no more")]
        failure = asyncio.ensure_future(store.failed())
        await store.create("/a", b"")
        await store.delete("/a")
        await store.compact(3)
        assert await failure is store.failure()
        with pytest.raises(MediumFailed):
            await store.create("/a", b"")
        await store.close()

    play(script())


def test_the_next_opening_sweeps_what_was_left(tmp_path: Path) -> None:
    path, count = tmp_path / "state.db", SWEEP_ROWS + 10

    async def leave_rows() -> None:
        journal, store = TrickyJournal.store(path)
        journal.sweep_trouble = [StoreFull("full")] * 100
        await asyncio.gather(*(store.create(f"/{number}", b"") for number in range(count)))
        await asyncio.gather(*(store.delete(f"/{number}") for number in range(count - 1)))
        await store.compact(2 * count)
        await store.close()

    async def open_again() -> None:
        store = SqliteStore.open(path)
        for number in range(3):  # each write lets one sweep pass
            await store.create(f"/new/{number}", b"")
        await store.close()

    play(leave_rows())
    assert len(rows(path)) == 2 * count - 1
    play(open_again())
    assert rows(path) == {count + 1, 2 * count + 1, 2 * count + 2, 2 * count + 3}


@pytest.mark.parametrize("seed", range(5))
def test_a_crash_between_sweeps_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Whatever part of the unneeded rows is gone: what is loaded is the same."""
    rng = random.Random(seed)
    journal = Journal.open(tmp_path / "state.db")
    keyspace = journal.load().keyspace
    for _ in range(80):
        write_at_random(journal, keyspace, rng)
    forgotten = keyspace.compact(62)
    with journal.transaction():
        journal.compact(62)
    for row in [0, *unneeded_rows(forgotten)]:
        with journal.transaction():
            journal.sweep([row])
        loaded = journal.load()
        assert loaded.keyspace.state() == keyspace.state()
        assert loaded.keyspace.page("", 62, 0, "") == keyspace.page("", 62, 0, "")
        assert loaded.keyspace.events_after("", 62) == keyspace.events_after("", 62)
    assert loaded.garbage == []
    journal.close()


def write_at_random(journal: Journal, keyspace: Keyspace, rng: random.Random) -> None:
    key = f"/{rng.randrange(6)}"
    current = keyspace.get(key)
    write: Write = Create(key, rng.randbytes(4))
    if current is not None:
        write = Delete(key) if rng.random() < 0.5 else Update(key, rng.randbytes(4), current.mod_revision)
    change = write.decide(current, keyspace.revision + 1)
    with journal.transaction():
        journal.append(change)
    keyspace.apply(change)
