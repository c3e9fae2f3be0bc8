"""Which keys of an etcd are ours, and what they mean. Pure.

    PREFIX/data…             the store's keys, as they are ("/registry/core/…")
    PREFIX/meta/last         put by every write beside its key: who wrote, and as its how manyeth
    PREFIX/meta/compaction   put by the server whose turn it was to compact

`last` answers two questions that etcd has no cheap answer to: up to which revision a follower must have come to have
seen every write below our prefix (its mod_revision, whatever else is written to the same etcd), and whether it was our
write that happened at a revision (its value there).
"""

from __future__ import annotations

import secrets
from itertools import count
from typing import Any

from portway.storage.etcdmessages import EQUAL, MOD, message
from portway.storage.protocol import KeyValue
from portway.storage.writes import Delete, Write


class Layout:
    """The keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.data = f"{prefix}/data".encode()
        self.data_end = self.data[:-1] + bytes([self.data[-1] + 1])
        self.last = f"{prefix}/meta/last".encode()
        self.compaction = f"{prefix}/meta/compaction".encode()
        self._writer = secrets.token_hex(8)
        self._count = count(1)

    def key(self, key: str) -> bytes:
        """etcd's name of a key."""
        return self.data + key.encode()

    def is_ours(self, key: bytes) -> bool:
        """Whether a key below our prefix can have been put there by a store. What strangers left is not looked at."""
        try:
            return bool(self.name(key))
        except UnicodeDecodeError:
            return False

    def name(self, key: bytes) -> str:
        """A key's name in the store, of one that is ours."""
        return key[len(self.data) :].decode()

    def known(self, found: Any) -> KeyValue:
        """A key as etcd answers it."""
        return KeyValue(self.name(found.key), found.value, found.create_revision, found.mod_revision)

    def token(self) -> bytes:
        """Names one write among all writes of all servers."""
        return f"{self._writer}/{next(self._count)}".encode()

    def transaction(self, write: Write, expected: int, token: bytes) -> Any:
        """The write if the key's mod_revision is the expected one (0: there is no such key), else the key as it is.

        Without a token a deletion takes `last` away with it: an etcd that is full refuses every put.
        """
        key = self.key(write.key)
        if isinstance(write, Delete):
            deletion = message("DeleteRangeRequest", key=key, prev_kv=True)
            operations = [message("RequestOp", request_delete_range=deletion)]
        else:
            put = message("PutRequest", key=key, value=write.value)
            operations = [message("RequestOp", request_put=put)]
        if token:
            last = message("RequestOp", request_put=message("PutRequest", key=self.last, value=token))
        else:
            last = message("RequestOp", request_delete_range=message("DeleteRangeRequest", key=self.last))
        return conditional(key, expected, [*operations, last])

    def nothing(self) -> Any:
        """A write that only moves the revision on, as a transaction."""
        put = message("PutRequest", key=self.last, value=self.token())
        return message("TxnRequest", success=[message("RequestOp", request_put=put)])

    def turn(self, seen: int) -> Any:
        """Take the turn to compact, unless somebody has since `seen`."""
        put = message("RequestOp", request_put=message("PutRequest", key=self.compaction))
        return conditional(self.compaction, seen, [put])


def conditional(key: bytes, expected: int, operations: list[Any]) -> Any:
    """A transaction: the operations if the key's mod_revision is the expected one, else the key as it is."""
    compare = message("Compare", result=EQUAL, target=MOD, key=key, mod_revision=expected)
    look = message("RequestOp", request_range=message("RangeRequest", key=key))
    return message("TxnRequest", compare=[compare], success=operations, failure=[look])
