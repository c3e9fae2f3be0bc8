"""Revisioned keys with watch: the one place where the embedded cluster's state lives.

A store maps string keys to bytes. Every write gets the next revision of one counter over all keys; readers can ask
for the state at a revision and follow the changes after it. What the bytes mean is the API server's affair.

    protocol.py   what every store offers: `Store`, `Watch` and the values they hand out
    errors.py     the exception tree
    writes.py     create, update, delete as values, and the compare-and-swap decision (pure)
    keyspace.py   current state and retained history in memory (pure)
    watches.py    who follows which prefix
    local.py      reads and watches over a keyspace, shared by both stores
    memory.py     `MemoryStore`: a keyspace and nothing else, for tests and throw-away clusters
    sqlite.py     `SqliteStore`: the same keyspace, and a file that says it first
    journal.py    what is in the SQLite file: schema, checks, rows
    medium.py     the file as such: access, and SQLite's errors in our words
    writer.py     the thread that owns the file and commits writes in groups

    etcd.py       `EtcdStore`: a keyspace that follows an etcd; imported by name, for it needs portway[etcd]
    etcdmirror.py, etcdload.py, etcdwriter.py    following, loading, one write
    etcdclient.py, etcderrors.py, etcdmessages.py, etcdlayout.py, etcdsettings.py    etcd's API, and where it is
    coalesced.py  one question for many callers
"""

from portway.storage.errors import (
    Compacted,
    CorruptDatabase,
    FutureRevision,
    InvalidKey,
    KeyExists,
    KeyMissing,
    MediumFailed,
    NewerSchema,
    OutcomeUnknown,
    RevisionMismatch,
    StorageError,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
    ValueTooLarge,
    WatchLagged,
)
from portway.storage.memory import MemoryStore
from portway.storage.protocol import Event, EventType, KeyValue, Page, Store, Watch
from portway.storage.sqlite import SqliteStore

__all__ = [
    "Compacted",
    "CorruptDatabase",
    "Event",
    "EventType",
    "FutureRevision",
    "InvalidKey",
    "KeyExists",
    "KeyMissing",
    "KeyValue",
    "MediumFailed",
    "MemoryStore",
    "NewerSchema",
    "OutcomeUnknown",
    "Page",
    "RevisionMismatch",
    "SqliteStore",
    "StorageError",
    "Store",
    "StoreClosed",
    "StoreFull",
    "StoreUnavailable",
    "ValueTooLarge",
    "Watch",
    "WatchLagged",
]
