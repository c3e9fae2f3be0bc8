"""One write to etcd, brought to a certain end, or to an honest `OutcomeUnknown`.

A write is one transaction: if the key is at the expected mod_revision, put or delete it, and note who wrote
(`etcdlayout.py`). When the connection breaks over it, it may or may not have happened, or may yet happen. It is then
looked up by its token in the key's history. An update or a deletion that isn't found may be sent again, because only
one of the two can find the key at the expected revision. A creation may not, for another may have deleted the key in
between; and while a key is not there, or is somebody else's, nobody can say that ours won't come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from portway.storage.errors import (
    Compacted,
    KeyExists,
    KeyMissing,
    OutcomeUnknown,
    RevisionMismatch,
    StoreFull,
    StoreUnavailable,
)
from portway.storage.etcdclient import PATIENCE, EtcdClient
from portway.storage.etcdlayout import Layout
from portway.storage.etcdload import RANGE
from portway.storage.etcdmessages import message
from portway.storage.keyspace import Keyspace
from portway.storage.protocol import KeyValue
from portway.storage.writes import Create, Delete, Write

TXN = "/etcdserverpb.KV/Txn"


class EtcdWriter:
    """Writes through `client`; looks at `keyspace` (brought up to date by `sync`) when the outcome isn't known."""

    def __init__(
        self, client: EtcdClient, layout: Layout, keyspace: Callable[[], Keyspace], sync: Callable[[], Any]
    ) -> None:
        self._client = client
        self._layout = layout
        self._keyspace = keyspace
        self._sync = sync

    async def write(self, write: Write, expected: int) -> KeyValue:
        """The key as it was written; of a deletion, the last value at the deletion's revision.

        Raises `KeyExists`, `KeyMissing`, `RevisionMismatch`, and `StoreUnavailable` or a subclass.
        """
        token, since = self._layout.token(), self._keyspace().revision
        try:
            return await self._send(write, expected, token)
        except OutcomeUnknown as lost:
            return await self._resolve(write, expected, token, since, lost)
        except StoreFull:
            if not isinstance(write, Delete):
                raise
            return await self._send(write, expected, b"")

    async def _send(self, write: Write, expected: int, token: bytes) -> KeyValue:
        request = self._layout.transaction(write, expected, token)
        answer = await self._client.call(TXN, request, harmless=False)
        if not answer.succeeded:
            found = answer.responses[0].response_range.kvs
            raise refusal(write, self._layout.known(found[0]) if found else None)
        revision = answer.header.revision
        if isinstance(write, Delete):
            gone = answer.responses[0].response_delete_range.prev_kvs[0]
            return KeyValue(write.key, gone.value, gone.create_revision, revision)
        return KeyValue(write.key, write.value, 0, revision)

    async def _resolve(self, write: Write, expected: int, token: bytes, since: int, lost: OutcomeUnknown) -> KeyValue:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                await self._sync()
                found = await self._found(write.key, token, since)
                if found is not None:
                    return found
                current = self._keyspace().get(write.key)
                if isinstance(write, Create):
                    break
                if current is None or current.mod_revision != expected:
                    raise refusal(write, current)
                return await self._send(write, expected, token)
            except (RevisionMismatch, KeyMissing):
                if (found := await self._late(write.key, token, since, lost)) is not None:
                    return found
                raise
            except OutcomeUnknown:
                continue
            except StoreUnavailable as error:
                raise lost from error
        raise lost

    async def _late(self, key: str, token: bytes, since: int, lost: OutcomeUnknown) -> KeyValue | None:
        """The key as we left it: ours may be the write that the second one lost against."""
        try:
            await self._sync()
            return await self._found(key, token, since)
        except StoreUnavailable as error:
            raise lost from error

    async def _found(self, key: str, token: bytes, since: int) -> KeyValue | None:
        """The key as the write with this token left it, if that happened after `since`."""
        try:
            events = self._keyspace().events_after(key, since)
        except Compacted as error:
            raise OutcomeUnknown(str(error)) from error
        for event in events:
            if event.kv.key == key and await self._token_at(event.revision) == token:
                return event.kv
        return None

    async def _token_at(self, revision: int) -> bytes:
        try:
            answer = await self._client.call(RANGE, message("RangeRequest", key=self._layout.last, revision=revision))
        except grpc.aio.AioRpcError as error:
            raise StoreUnavailable(f"revision {revision} cannot be looked up any more") from error
        found = answer.kvs
        return bytes(found[0].value) if found and found[0].mod_revision == revision else b""


def refusal(write: Write, current: KeyValue | None) -> KeyExists | KeyMissing | RevisionMismatch:
    """Why the write cannot be, with the key as it is."""
    if isinstance(write, Create) and current is not None:
        return KeyExists(current)
    if isinstance(write, Delete) and current is None:
        return KeyMissing(write.key)
    expected = 0 if isinstance(write, Create) else write.expected_revision
    return RevisionMismatch(write.key, expected, current)
