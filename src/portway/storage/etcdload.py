"""What is in an etcd below our prefix: the state at a revision in pages, and the changes after it, as a keyspace.

A load begins at the oldest revision whose history etcd still has (`HISTORY` revisions back at most), so that what was
asked of the store before a restart can be asked afterwards. `etcdmirror.py` keeps the keyspace up to date.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from portway.storage.errors import StoreUnavailable
from portway.storage.etcdclient import EtcdClient
from portway.storage.etcderrors import COMPACTED, words_of
from portway.storage.etcdlayout import Layout
from portway.storage.etcdmessages import DELETE, message
from portway.storage.keyspace import Keyspace
from portway.storage.protocol import Event, KeyValue
from portway.storage.writes import Change

RANGE = "/etcdserverpb.KV/Range"
HISTORY = 50_000
"""Revisions that a load goes back at most, whoever wrote them."""
_PAGE_BYTES = 4 * 1024 * 1024
_FIRST_PAGE = 200
_LARGEST_PAGE = 10_000


class HistoryGoneError(Exception):
    """etcd no longer has the changes that were to be read; begin at `compacted` or later."""

    def __init__(self, compacted: int) -> None:
        super().__init__(f"compacted at {compacted}")
        self.compacted = compacted


class StrangerError(Exception):
    """A change that does not follow from what came before: another writes below our prefix, or events are missing."""


async def last_write(client: EtcdClient, layout: Layout) -> tuple[int, int]:
    """The revision of the last write below our prefix (0: not known), and etcd's own; a quorum's word."""
    answer = await client.call(RANGE, message("RangeRequest", key=layout.last))
    return (answer.kvs[0].mod_revision if answer.kvs else 0), answer.header.revision


async def load(client: EtcdClient, layout: Layout) -> Keyspace:
    """The keyspace as it is now, with its history; without, when strangers have written what doesn't fit into one."""
    history = HISTORY
    while True:
        try:
            start = await _oldest(client, layout, history)
            keyspace = Keyspace(await _state(client, layout, start) if start else {}, start, gaps=True)
            await _catch_up(client, layout, keyspace)
            return keyspace
        except HistoryGoneError:
            continue  # somebody has compacted meanwhile
        except StrangerError:
            history = 0
        except grpc.aio.AioRpcError as error:
            if words_of(error) != COMPACTED:
                raise StoreUnavailable(f"etcd at {client.address}: {words_of(error)}") from error


async def _oldest(client: EtcdClient, layout: Layout, history: int) -> int:
    """The revision to begin at, at most `history` back; 0 when all of it is there."""
    _, current = await last_write(client, layout)
    compacted = 0
    try:
        await client.call(RANGE, message("RangeRequest", key=layout.last, revision=1))
    except grpc.aio.AioRpcError as error:
        if words_of(error) != COMPACTED:
            raise
        compacted = await _compacted(client, layout)
    return max(compacted, current - history)


async def _compacted(client: EtcdClient, layout: Layout) -> int:
    """The revision etcd was compacted at: only the refusal of a watch tells it."""
    async with client.watch(key=layout.compaction, start_revision=1) as answers:
        async for answer in answers:
            if answer.compact_revision:
                return int(answer.compact_revision)
    raise StoreUnavailable(f"etcd at {client.address} ended a watch without a word")


async def _state(client: EtcdClient, layout: Layout, revision: int) -> dict[str, KeyValue]:
    """Every key at the revision. Pages are of about the same size, however large the values are."""
    state: dict[str, KeyValue] = {}
    key, limit = layout.data, _FIRST_PAGE
    while True:
        wanted = message("RangeRequest", key=key, range_end=layout.data_end, revision=revision, limit=limit)
        page = await client.call(RANGE, wanted)
        for found in page.kvs:
            if layout.is_ours(found.key):
                known = layout.known(found)
                state[known.key] = known
        if not page.more:
            return state
        key = page.kvs[-1].key + b"\0"
        each = max(page.ByteSize() // len(page.kvs), 1)
        limit = min(max(_PAGE_BYTES // each, 1), _LARGEST_PAGE)


async def _catch_up(client: EtcdClient, layout: Layout, keyspace: Keyspace) -> None:
    """Take in the changes since the state, up to now."""
    written, now = await last_write(client, layout)
    if written > keyspace.revision:
        async with aclosing(changes(client, layout, keyspace.revision)) as batches:
            async for batch in batches:
                for event in batch:
                    keyspace.apply(change_of(layout, keyspace, event))
                if keyspace.revision >= written:
                    break
    keyspace.advance(now)


async def changes(client: EtcdClient, layout: Layout, after: int) -> AsyncGenerator[list[Any], None]:
    """etcd's events below our prefix after a revision, in batches that end with a whole revision; an empty one first.

    Ends with `StoreUnavailable` when the connection does. Raises `HistoryGoneError`.
    """
    wanted = {"key": layout.data, "range_end": layout.data_end, "start_revision": after + 1, "fragment": True}
    async with client.watch(**wanted) as answers:
        batch: list[Any] = []
        async for answer in answers:
            if answer.compact_revision:
                raise HistoryGoneError(answer.compact_revision)
            if answer.canceled:
                raise StoreUnavailable(f"etcd at {client.address} ended the watch: {answer.cancel_reason}")
            batch += [event for event in answer.events if layout.is_ours(event.kv.key)]
            if not answer.fragment:
                yield batch
                batch = []
    raise StoreUnavailable(f"etcd at {client.address} closed the connection")


def change_of(layout: Layout, keyspace: Keyspace, event: Any) -> Change:
    """One event as a change of the keyspace; raises `StrangerError` when it does not follow."""
    key = layout.name(event.kv.key)
    before, revision = keyspace.get(key), event.kv.mod_revision
    if revision <= keyspace.revision:
        raise StrangerError(f"{key} changed at revision {revision}, after revision {keyspace.revision} was told")
    if event.type == DELETE:
        if before is None:
            raise StrangerError(f"{key} was deleted at revision {revision}, and was not there")
        kv = KeyValue(key, before.value, before.create_revision, revision)
        return Change(Event("DELETE", kv, before.value, False), before)
    kv = KeyValue(key, event.kv.value, event.kv.create_revision, revision)
    if kv.create_revision != (before.create_revision if before else revision):
        raise StrangerError(f"{key} at revision {revision} does not follow from what was before")
    return Change(Event("PUT", kv, before.value if before else None, before is None), before)
