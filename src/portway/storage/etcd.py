"""A store on etcd 3.4 or later, which several processes may share. Needs the extra `portway[etcd]`.

Reads come from memory, as those of the other stores do (`etcdmirror.py`). A write is one transaction (`etcdwriter.py`);
its number is etcd's revision, and it is acknowledged when the quorum has it and this process sees it. etcd being out
of reach ends nothing: calls raise `StoreUnavailable` meanwhile.
"""

from __future__ import annotations

import asyncio

import grpc

from portway.storage.errors import FutureRevision, KeyMissing, RevisionMismatch, StoreFull, StoreUnavailable
from portway.storage.etcdclient import EtcdClient
from portway.storage.etcderrors import COMPACTED, words_of
from portway.storage.etcdlayout import Layout
from portway.storage.etcdload import load
from portway.storage.etcdmessages import message
from portway.storage.etcdmirror import EtcdMirror
from portway.storage.etcdsettings import EtcdSettings
from portway.storage.etcdwriter import TXN, EtcdWriter
from portway.storage.keyspace import Keyspace
from portway.storage.protocol import KeyValue
from portway.storage.watches import DEFAULT_BUFFER
from portway.storage.writes import Create, Delete, Update, Write, check_key

_COMPACT = "/etcdserverpb.KV/Compact"


class EtcdStore(EtcdMirror):
    """A `Store` in etcd. Made by `open`; must be closed."""

    def __init__(self, client: EtcdClient, layout: Layout, keyspace: Keyspace, watch_buffer: int) -> None:
        super().__init__(client, layout, keyspace, watch_buffer)
        self._writer = EtcdWriter(client, layout, lambda: self._keyspace, self._synchronise)
        self._under_way: set[asyncio.Task[KeyValue]] = set()
        self._turn_seen = 0

    @classmethod
    async def open(cls, settings: EtcdSettings, *, watch_buffer: int = DEFAULT_BUFFER) -> EtcdStore:
        """Connect and load everything below the prefix.

        Raises `StoreUnavailable`, in one line with the way out, when that cannot be done within some seconds.
        """
        client = EtcdClient(settings)
        layout = Layout(settings.prefix)
        try:
            keyspace = await load(client, layout)
        except BaseException:
            await client.close()
            raise
        return cls(client, layout, keyspace, watch_buffer)

    async def create(self, key: str, value: bytes) -> int:
        """See `Store.create`. Raises `OutcomeUnknown`, `ValueTooLarge` too."""
        check_key(key)
        return (await self._write(Create(key, value), 0)).mod_revision

    async def update(self, key: str, value: bytes, expected_revision: int) -> int:
        """See `Store.update`. Raises `OutcomeUnknown`, `ValueTooLarge` too."""
        if expected_revision <= 0:
            raise RevisionMismatch(key, expected_revision, await self.get(key))
        return (await self._write(Update(key, value, expected_revision), expected_revision)).mod_revision

    async def delete(self, key: str, expected_revision: int = 0) -> KeyValue:
        """See `Store.delete`. Raises `OutcomeUnknown` too."""
        if expected_revision > 0:
            return await self._write(Delete(key, expected_revision), expected_revision)
        while (found := await self.get(key)) is not None:
            try:
                return await self._write(Delete(key), found.mod_revision)
            except RevisionMismatch:
                continue
        raise KeyMissing(key)

    async def compact(self, revision: int) -> None:
        """See `Store.compact`. All of etcd is compacted, whoever uses it: it has no history of a part."""
        if revision <= self._now().compacted:
            return
        await self.latest_revision()
        if revision > self._keyspace.revision:
            raise FutureRevision(self._keyspace.revision)
        try:
            await self._client.call(_COMPACT, message("CompactionRequest", revision=revision))
        except grpc.aio.AioRpcError as error:
            if words_of(error) != COMPACTED:
                raise StoreUnavailable(f"etcd at {self._client.address}: {words_of(error)}") from error
        self._keyspace.compact(revision)

    async def compact_in_turn(self, revision: int) -> None:
        """See `Store.compact_in_turn`: whoever puts a key that nobody has put since its last look has the turn.

        So no clocks are compared, and one that dies is relieved after an interval. As kube-apiserver does it
        (compact_rev_key).
        """
        if await self._my_turn():
            await self.compact(revision)
        else:
            self._now().compact(revision)

    async def close(self) -> None:
        """See `Store.close`. Takes as long as writes to an etcd that is gone are waited for."""
        self._closed = True
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)
        self._watches.close()
        await self._client.close()

    async def _write(self, write: Write, expected: int) -> KeyValue:
        """A task of its own, so that a caller who goes away leaves nothing half done."""
        self._now()
        task = asyncio.create_task(self._written(write, expected), name=f"write {write.key}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _written(self, write: Write, expected: int) -> KeyValue:
        kv = await self._writer.write(write, expected)
        try:
            await self._reach(kv.mod_revision)
        except StoreUnavailable:
            pass  # it is written all the same; whoever reads next will wait for it
        return kv

    async def _my_turn(self) -> bool:
        try:
            answer = await self._client.call(TXN, self._layout.turn(self._turn_seen), harmless=False)
        except StoreFull:
            return True  # compacting is what makes room
        if answer.succeeded:
            self._turn_seen = answer.header.revision
        else:
            found = answer.responses[0].response_range.kvs
            self._turn_seen = found[0].mod_revision if found else 0
        return bool(answer.succeeded)
