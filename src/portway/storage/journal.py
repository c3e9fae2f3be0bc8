"""The SQLite file: one row per write, and how far history has been compacted. Synchronous; one thread at a time.

    event   revision, key, value (NULL: deleted), create_revision, checksum
    state   one row: the revision history is compacted to, checksum

The rows with the highest revision per key are the current state, the others are history; nothing is stored twice and a
write touches the end of one B-tree. Rows up to the compacted revision that a later one replaced are swept out in small
steps; a crash between the steps leaves rows that the next opening finds and sweeps.

Durability: WAL with synchronous=FULL, so a commit returns after the log has been synced. The file is locked for as long
as it is open, because the store answers reads from memory and must be the only writer. SQLite checks the structure of
its pages but not the bytes of a value: hence a checksum per row, verified at opening.

`writer.py` writes through this; `sqlite.py` opens it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.storage.errors import CorruptDatabase, NewerSchema, StoreUnavailable
from portway.storage.keyspace import Keyspace
from portway.storage.medium import damaged, make_private, translated
from portway.storage.protocol import Event, KeyValue
from portway.storage.writes import Change

APPLICATION_ID = 0x506F7277
"""In the file's header, so that `file` and we can tell it from other SQLite databases."""

SCHEMA_VERSION = 1

_BUSY_SECONDS = 1.0
"""How long to wait for a predecessor that is on its way out."""

_TABLES = {
    "event": """CREATE TABLE event (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB,
    create_revision INTEGER NOT NULL, checksum INTEGER NOT NULL)""",
    "state": """CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), compacted INTEGER NOT NULL,
    checksum INTEGER NOT NULL)""",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an opened file held: the keyspace, and the revisions of rows that compaction has yet to sweep."""

    keyspace: Keyspace
    garbage: list[int]


class Journal:
    """An open file. Every method raises `StoreUnavailable` or a subclass when SQLite refuses."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._rows_to_come: list[object] = []

    @classmethod
    def open(cls, path: Path, max_bytes: int = 0) -> Journal:
        """Open or make the file (mode 0600), lock it and check its format; `max_bytes` limits its size (0: no limit).

        The directory must exist. Blocks for a moment when another process holds the file.
        """
        path = path.absolute()
        make_private(path)
        with translated(path):
            connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        journal = cls(path, connection)
        try:
            with translated(path):
                journal._prepare(max_bytes)
        except StoreUnavailable:
            connection.close()
            raise
        return journal

    def load(self) -> Loaded:
        """Read everything back, checking each row. Raises `CorruptDatabase` when the file contradicts itself."""
        with translated(self.path):
            (verdict,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict != "ok":
                raise damaged(self.path, verdict)
            compacted = self._compacted()
            state, garbage = self._load_state(compacted)
            keyspace = Keyspace(state, compacted)
            self._load_history(keyspace)
        return Loaded(keyspace, garbage)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on the medium when the block is left without an error."""
        with translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
                self._write_rows()
                self._connection.execute("COMMIT")
            finally:
                self._rows_to_come.clear()
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def append(self, change: Change) -> None:
        """Write a change down, within a transaction; it is made at the end of that, with the others."""
        kv = change.event.kv
        value = None if change.after is None else kv.value
        row = (kv.mod_revision, kv.key, value, kv.create_revision)
        self._rows_to_come += (*row, _checksum(*row))

    def _write_rows(self) -> None:
        """In one statement: after each, this thread waits for the interpreter, up to 5 ms when the loop is busy."""
        if self._rows_to_come:
            rows = ", ".join(["(?, ?, ?, ?, ?)"] * (len(self._rows_to_come) // 5))
            self._connection.execute(f"INSERT INTO event VALUES {rows}", self._rows_to_come)  # noqa: S608 - nothing but marks

    def compact(self, revision: int) -> None:
        """Note that history up to the revision is no longer kept, within a transaction. `sweep` frees the room."""
        self._connection.execute(
            "UPDATE state SET compacted = ?1, checksum = ?2 WHERE compacted < ?1", (revision, _checksum(revision))
        )

    def adopt(self, revision: int, items: Iterable[KeyValue]) -> None:
        """Hold a state that another store had at `revision`, in a file that holds nothing yet."""
        rows = ((kv.mod_revision, kv.key, kv.value, kv.create_revision) for kv in items)
        with self.transaction():
            self._connection.executemany(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?)", ((*row, _checksum(*row)) for row in rows)
            )
            self.compact(revision)

    def sweep(self, revisions: Iterable[int]) -> None:
        """Delete rows that nothing needs any more, within a transaction.

        In the order of `unneeded_rows`: were a deletion's row gone before those it hides, the key would come back.
        """
        self._connection.executemany("DELETE FROM event WHERE revision = ?", ((revision,) for revision in revisions))

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        with translated(self.path):
            self._connection.close()

    def _prepare(self, max_bytes: int) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        fresh = self._is_fresh()
        (mode,) = run("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailable(f"{self.path}: cannot keep a write-ahead log here: choose a local file system")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA trusted_schema = OFF")
        if max_bytes:
            (page_size,) = run("PRAGMA page_size").fetchone()
            run(f"PRAGMA max_page_count = {max(max_bytes // page_size, 1)}")
        run("BEGIN IMMEDIATE")
        if fresh:
            for statement in _TABLES.values():
                run(statement)
            run(f"PRAGMA application_id = {APPLICATION_ID}")
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
            run("INSERT INTO state VALUES (1, 0, ?)", (_checksum(0),))
        run("COMMIT")

    def _is_fresh(self) -> bool:
        """Whether there is nothing in the file yet; refuses what is not ours before anything is changed."""
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        tables = self._connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
        ).fetchall()
        if (application, version, tables) == (0, 0, []):
            return True
        if application != APPLICATION_ID:
            raise CorruptDatabase(f"{self.path}: a database, but not one of Portway's: choose another file")
        if version > SCHEMA_VERSION:
            raise NewerSchema(
                f"{self.path}: written by a newer Portway (file format {version}, this one knows {SCHEMA_VERSION}):"
                " upgrade Portway, or choose another file"
            )
        if version != SCHEMA_VERSION:
            raise damaged(self.path, f"file format {version} was never used")
        if tables != [("table", name, name, sql) for name, sql in _TABLES.items()]:
            raise damaged(self.path, "its tables are not those that were made")
        return False

    def _compacted(self) -> int:
        rows = self._connection.execute("SELECT compacted, checksum FROM state").fetchall()
        if len(rows) != 1 or rows[0][1] != _checksum(rows[0][0]):
            raise damaged(self.path, "the compacted revision is unreadable")
        return int(rows[0][0])

    def _load_state(self, compacted: int) -> tuple[dict[str, KeyValue], list[int]]:
        """The keys at the compacted revision, and the rows up to it that no key needs."""
        state: dict[str, KeyValue] = {}
        garbage: list[int] = []
        for revision, key, value, create_revision in self._rows("revision <= ?", compacted):
            replaced = state.pop(key, None)
            if replaced is not None:
                garbage.append(replaced.mod_revision)
            if value is None:
                garbage.append(revision)
            else:
                state[key] = KeyValue(key, value, create_revision, revision)
        return state, garbage

    def _load_history(self, keyspace: Keyspace) -> None:
        for revision, key, value, create_revision in self._rows("revision > ?", keyspace.compacted):
            before = keyspace.get(key)
            if create_revision != (before.create_revision if before else revision):
                raise damaged(self.path, f"revision {revision} does not fit what was before")
            if value is not None:
                event = Event(
                    "PUT",
                    KeyValue(key, value, create_revision, revision),
                    before.value if before else None,
                    before is None,
                )
            elif before is not None:
                event = Event("DELETE", KeyValue(key, before.value, create_revision, revision), before.value, False)
            else:
                raise damaged(self.path, f"revision {revision} deletes what was not there")
            try:
                keyspace.apply(Change(event, before))
            except ValueError as error:
                raise damaged(self.path, str(error)) from error

    def _rows(self, condition: str, revision: int) -> Iterator[tuple[int, str, bytes | None, int]]:
        query = f"SELECT revision, key, value, create_revision, checksum FROM event WHERE {condition} ORDER BY revision"  # noqa: S608 - two fixed conditions
        for *row, checksum in self._connection.execute(query, (revision,)):
            if _checksum(*row) != checksum:
                raise damaged(self.path, f"revision {row[0]} is not what was written")
            yield row[0], row[1], row[2], row[3]


def unneeded_rows(forgotten: Iterable[Change]) -> list[int]:
    """The revisions of the rows that nothing needs once these changes are no longer kept, oldest first per key."""
    rows: list[int] = []
    for change in forgotten:
        if change.before is not None:
            rows.append(change.before.mod_revision)
        if change.after is None:
            rows.append(change.event.revision)
    return rows


def _checksum(*fields: object) -> int:
    """Tells a changed row from the written one; against decay, not against attackers."""
    total = 0
    for field in fields:
        data = field if isinstance(field, bytes) else repr(field).encode()
        total = zlib.crc32(data, total)
    return total
