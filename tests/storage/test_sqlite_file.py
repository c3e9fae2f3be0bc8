"""The file: who may read it, what it survives, and what is said of files we cannot use."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portway.storage import (
    CorruptDatabase,
    Event,
    KeyValue,
    MediumFailed,
    NewerSchema,
    SqliteStore,
    StoreFull,
    StoreUnavailable,
)
from portway.storage.journal import SCHEMA_VERSION, Journal

NOBODY = 65534

Contents = tuple[list[KeyValue], list[Event]]


async def write_some(path: Path) -> None:
    """A history with everything in it: updates, deletions, a compaction in the middle."""
    store = SqliteStore.open(path)
    for number in range(30):
        await store.create(f"/{number:02}", b"%d" % number * 90)
    for number in range(0, 30, 3):
        await store.update(f"/{number:02}", b"new", number + 2)
    await store.delete("/05")
    await store.compact(35)
    await store.delete("/06")
    await store.close()


def read_all(path: Path) -> Contents:
    """Everything that a store can be asked about the file written by `write_some`, or a part of that file."""

    async def read() -> Contents:
        store = SqliteStore.open(path)
        try:
            watch = store.watch("", min(35, store.current_revision()))
            events = [await anext(watch) for _ in range(store.current_revision() - 35)]
            return (await store.list("")).items, events
        finally:
            await store.close()

    return asyncio.run(read())


def refusal(path: Path, kind: type[StoreUnavailable]) -> str:
    """Opening fails with exactly this error, in one line that names the file."""
    with pytest.raises(StoreUnavailable) as caught:
        SqliteStore.open(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def written() -> Iterator[Path]:
    """A file written by `write_some`, closed; not to be changed."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.db"
        asyncio.run(write_some(path))
        yield path


def modes(directory: Path) -> list[int]:
    return [file.stat().st_mode & 0o777 for file in directory.iterdir()]


def test_the_file_and_its_log_are_private(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def open_and_look() -> list[int]:
        store = SqliteStore.open(path)
        await store.create(f"/{store.current_revision()}", b"")
        found = modes(tmp_path)
        await store.close()
        return found

    mask = os.umask(0)
    try:
        assert asyncio.run(open_and_look()) == [0o600, 0o600]
        path.chmod(0o644)
        assert asyncio.run(open_and_look()) == [0o600, 0o600]
    finally:
        os.umask(mask)


def test_a_commit_waits_for_the_log_to_be_synced(tmp_path: Path) -> None:
    """By SQLite's documentation: WAL with synchronous = FULL (2) syncs the log after each transaction."""
    journal = Journal.open(tmp_path / "state.db")
    run = journal._connection.execute
    assert run("PRAGMA journal_mode").fetchone() == ("wal",)
    assert run("PRAGMA synchronous").fetchone() == (2,)
    journal.close()


def test_compaction_frees_rows(written: Path) -> None:
    with sqlite3.connect(written) as connection:
        rows = connection.execute("SELECT revision FROM event").fetchall()
    connection.close()
    replaced_by_35 = {2, 5, 8, 11}
    assert {revision for (revision,) in rows} == set(range(2, 44)) - replaced_by_35


def test_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"Dear diary, " * 1000)
    assert "restore a backup" in refusal(path, CorruptDatabase)
    assert path.read_bytes() == b"Dear diary, " * 1000


def test_somebody_elses_database(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipe (name)")
    connection.close()
    before = path.read_bytes()
    assert "choose another file" in refusal(path, CorruptDatabase)
    assert path.read_bytes() == before


def test_a_newer_format(tmp_path: Path, written: Path) -> None:
    path = Path(shutil.copy(written, tmp_path))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    assert "upgrade Portway" in refusal(path, NewerSchema)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM event WHERE revision = 36",
        "UPDATE event SET value = x'00' WHERE revision = 3",
        "UPDATE event SET value = 1 WHERE revision = 3",
        "UPDATE event SET key = CAST(x'ff' AS TEXT) WHERE revision = 3",
        "UPDATE event SET revision = 1000 WHERE revision = 36",
        "UPDATE state SET compacted = 36",
        "DELETE FROM state",
        "DROP TABLE event",
        "ALTER TABLE event RENAME COLUMN key TO keys",
        f"PRAGMA user_version = {SCHEMA_VERSION - 1}",
    ],
)
def test_a_file_that_contradicts_itself(tmp_path: Path, written: Path, statement: str) -> None:
    path = Path(shutil.copy(written, tmp_path))
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    refusal(path, CorruptDatabase)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_decay_is_noticed_or_harmless(written: Path, data: st.DataObject) -> None:
    """Whatever bits flip: the answer is an error that says so, or every byte that was stored."""
    expected = read_all(written)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(shutil.copy(written, directory))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            found = read_all(path)
        except StoreUnavailable as error:
            message = str(error)
            assert message.startswith(f"{path}: ") and "\n" not in message  # noqa: PT018
        else:
            assert found == expected


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 5) | st.integers(1, 5000) | st.integers(5000, 20_000))
@example(511)
@example(512)
@example(4096)
def test_truncation_is_noticed(written: Path, length: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(shutil.copy(written, directory))
        assert length < path.stat().st_size
        os.truncate(path, length)
        refusal(path, CorruptDatabase)


@pytest.mark.parametrize("name", ["missing/state.db", "file/state.db", "directory"])
def test_no_such_place(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    assert "choose another" in refusal(tmp_path / name, StoreUnavailable)


@pytest.mark.parametrize("existing", [False, True])
def test_an_unwritable_directory(written: Path, existing: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if existing:
            shutil.copy(written, directory / "state.db")
        directory.chmod(0o555)
        me = os.geteuid()
        try:
            if me == 0:
                os.seteuid(NOBODY)
            message = refusal(directory / "state.db", StoreUnavailable)
        finally:
            os.seteuid(me)
            directory.chmod(0o700)
    assert "writable" in message


def test_a_file_in_use(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def clash() -> None:
        store = SqliteStore.open(path)
        await store.create("/a", b"")
        assert "another process" in refusal(path, StoreUnavailable)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        program = "import sys; from portway.storage import SqliteStore; SqliteStore.open(sys.argv[1])"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, path, env=environment, stderr=subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert b"another process" in errors
        await store.create("/b", b"")
        await store.close()

    asyncio.run(clash())
    reopened = SqliteStore.open(path)
    assert reopened.current_revision() == 3
    asyncio.run(reopened.close())


async def attempt(writing: Coroutine[Any, Any, int]) -> int | None:
    """The write's revision; None without room for it."""
    try:
        return await writing
    except StoreFull:
        return None


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path, big = tmp_path / "state.db", b"x" * 20_000

    async def fill() -> list[KeyValue]:
        store = SqliteStore.open(path, max_bytes=200_000)
        watch = store.watch("", 1)
        results = [await attempt(store.create(f"/{number}", big)) for number in range(12)]
        count = results.index(None)
        assert count > 5
        with pytest.raises(StoreFull, match="free some space") as caught:
            await store.create("/more", big)
        assert str(caught.value).startswith(f"{path}: ")
        assert store.current_revision() == count + 1
        assert [(await anext(watch)).kv.key for _ in range(count)] == [f"/{number}" for number in range(count)]
        # There is room for what is small, even beside what is not.
        mixed = (store.create(f"/s{number}", b"" if number % 2 else big) for number in range(8))
        results = await asyncio.gather(*(attempt(creating) for creating in mixed))
        assert results == [None, count + 2, None, count + 3, None, count + 4, None, count + 5]
        # The way out: delete, compact, and the room can be used again.
        await store.delete("/0")
        await store.compact(await store.create("/small", b""))
        await store.create("/0", big)
        items = (await store.list("")).items
        await store.close()
        return items

    items = asyncio.run(fill())
    reopened = SqliteStore.open(path)
    assert asyncio.run(reopened.list("")).items == items
    asyncio.run(reopened.close())


def test_a_disk_that_refuses_stops_the_writing(tmp_path: Path) -> None:
    """The kernel refuses to let the log grow: not "full" by SQLite's account, so the medium is in doubt."""
    path = tmp_path / "state.db"

    async def refuse() -> int:
        store = SqliteStore.open(path)
        revision = await store.create("/a", b"")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "state.db-wal").stat().st_size + 5000, hard))
        try:
            with pytest.raises(StoreUnavailable, match="start again") as caught:
                await store.create("/b", b"x" * 100_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert type(caught.value) is MediumFailed
        with pytest.raises(StoreUnavailable, match="start again"):
            await store.create("/c", b"")
        assert (await store.list("")).items == [KeyValue("/a", b"", revision, revision)]
        await store.close()
        return revision

    revision = asyncio.run(refuse())
    reopened = SqliteStore.open(path)
    assert asyncio.run(reopened.list("")).items == [KeyValue("/a", b"", revision, revision)]
    assert asyncio.run(reopened.create("/b", b"")) == revision + 1
    asyncio.run(reopened.close())


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.0, 1.0))
def test_a_torn_log_is_a_shorter_history(torn: tuple[Path, list[Event]], share: float) -> None:
    """What a crash cut off the end of the log is missing from the end of history, and nowhere else."""
    source, events = torn

    async def read(path: Path) -> list[Event]:
        store = SqliteStore.open(path)
        try:
            watch = store.watch("", 1)
            return [await anext(watch) for _ in range(store.current_revision() - 1)]
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as directory:
        for file in source.parent.glob("state.db*"):
            shutil.copy(file, directory)
        log = Path(directory) / "state.db-wal"
        os.truncate(log, int(log.stat().st_size * share))
        found = asyncio.run(read(Path(directory) / "state.db"))
    assert found == events[: len(found)]
    assert share < 1.0 or found == events


@pytest.fixture(scope="module")
def torn() -> Iterator[tuple[Path, list[Event]]]:
    """Files as a crash leaves them: the log not folded in. With the events that are in it."""

    async def write(path: Path) -> list[Event]:
        store = SqliteStore.open(path / "live.db")
        for number in range(20):
            await store.create(f"/{number}", b"%d" % number * 2000)
        watch = store.watch("", 1)
        events = [await anext(watch) for _ in range(20)]
        for suffix in ("", "-wal"):
            # Not within this process: closing a file there would drop the locks SQLite holds on it.
            copying = await asyncio.create_subprocess_exec("cp", path / f"live.db{suffix}", path / f"state.db{suffix}")
            assert await copying.wait() == 0
        await store.close()
        return events

    with tempfile.TemporaryDirectory() as directory:
        events = asyncio.run(write(Path(directory)))
        yield Path(directory) / "state.db", events
